"""What a run leaves for people: metrics.jsonl, TensorBoard events, sampled answers as parquet, profiles. Process 0 writes."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import pyarrow as pa
import pyarrow.parquet as pq
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from sar_jax.checkpoint import read_metrics, write_atomically

# Dense bf16 peak, flop/s a device, as published by the vendors; MFU is reported where the device is known.
PEAK_FLOPS = {
    "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5": 459e12, "TPU v5p": 459e12, "TPU v6 lite": 918e12,
    "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12, "NVIDIA A100-SXM4-80GB": 312e12,
}


class CompileCounter:
    """Counts XLA compilations in this process; after the first step of a run there should be none."""

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
    """Records `steps` steps of a run with the XLA profiler, to profile/ of its workdir: the first two only compile."""

    def __init__(self, workdir: pathlib.Path, steps: int):
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
    """Appends to a workdir's files. A resumed run first drops the lines that were written after its checkpoint's step;
    samples of those steps are written again."""

    def __init__(self, workdir: pathlib.Path, resumed_step: int | None, writes: bool = True):
        self.writes = writes
        self.path, self.samples = workdir / "metrics.jsonl", workdir / "samples"
        if not writes:
            return
        self.samples.mkdir(exist_ok=True)
        if resumed_step is None:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            kept = [line for line in self.read() if line["step"] <= resumed_step]
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        # Events are written at once, not by tensorboardX's thread: that dies on a full disk, and training would hang.
        (workdir / "tensorboard").mkdir(exist_ok=True)
        self.board = EventsWriter(str(workdir / "tensorboard" / "events"))
        start = SessionLog(status=SessionLog.START)   # tells TensorBoard to forget what it has from this step on
        self.board.write_event(Event(step=(resumed_step or -1) + 1, session_log=start, wall_time=time.time()))

    def write(self, step: int, values: dict[str, float]) -> None:
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.write_event(Event(step=step, summary=scalar(name, value), wall_time=time.time()))
        self.board.flush()

    def write_samples(self, step: int, samples: list[dict[str, Any]], kind: str = "step") -> pathlib.Path:
        path = self.samples / f"{kind}_{step:06d}.parquet"
        if not self.writes:
            return path
        pq.write_table(pa.Table.from_pylist(samples), path)
        return path

    def read(self) -> list[dict[str, float]]:
        """All lines written so far."""
        return read_metrics(self.path.parent)

    def close(self) -> None:
        if self.writes:
            self.board.close()
