"""A run's metrics, answers and alarms on their way to trackers; see docs/logging.md.

    loggers = Loggers(config, workdir, run)
    loggers.begin(lines)             those of before, which a tracker may lack
    loggers.write(step, values)

Each tracker has a thread, so that no network can hold up training. One that fails is told once
and left; metrics.jsonl has everything anyway, and the next start brings the tracker up to date.

loggers.json in the workdir has, for each tracker, the id of its run and the last step it was given:
a restart continues there, and sends no step twice.
"""

import dataclasses
import importlib.util
import json
import math
import pathlib
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.files import is_remote, write_atomically
from sar_jax.training.own import trackers as own_trackers
from sar_jax.training.reporting import trackers as trackers_lib
from sar_jax.training.reporting.trackers import TRACKERS, Begun, Table, Tracker
from sar_jax.training.storage import workdir as workdir_lib

NAME = "loggers.json"
_ANSWERS = 32  # of a table
_SOON, _WAIT = 5.0, 90.0  # seconds for what is on its way at the end; the first in silence
_WAITING = 10_000  # calls that may be on their way
_COLUMNS = (
    "question", "answer", "truth", "verdict", "correct", "length", "reward", "reward/self_aligned",
    "ppl_conditional", "ppl_standalone", "mean_value", "token_values",
)  # fmt: skip


class Mark(NamedTuple):
    """What loggers.json keeps of a tracker.

    id        of its run
    step      the last one it has, -1 for none
    workdir   which the run was in then
    """

    id: str | None
    step: int
    workdir: str


def check(config: config_lib.TrainConfig) -> None:
    """Raises `UserError` where a tracker that was asked for cannot be used."""
    for name in _asked(config):
        if name not in TRACKERS:
            own_trackers.load(name)
        elif importlib.util.find_spec(name) is None:
            raise UserError(
                f"config.logging.to names {name}, which is not installed: pip install "
                f"'sar_jax[{name}]'"
            )
    if "wandb" in _asked(config):
        _check_login()


def _check_login() -> None:
    """wandb would ask at a terminal, and wait for the answer."""
    import wandb

    if wandb.setup().settings.mode not in ("online", "shared"):
        return
    try:
        known = wandb.login(prompt=False)
    except (
        Exception
    ):  # there is one; the network fails, or it is wrong, which the run's thread says
        return
    if not known:
        raise UserError(
            "config.logging.to names wandb, which has no login: run `wandb login`, or set "
            "WANDB_API_KEY, or WANDB_MODE=offline"
        )


def _asked(config: config_lib.TrainConfig) -> list[str]:
    return [name for name in trackers_lib.named(config.logging.to) if name != "tensorboard"]


class Loggers:
    """All trackers of a run; no method raises or waits, but `close` waits a while."""

    def __init__(
        self,
        config: config_lib.TrainConfig,
        workdir: epath.Path,
        run: str,
        trackers: Mapping[str, Callable[[], Tracker]] = TRACKERS,
    ):
        """run: the run's id."""
        self.workdir, self.path = workdir, workdir / NAME
        self.lock = threading.Lock()
        self.marks = _read(self.path)
        settings = workdir_lib.leaves(dataclasses.asdict(config))
        folder = None if is_remote(workdir) else pathlib.Path(workdir).absolute()
        self.finished = False
        self.senders = []
        for name in _asked(config):
            known = self.marks.get(name)
            if known is not None and _is_copy(known, workdir, run):
                print(
                    f"{workdir} is a copy of {known.workdir}: it begins a run of its own in {name}",
                    flush=True,
                )
                known, own = Mark(None, -1, ""), uuid.uuid4().hex
            else:
                own = run
            mark = known or Mark(None, -1, "")
            if mark.id is None and name != "mlflow":  # which gives ids itself
                mark = mark._replace(id=own if name == "wandb" else f"{workdir.name}-{own[:8]}")
            begun = Begun(
                mark.id,
                known is not None and known.id is not None,
                config.logging.project,
                workdir.name,
                settings,
                folder,
            )
            made = trackers[name]() if name in trackers else own_trackers.OwnTracker(name)
            self.senders.append(_Sender(name, made, begun, mark.step, self._note))

    def begin(self, lines: Sequence[Mapping[str, float]]) -> None:
        """Starts. lines: of metrics.jsonl, of which each tracker is sent what it lacks."""
        for sender in self.senders:
            sender.start(lines)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for sender in self.senders:
            sender.put("write", step, dict(values))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a step that has been written without them."""
        for sender in self.senders:
            sender.put("write", step, dict(values), late=True)

    def answers(self, step: int, kind: str, records: Sequence[Mapping[str, Any]]) -> None:
        """The first answers as a table. kind: "step", or "eval" of an evaluation."""
        if self.senders and records:
            made = table(records[:_ANSWERS])
            for sender in self.senders:
                sender.put("answers", step, f"samples/{kind}", made)

    def alert(self, step: int, text: str) -> None:
        for sender in self.senders:
            sender.put("alert", step, text)

    def close(self) -> None:
        for sender in self.senders:
            sender.end(self.finished)
        end = time.monotonic() + _WAIT
        for sender in self.senders:
            sender.wait(end)

    def _note(self, name: str, id: str, step: int) -> None:
        """Called by the threads."""
        with self.lock:
            self.marks[name] = Mark(id, step, str(self.workdir))
            found = {name: mark._asdict() for name, mark in self.marks.items()}
            write_atomically(self.path, json.dumps(found, indent=2) + "\n")


def table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Answers as rows. mean_value, token_values: v of the answer and of its tokens, in nats."""
    with_mean = []
    for record in records:
        gap = math.nan
        if "ppl_standalone" in record:
            gap = math.log(record["ppl_standalone"]) - math.log(record["ppl_conditional"])
        with_mean.append({**record, "mean_value": gap})
    columns = [name for name in _COLUMNS if name in with_mean[0]]
    if math.isnan(with_mean[0]["mean_value"]):
        columns.remove("mean_value")
    # of an evaluation some answers alone have values
    value = lambda record, name: [] if record[name] is None else record[name]
    return Table(columns, [[value(record, name) for name in columns] for record in with_mean])


def _read(path: epath.Path) -> dict[str, Mark]:
    """What is there; a damaged file is as good as none: trackers begin new runs."""
    try:
        found = json.loads(path.read_text())
        made = {name: Mark(**fields) for name, fields in found.items()}
        sound = all(isinstance(m.step, int) and isinstance(m.workdir, str) for m in made.values())
        return made if sound else {}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _is_copy(mark: Mark, workdir: epath.Path, run: str) -> bool:
    """Is the run of this id also where it was at its last start, and that is not here?"""
    there = epath.Path(mark.workdir)
    try:
        if not mark.workdir or there.resolve() == workdir.resolve():
            return False
        return workdir_lib.facts(there).run == run and (there / "config.json").is_file()
    except (OSError, UserError):
        return False


class _Sender:
    """One tracker and its thread."""

    def __init__(
        self,
        name: str,
        tracker: Tracker,
        begun: Begun,
        step: int,
        note: Callable[[str, str, int], None],
    ):
        """A sender.

        step   the last one that the tracker has
        note   is told of the run's id there, and of each step that it was given
        """
        self.name, self.tracker, self.begun, self.note = name, tracker, begun, note
        self.step = self.known = step
        self.calls: queue.Queue[Any] = queue.Queue(_WAITING)
        self.failed = False
        self.thread = threading.Thread(target=self._run, name=f"log to {name}", daemon=True)

    def start(self, lines: Sequence[Mapping[str, float]]) -> None:
        self.lines = lines
        self.thread.start()

    def put(self, method: str, step: int, *arguments: Any, late: bool = False) -> None:
        """Of a step that the tracker has from an earlier start only what is late is sent."""
        if self.failed:
            return
        try:
            self.calls.put_nowait((method, step, arguments, late))
        except queue.Full:
            self._fail("it does not keep up")

    def end(self, finished: bool) -> None:
        self.put("close", 0, finished, late=True)

    def wait(self, end: float) -> None:
        """Until what is on its way has arrived, or until `end` of the monotonic clock."""
        if self.failed or not self.thread.ident:
            return
        self.thread.join(_SOON)
        left = end - time.monotonic()
        if self.thread.is_alive() and left > 0:
            print(f"waiting for {self.name}, for {left:.0f} s at most", flush=True)
            self.thread.join(left)
        if self.thread.is_alive():
            self._fail(f"no answer for {_WAIT:g} s")

    def _run(self) -> None:
        try:
            self._open()
            method = ""
            while method != "close":
                method, step, arguments, late = self.calls.get()
                if self.failed:
                    return
                if late or step > self.known:
                    self._send(method, step, arguments)
        except Exception as error:  # of all kinds: no network, no rights, a full disk
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._fail(lines[0][:300])

    def _open(self) -> None:
        self.id, place = self.tracker.open(self.begun)
        if self.id != self.begun.id:  # it has nothing of the run
            self.step = self.known = -1
        self.note(self.name, self.id, self.step)
        print(f"logging to {self.name}: {place}", flush=True)
        for line in self.lines:
            if line["step"] > self.step:
                values = {name: value for name, value in line.items() if name != "step"}
                self._send("write", int(line["step"]), (values,))

    def _send(self, method: str, step: int, arguments: Sequence[Any]) -> None:
        if method == "close":
            self.tracker.close(*arguments)
            return
        getattr(self.tracker, method)(step, *arguments)
        if method == "write" and step > self.step:
            self.step = step
            self.note(self.name, self.id, step)

    def _fail(self, why: str) -> None:
        if not self.failed:
            self.failed = True
            print(
                f"warning: logging to {self.name} has ended ({why}); the run goes on, and "
                "metrics.jsonl has everything",
                flush=True,
            )
