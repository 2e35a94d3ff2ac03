"""Who of a run's processes still lives; the others end with a line that names who does not.

    each process   leaves a sign of life in the coordinator's store every few seconds, and looks for
                   those of all others
    whoever        misses one, or ends by an error of its own, leaves a notice
    each process   waits for a notice; it prints the first one, and ends

Process 0 holds the store: where that is gone, process 0 is. JAX notices the same, but later, or it
aborts with a stack trace that names nobody. So an abort waits a moment, in which this is quicker.
The thread that aborts is the one that would bring answers from the store; so a sign that is not
taken is a reason to see whether somebody still listens there.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping

import jax
from jax._src import distributed

from sar_jax.errors import UserError
from sar_jax.parallel import messages

_LIFE, _NOTICE = "sar_jax/life/", "sar_jax/notice"
_OFTEN = 2.0  # seconds between signs of life, at most
_LONG = 2e6  # seconds, about what the store can wait
GONE = 75  # exit status where another process has gone: the same command may well succeed
RESUME = "the run cannot continue without it: start the same command again on all of them to resume"


class Watch:
    """Of process `own` of `count`; one that is silent for `timeout` seconds has ended."""

    def __init__(self, count: int, own: int, timeout: float):
        self._count, self._own, self._timeout = count, own, timeout
        self._every = min(timeout / 8, _OFTEN)
        self._said = threading.Lock()  # whoever has it prints the last line of this process
        self._asked: float | None = None  # when the store was asked for what it has not answered
        # of each process its last sign, and when that was new
        self._seen = {process: ("", time.monotonic()) for process in range(count)}

    def start(self) -> None:
        """From now on, until the interpreter ends."""
        _delay_aborts()
        atexit.register(self.claim)  # an end as it should be: whoever leaves now is not missed
        for task in (self._live, self._listen, self._guard):
            threading.Thread(target=task, daemon=True).start()

    def claim(self) -> bool:
        """True once: for who may print the last line of this process and end it."""
        return self._said.acquire(blocking=False)

    def notify(self, line: str, status: int) -> None:
        """Tells all others why the run ends, and the exit status to end with."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # somebody else has, or it is gone
            messages.leave(_NOTICE, [line, status])

    def missing(self, wait: float) -> int | None:
        """A process that gives no sign of life within `wait` seconds; None where all do."""
        end, first = time.monotonic() + wait, None
        while True:
            try:
                signs = dict(distributed.global_state.client.key_value_dir_get(_LIFE))
            except jax.errors.JaxRuntimeError:
                return 0
            first = first or signs
            others = [p for p in range(self._count) if p != self._own]
            same = [p for p in others if signs.get(f"{_LIFE}{p}") == first.get(f"{_LIFE}{p}")]
            if not same or time.monotonic() > end:
                return same[0] if same else None
            time.sleep(0.2)

    def silent(self, signs: Mapping[str, str], now: float) -> list[int]:
        """The processes without a new sign for too long.

        signs   the last one of each process that has given any, by its key in the store
        now     seconds, of a clock that only goes forward
        """
        for process, (last, _) in list(self._seen.items()):
            sign = signs.get(f"{_LIFE}{process}", "")
            if sign != last:
                self._seen[process] = sign, now
        return [p for p, (_, when) in sorted(self._seen.items()) if now - when > self._timeout]

    def _live(self) -> None:
        store, number = distributed.global_state.client, 0
        while True:
            number += 1
            self._asked = time.monotonic()
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # `_listen` hears of it
                store.key_value_set(f"{_LIFE}{self._own}", str(number), allow_overwrite=True)
                signs = dict(store.key_value_dir_get(_LIFE))
                silent = self.silent(signs, time.monotonic())
                if silent:
                    line = self.gone(silent[0], f"no sign of life for {self._timeout:g} s")
                    self.notify(line, GONE)
                    time.sleep(1)  # in which the others read it; process 0 takes the store along
                    self._end(line)
            self._asked = None
            time.sleep(self._every)

    def _listen(self) -> None:
        while True:
            try:
                self._end(*messages.read(_NOTICE, _LONG))
            except UserError:  # of a stranger
                time.sleep(self._every)
            except messages.Absent as absent:
                if not str(absent).startswith("DEADLINE_EXCEEDED"):
                    self._end(self.gone(0, str(absent)))

    def _guard(self) -> None:
        host, _, port = distributed.global_state.coordinator_address.rpartition(":")
        late = 0  # times in a row: this process may have been stopped itself
        while True:
            time.sleep(1)
            asked = self._asked
            if asked is None or time.monotonic() - asked < 1:
                late = 0
                continue
            late += time.monotonic() - asked > self._timeout
            if late > 2:
                self._end(self.gone(0, f"no answer for {self._timeout:g} s"))
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
            except ConnectionRefusedError as error:
                self._end(self.gone(0, str(error.strerror)))
            except OSError:
                pass  # slow, or not told

    def gone(self, process: int, reason: str) -> str:
        return f"process {process} of {self._count} has ended ({reason}); {RESUME}"

    def _end(self, line: str, status: int = GONE) -> None:
        """Ends this process, unless it is ending already."""
        if not self.claim():
            threading.Event().wait()
        screen = os.dup(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # XLA, which hears of it too, has many lines
        os.write(screen, f"\nerror: {line}\n".encode())
        flushing = threading.Thread(target=sys.stdout.flush, daemon=True)
        flushing.start()
        flushing.join(1)  # another thread may hold it
        os._exit(status)


def _delay_aborts() -> None:
    """An abort, as JAX ends a process whose peer has gone, comes six seconds late.

    The handler is libc's own `sleep`, which gets the signal's number: no Python runs in it, and
    other threads go on.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
