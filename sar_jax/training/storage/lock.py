"""One run writes to a workdir at a time.

    on a file system   a record lock of the system on the file `lock`; it ends with its process
    in a bucket        a lease: an object that its owner renews; one that is not renewed is over

The file says who: host, process, time. Of several processes of a run the first one holds it.
"""

import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from typing import Any

from etils import epath

from sar_jax.errors import UserError
from sar_jax.files import is_remote, naming

_BEAT = 15.0  # seconds between two renewals of a lease
_OVER = 3 * _BEAT  # seconds after which a lease that was not renewed is over
_SETTLED = 1.0  # seconds in which two that take a lease at once see each other


class Lock:
    """The right to write to a workdir, from `take` to `release` or the end of the process."""

    def __init__(self, workdir: epath.Path, beat: float = _BEAT):
        self.workdir, self.beat = workdir, beat
        self.path = workdir / "lock"
        self.file: Any = None  # on a file system, while it is held
        self.own: str | None = None  # in a bucket, while it is held
        self.ended = threading.Event()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: Any) -> None:
        self.release()

    def take(self) -> None:
        """Raises `UserError` that names the owner where another process has it."""
        if self.file is not None or self.own is not None:
            return
        if is_remote(self.workdir):
            self._take_lease()
        else:
            self._take_file()

    def _take_file(self) -> None:
        file = open(self.path, "a+")
        try:
            # not flock: a forked worker would hold that after its parent has ended
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                owner = file.read()
                file.close()
                raise self._taken(owner) from None
            # a file system without locks: say so, and go on
            print(f"warning: {self.path} cannot be locked ({error.strerror})", flush=True)
        if not self.path.exists() or os.stat(self.path).st_ino != os.fstat(file.fileno()).st_ino:
            file.close()  # its owner has just released it, which takes it away
            return self._take_file()
        with naming(self.path):
            file.truncate(0)
            file.write(json.dumps(_owner()) + "\n")
            file.flush()
        self.file = file

    def _take_lease(self) -> None:
        there = self._read()
        if there and not _has_ended(there):
            print(f"{self._words(there)}: is it still at work?", flush=True)
            end = time.monotonic() + _OVER / _BEAT * self.beat
            while time.monotonic() < end:
                time.sleep(min(1.0, self.beat))
                if self._read() != there:
                    raise self._taken(json.dumps(self._read() or there))
        own = uuid.uuid4().hex
        self._write(own)
        time.sleep(min(_SETTLED, self.beat))
        there = self._read() or {}
        if there.get("lease") != own:
            raise self._taken(json.dumps(there))
        self.own = own
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        while not self.ended.wait(self.beat):
            try:
                self._write(self.own)
            except Exception:  # the bucket is away: the next renewal may come through
                continue

    def _write(self, own: str | None) -> None:
        self.path.write_text(json.dumps({**_owner(), "lease": own}) + "\n")

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _taken(self, owner: str) -> UserError:
        try:
            there = json.loads(owner)
        except ValueError:
            there = {}
        return UserError(
            f"{self._words(there)}: two runs cannot write to one workdir. Wait for it to end, or "
            "choose another --workdir"
        )

    def _words(self, there: dict[str, Any]) -> str:
        """Who has it."""
        return (
            f"{self.workdir} is in use by process {there.get('process', '?')} on "
            f"{there.get('host', '?')} (since {there.get('since', '?')})"
        )

    def release(self) -> None:
        """Lets others have it."""
        if self.file is not None:
            self.path.unlink(missing_ok=True)
            self.file.close()
            self.file = None
        if self.own is not None:
            self.ended.set()
            if (self._read() or {}).get("lease") == self.own:
                self.path.unlink(missing_ok=True)
            self.own = None


_SINCE = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _owner() -> dict[str, Any]:
    """This process. renewed: differs each time."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": _SINCE,
        "renewed": time.time(),
    }


def _has_ended(there: dict[str, Any]) -> bool:
    """Was the owner a process of this machine that is no longer there?"""
    process = there.get("process")
    if there.get("host") != socket.gethostname() or not isinstance(process, int):
        return False
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
