"""A run from Python: `sar_jax.train`.

The same run as the command's, in this process: its workdir, its messages, its checkpoints. What it
changes in the process, the signal handlers, is as before when it returns.
"""

import contextlib
import copy
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from etils import epath

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.parallel import backend
from sar_jax.training import loop, stopping
from sar_jax.training.api import calls
from sar_jax.training.api import policy as policy_lib
from sar_jax.training.settings import checks
from sar_jax.training.storage import workdir as workdir_lib

OnStep = Callable[[int, dict[str, float]], object]
_running = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has ended, or was stopped.

    workdir   its folder
    step      the last one, which is saved
    metrics   of each step, as metrics.jsonl has them; of step 0 the evaluation alone
    """

    workdir: epath.Path
    step: int
    metrics: list[dict[str, float]] = dataclasses.field(repr=False)

    def load(self, step: int | None = None) -> policy_lib.Policy:
        """The policy of a checkpoint, by default the last. Raises `UserError` without one."""
        return policy_lib.load(self.workdir, step=step)


def train(
    config: TrainConfig,
    workdir: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    *,
    extend: bool = False,
) -> Run:
    """Trains, in this process. Called with the workdir of a run that was stopped, continues it.

    config    of the run
    workdir   its folder; by default a new one below runs/
    on_step   is called after each step with its number, from 1, and its metrics. Where it returns
              False, the run stops and is saved; so it is where it raises, and then raises that
    extend    more steps than the run was begun with, although a schedule follows them

    Ctrl-C, SIGTERM and SIGHUP stop the run too, and come again when it is saved: the first ends
    in KeyboardInterrupt. A second Ctrl-C stops at once. In a thread other than the main one, no
    signal is heard. Raises `UserError` for what is wrong with the config, files or devices.
    """
    again = "call sar_jax.train with the same config and workdir='{}'"
    control = stopping.Control(on_step, again)
    try:
        folder = _train(config, workdir, control, extend)
        if control.error is not None:
            raise control.error
    finally:  # also where the run has failed meanwhile
        if control.heard is not None:
            sys.stdout.flush()  # it may end the process
            signal.raise_signal(control.heard)
    metrics = workdir_lib.read_metrics(folder)
    step = max((int(line["step"]) for line in metrics), default=0)
    return Run(folder, step, metrics)


@calls.one_line
def _train(
    config: TrainConfig,
    workdir: str | os.PathLike[str] | None,
    control: stopping.Control,
    extend: bool,
) -> epath.Path:
    """Checks, and the run; returns its workdir."""
    if control.on_step is not None and not callable(control.on_step):
        raise UserError(f"on_step is {control.on_step!r:.60}: give a function of step and metrics")
    config = copy.deepcopy(config)
    checks.check(config)
    backend.open_backend()
    if jax.process_count() > 1:
        raise UserError(
            f"this run has {jax.process_count()} processes: start `python -m sar_jax.train` on "
            "each of them"
        )
    folder = _workdir(workdir)
    with _alone(), stopping.handlers_kept():
        loop.run(config, folder, extend, control)
    return folder


def _workdir(given: str | os.PathLike[str] | None) -> epath.Path:
    if given is not None:
        return epath.Path(os.path.expanduser(os.fspath(given)))
    name = f"runs/{time.strftime('%Y%m%d-%H%M%S')}"
    found, number = epath.Path(name), 1
    while found.exists():  # two short runs within a second
        number += 1
        found = epath.Path(f"{name}-{number}")
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Raises `UserError` where another thread trains: the lock of a workdir is of a process."""
    if not _running.acquire(blocking=False):
        raise UserError("another run goes on in this process: wait for it to end")
    try:
        yield
    finally:
        _running.release()
