"""What a run leaves for people: metrics.jsonl, answers as parquet, profiles.

What goes to TensorBoard and other trackers goes through here. Process 0 writes.
"""

import contextlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from sar_jax.files import is_remote, persistently, write_atomically
from sar_jax.training.minibatches import Minibatch
from sar_jax.training.reporting import board as board_lib
from sar_jax.training.reporting.loggers import Loggers
from sar_jax.training.storage import workdir as workdir_lib


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

    Nothing can be appended to a file in a bucket: there metrics.jsonl is rewritten each time.
    """

    def __init__(
        self,
        workdir: epath.Path,
        resumed_step: int | None,
        writes: bool = True,
        patience: float = 0,
        board: bool = True,
        loggers: Loggers | None = None,
    ):
        """Of a workdir.

        patience   seconds for which a write is tried again (`files.persistently`)
        board      are there events for TensorBoard?
        loggers    trackers that get the same
        """
        self.writes, self.remote = writes, is_remote(workdir)
        self.board, self.loggers = None, None
        self.patience = patience
        self.path, self.samples = workdir / "metrics.jsonl", workdir / "samples"
        if not writes:
            return
        self.samples.mkdir(exist_ok=True)
        kept = [] if resumed_step is None else self._kept(resumed_step)
        self.lines = [workdir_lib.as_line(line.pop("step"), line) for line in kept]
        write_atomically(self.path, "".join(self.lines))
        self.size = self.path.stat().length  # bytes of whole lines
        persistently = self._persistently
        self.board = board_lib.Board(workdir, resumed_step, persistently) if board else None
        self.loggers = loggers
        if loggers:
            loggers.begin([json.loads(line) for line in self.lines])

    def write(self, step: int, values: dict[str, float], lengths: Sequence[int] = ()) -> None:
        """Writes a step's metrics. lengths: of its answers, as a histogram for TensorBoard."""
        if not self.writes:
            return
        self.lines.append(workdir_lib.as_line(step, values))
        self._persistently(self._write_line)
        if self.board:
            self.board.write(step, values, lengths)
        if self.loggers:
            self.loggers.write(step, values)

    def replace_last(self, step: int, values: dict[str, float]) -> None:
        """The last step's line, written anew."""
        if not self.writes:
            return
        before = json.loads(self.lines[-1])
        self.lines[-1] = workdir_lib.as_line(step, values)
        self._persistently(lambda: write_atomically(self.path, "".join(self.lines)))
        self.size = self.path.stat().length
        if self.board:
            self.board.write(step, values)
        if self.loggers:
            self.loggers.add(step, {n: v for n, v in values.items() if n not in before})

    def alert(self, step: int, text: str) -> None:
        """Tells trackers of an alarm."""
        if self.loggers:
            self.loggers.alert(step, text)

    def write_samples(
        self, step: int, samples: list[dict[str, Any]], kind: str = "step"
    ) -> epath.Path:
        path = self.samples / f"{kind}_{step:06d}.parquet"
        if self.writes:
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(samples), buffer)
            self._persistently(lambda: path.write_bytes(buffer.getvalue()))
        if self.loggers:
            self.loggers.answers(step, kind, samples)
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

    def finish(self) -> None:
        """The run has had all of its steps."""
        if self.loggers:
            self.loggers.finished = True

    def close(self) -> None:
        if self.board:
            self.board.close()
        if self.loggers:
            self.loggers.close()


def _arrays(batch: Any) -> Iterator[tuple[str, np.ndarray]]:
    for path, value in jax.tree_util.tree_leaves_with_path(batch):
        yield jax.tree_util.keystr(path, simple=True, separator="."), np.asarray(value)
