"""Two thousand steps: what a run holds of the host does not grow."""

import pathlib
import statistics
import time

import pytest
from support.commands import PATIENCE, start_in_background, wait_for
from support.training import small

pytestmark = pytest.mark.soak

_STEPS = 2000


def held(pid: int) -> dict[str, int]:
    """Resident memory in kB, threads and open files of a process."""
    process = pathlib.Path(f"/proc/{pid}")
    lines = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    files = len(list((process / "fd").iterdir()))
    return {
        "memory": int(lines["VmRSS"].split()[0]),
        "threads": int(lines["Threads"]),
        "files": files,
    }


def test_nothing_grows(tmp_path, record_property):
    """The medians of the fourth quarter are at most 2 % above those of the second; in the first
    one, caches fill."""
    workdir, printed = tmp_path / "run", tmp_path / "printed"
    options = small(
        f"steps={_STEPS}",
        "data.eval=arithmetic:8",
        "evaluation.every_steps=100",
        "checkpoint.every_steps=50",
        "checkpoint.keep=2",
    )
    process = start_in_background(
        "sar_jax.train", *options, f"--workdir={workdir}", output=printed, real=True
    )
    metrics = workdir / "metrics.jsonl"
    seen: dict[int, list[dict[str, int]]] = {1: [], 2: [], 3: [], 4: []}
    try:
        wait_for(metrics.is_file, process, printed)
        while process.poll() is None:
            done = metrics.read_bytes().count(b"\n") - 1
            if done < _STEPS:
                seen[max(done, 0) * 4 // _STEPS + 1].append(held(process.pid))
            time.sleep(1)
        assert process.wait(PATIENCE) == 0, printed.read_text()[-3000:]
    finally:
        process.kill()
    second, fourth = (
        {name: statistics.median(s[name] for s in seen[q]) for name in seen[q][0]} for q in (2, 4)
    )
    growth = {name: fourth[name] / second[name] - 1 for name in second}
    print(f"\n{_STEPS} steps: {second} -> {fourth}")
    assert all(by <= 0.02 for by in growth.values()), (second, fourth)
    record_property("soak", (f"{_STEPS} steps, memory, threads and files flat", 1, 1, 0, 0))
