"""Asked to stop: by a signal, by `on_step`, or by its error; what has begun is saved first."""

import contextlib
import dataclasses
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator

import numpy as np

from sar_jax.parallel import multihost

_STOPPING = (
    "stopping after this step and saving the run "
    "(press Ctrl-C again to stop at once without saving)"
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # which a run that has begun saves at


@dataclasses.dataclass
class Control:
    """Who may stop a run besides the user at the terminal, and what has stopped it.

    on_step   is called after each step with its number, from 1, and its metrics; False stops the
              run. None for nobody
    heard     the first of `SIGNALS` that came
    refused   `on_step` has returned False
    error     `on_step` has raised it
    again     how to continue, in words: {} is the workdir
    """

    on_step: Callable[[int, dict[str, float]], object] | None = None
    again: str = "run the same command with --workdir={}"
    heard: int | None = None
    refused: bool = False
    error: BaseException | None = None

    @property
    def stops(self) -> bool:
        return self.heard is not None or self.refused or self.error is not None

    def tell(self, step: int, metrics: dict[str, float]) -> bool:
        """Calls `on_step`; is the run to stop?"""
        if self.on_step is None:
            return False
        try:
            said = self.on_step(step, dict(metrics))
        except BaseException as error:
            if self.heard is not None and isinstance(error, KeyboardInterrupt):
                raise  # Ctrl-C after a signal: at once
            self.error = error
        else:
            self.refused = isinstance(said, bool | np.bool_) and not said
        return self.stops


class Stop:
    """Set by the first Ctrl-C, SIGTERM or SIGHUP, of any process; a second Ctrl-C ends at once.

    SIGHUP is what a terminal that closes sends, such as that of a lost ssh session; after `nohup`
    it stays ignored. Only the main thread hears signals.
    """

    def __init__(self, show: Callable[[str], bool], control: Control):
        """show: prints a text where a panel is, and says whether it did."""
        self.show, self.control = show, control
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._ask)

    def _ask(self, number, frame):
        self.control.heard = self.control.heard or number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number == signal.SIGHUP:
            self._leave_terminal()
        if number == signal.SIGHUP or not self.show(_STOPPING):
            with contextlib.suppress(OSError):
                os.write(2, f"\n{_STOPPING}\n".encode())

    def _leave_terminal(self) -> None:
        """Output to a terminal that is gone, or a pipe to what ended with it, goes nowhere.

        It would be an error, before anything is saved.
        """
        null = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.dup2(null, fd)
        os.close(null)

    def asked(self) -> bool:
        """The same answer on every process."""
        return any(multihost.gather(self.control.stops))


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """What `Stop` changes in the process is as before when the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that Python did not set cannot be set again
                signal.signal(number, handler)
