"""Files that are whole or not there, on this machine and in a bucket."""

import contextlib
import errno
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from sar_jax.errors import UserError

_LONGEST = 15.0  # seconds between two tries
# in the words of the system
_PASSING = tuple(
    os.strerror(number)
    for number in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
        errno.ESTALE,
    )
)


def write_atomically(path: pathlib.Path | epath.Path, text: str) -> None:
    """Writes a file that holds the old text or the new one, whatever happens meanwhile.

    In a bucket every write is like that.
    """
    if is_remote(path):
        path.write_text(text)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with naming(path):
            partial.write_text(text)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: pathlib.Path | epath.Path) -> Iterator[None]:
    """An `OSError` that names no file, as one of a write to a full disk, names this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def is_remote(path: str | pathlib.Path | epath.Path) -> bool:
    """Is it in a bucket (gs://...), where a file can be written whole, but not appended to?"""
    return "://" in str(path)


def persistently(write: Callable[[], Any], seconds: float, path: pathlib.Path | epath.Path) -> Any:
    """The result of `write`, which is tried again, for that many seconds, while its failure may
    pass: the disk is full, or the bucket that `path` is in is away.

    Raises what it raises the last time, a `UserError` or an `OSError`.
    """
    end, pause = time.monotonic() + seconds, 1.0
    while True:
        try:
            with naming(path):
                return write()
        except (UserError, OSError) as error:
            left = end - time.monotonic()
            if left <= 0 or not (is_remote(path) or _may_pass(error)):
                raise
            print(f"warning: {error}: trying again for {left:.0f} s", flush=True)
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST)


def _may_pass(error: Exception) -> bool:
    """Can it help to wait?"""
    return any(word in str(error) for word in _PASSING)
