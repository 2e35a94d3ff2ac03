"""What a run leaves for people: metrics.jsonl, TensorBoard events, answers as parquet, profiles.

Process 0 writes.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import histogram, scalar

from sar_jax.files import is_remote, persistently, write_atomically
from sar_jax.training import workdir as workdir_lib
from sar_jax.training.minibatches import Minibatch

_COPY_EVERY = 10


class CompileCounter:
    """Counts XLA compilations in this process; after a run's first step there should be none."""

    def __init__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, seconds: float, **_) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"

    def since_last(self) -> int:
        """Compilations since the previous call."""
        count, self.count = self.count, 0
        return count


class Profile:
    """Records steps of a run with the XLA profiler, to profile/ of its workdir.

    The first two are not among them: these only compile.
    """

    def __init__(self, workdir: epath.Path, steps: int):
        self.folder, self.left, self.seen, self.running = workdir / "profile", steps, 0, False

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        self.seen += 1
        if self.left and self.seen > 2 and not self.running:
            jax.profiler.start_trace(str(self.folder))
            self.running = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield
        if self.running:
            self.left -= 1
            if not self.left:
                jax.profiler.stop_trace()
                self.running = False


class Metrics:
    """Appends to a workdir's files; of several processes one writes.

    A resumed run first drops the lines that were written after its checkpoint's step; samples of
    those steps are written again.

    Nothing can be appended to a file in a bucket: there metrics.jsonl is rewritten each time, and
    TensorBoard's events go to a local file that is copied every `_COPY_EVERY` writes and at the
    end.
    """

    def __init__(
        self,
        workdir: epath.Path,
        resumed_step: int | None,
        writes: bool = True,
        patience: float = 0,
    ):
        """patience: seconds for which a write is tried again (`files.persistently`)."""
        self.writes, self.remote, self.unsaved = writes, is_remote(workdir), 0
        self.patience = patience
        self.path, self.samples = workdir / "metrics.jsonl", workdir / "samples"
        if not writes:
            return
        self.samples.mkdir(exist_ok=True)
        kept = [] if resumed_step is None else self._kept(resumed_step)
        self.lines = [workdir_lib.as_line(line.pop("step"), line) for line in kept]
        write_atomically(self.path, "".join(self.lines))
        self.size = self.path.stat().length  # bytes of whole lines
        # Events are written at once, not by tensorboardX's thread: that dies on a full disk, and
        # training would hang.
        (workdir / "tensorboard").mkdir(exist_ok=True)
        self.board_folder = workdir / "tensorboard"
        self.local = tempfile.mkdtemp() if self.remote else str(self.board_folder)
        self.board = EventsWriter(f"{self.local}/events")
        # tells TensorBoard to forget what it has from this step on
        start = SessionLog(status=SessionLog.START)
        first = (resumed_step or -1) + 1
        self.board.write_event(Event(step=first, session_log=start, wall_time=time.time()))

    def write(self, step: int, values: dict[str, float], lengths: Sequence[int] = ()) -> None:
        """Writes a step's metrics. lengths: of its answers, as a histogram for TensorBoard."""
        if not self.writes:
            return
        self.lines.append(workdir_lib.as_line(step, values))
        self._persistently(self._write_line)
        self._write_events(step, values, lengths)

    def replace_last(self, step: int, values: dict[str, float]) -> None:
        """The last step's line, written anew."""
        if not self.writes:
            return
        self.lines[-1] = workdir_lib.as_line(step, values)
        self._persistently(lambda: write_atomically(self.path, "".join(self.lines)))
        self.size = self.path.stat().length
        self._write_events(step, values)

    def _write_events(
        self, step: int, values: dict[str, float], lengths: Sequence[int] = ()
    ) -> None:
        for name, value in values.items():
            self.board.write_event(
                Event(step=step, summary=scalar(name, value), wall_time=time.time())
            )
        if lengths:
            drawn = histogram("completions/length", np.array(lengths), bins="auto")
            self.board.write_event(Event(step=step, summary=drawn, wall_time=time.time()))
        self._persistently(self.board.flush)
        self.unsaved += 1
        if self.unsaved == _COPY_EVERY:
            self._copy_events()

    def write_samples(
        self, step: int, samples: list[dict[str, Any]], kind: str = "step"
    ) -> epath.Path:
        path = self.samples / f"{kind}_{step:06d}.parquet"
        if self.writes:
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(samples), buffer)
            self._persistently(lambda: path.write_bytes(buffer.getvalue()))
        return path

    def write_batch(self, step: int, minibatches: Sequence[Minibatch]) -> epath.Path:
        """A step's mini-batches as arrays, for study: MINIBATCH/MICROBATCH/NAME in a .npz file."""
        path = self.path.parent / f"batch_{step:06d}.npz"
        named = {
            f"{i}/{j}/{name}": value
            for i, minibatch in enumerate(minibatches)
            for j, batch in enumerate(minibatch.microbatches)
            for name, value in _arrays(batch)
        }
        if self.writes:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **named)
            self._persistently(lambda: path.write_bytes(buffer.getvalue()))
        return path

    def read(self) -> list[dict[str, float]]:
        """All lines written so far."""
        return workdir_lib.read_metrics(self.path.parent)

    def _kept(self, step: int) -> list[dict[str, float]]:
        """The lines up to a step. Where one cannot be read, the file as it was is kept aside."""
        found, bad = workdir_lib.read_lines(self.path.parent)
        if bad:
            aside = self.path.with_name(f"metrics-{time.strftime('%Y%m%d-%H%M%S')}.damaged.jsonl")
            aside.write_bytes(self.path.read_bytes())
            numbers = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            print(
                f"warning: {self.path}: {len(bad)} line(s) cannot be read and are left out (line "
                f"{numbers}); the file as it was is now {aside}",
                flush=True,
            )
        return [line for line in found if line["step"] <= step]

    def _write_line(self) -> None:
        """The last line, after whole lines only: a try before may have left half of it."""
        if self.remote:
            self.path.write_text("".join(self.lines))
            return
        line = self.lines[-1].encode()
        with open(self.path, "r+b") as file:
            file.truncate(self.size)
            file.seek(self.size)
            file.write(line)
        self.size += len(line)

    def _persistently(self, write: Callable[[], Any]) -> None:
        persistently(write, self.patience, self.path)

    def _copy_events(self) -> None:
        if self.remote:
            for file in epath.Path(self.local).iterdir():
                (self.board_folder / file.name).write_bytes(file.read_bytes())
        self.unsaved = 0

    def close(self) -> None:
        if self.writes:
            self.board.close()
            self._copy_events()
            if self.remote:
                epath.Path(self.local).rmtree()


def _arrays(batch: Any) -> Iterator[tuple[str, np.ndarray]]:
    for path, value in jax.tree_util.tree_leaves_with_path(batch):
        yield jax.tree_util.keystr(path, simple=True, separator="."), np.asarray(value)
