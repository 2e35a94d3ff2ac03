"""What a run leaves for people: metrics.jsonl, TensorBoard events, sampled answers as parquet. Process 0 writes."""

import json
import pathlib
from typing import Any

import jax
import pyarrow as pa
import pyarrow.parquet as pq
from tensorboardX import SummaryWriter

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


class Metrics:
    """Appends to a workdir's files. A resumed run first drops what was written after its checkpoint's step."""

    def __init__(self, workdir: pathlib.Path, resumed_step: int | None):
        self.path, self.samples = workdir / "metrics.jsonl", workdir / "samples"
        self.samples.mkdir(exist_ok=True)
        if resumed_step is None:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            kept = [line for line in self.path.read_text().splitlines() if json.loads(line)["step"] <= resumed_step]
            self.path.write_text("".join(line + "\n" for line in kept))
        purge = None if resumed_step is None else resumed_step + 1
        self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=purge, flush_secs=10)

    def write(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def write_samples(self, step: int, samples: list[dict[str, Any]], kind: str = "step") -> pathlib.Path:
        path = self.samples / f"{kind}_{step:06d}.parquet"
        pq.write_table(pa.Table.from_pylist(samples), path)
        return path

    def read(self) -> list[dict[str, float]]:
        """All lines written so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.is_file() else []

    def close(self) -> None:
        self.board.close()
