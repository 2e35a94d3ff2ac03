"""What a call takes: processor seconds, seconds of wall clock, peak memory. Linux.

serve(call)     in a program: measures a call each time that a line is read
measured(call)  one call
figure(...)     prints one figure as one line of JSON
"""

import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO


class Used(NamedTuple):
    """wall, processor: seconds; the second of all threads, user and system. peak: GiB, of the
    whole process within the call, or of the accelerator where there is one. value: what the call
    returned."""

    wall: float
    processor: float
    peak: float
    value: float


class Accelerator(NamedTuple):
    """reset: forget the peak so far, where that is possible; peak: bytes."""

    reset: Callable[[], object]
    peak: Callable[[], int]


def of_jax(device: Any) -> Accelerator | None:
    """Of a JAX device; None of a CPU. Its peak is that since the process began."""
    if device.platform == "cpu":
        return None
    return Accelerator(lambda: None, lambda: device.memory_stats()["peak_bytes_in_use"])


def _resident_peak() -> float:
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 2**20


def _forget_peak() -> None:
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def measured(call: Callable[[], float], accelerator: Accelerator | None = None) -> Used:
    """One call. It returns a number once all of its work is done."""
    accelerator.reset() if accelerator else _forget_peak()
    wall, processor = time.perf_counter(), time.process_time()
    value = call()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = accelerator.peak() / 2**30 if accelerator else _resident_peak()
    return Used(wall, processor, peak, value)


def channel() -> TextIO:
    """The standard output, for figures alone: what else is printed goes to the standard error."""
    kept = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return kept


def serve(
    output: TextIO,
    call: Callable[[], float],
    warm_ups: int,
    device: str,
    accelerator: Accelerator | None = None,
) -> None:
    """Warms up and says the first call's value and what it ran on; then measures a call for each
    line of the input."""
    first = [call() for _ in range(warm_ups)][0]
    print(json.dumps({"value": first, "device": device}), file=output, flush=True)
    for _ in sys.stdin:
        used = measured(call, accelerator)
        print(json.dumps(used._asdict()), file=output, flush=True)


def figure(name: str, value: float, unit: str, digits: int = 4, **setting: Any) -> None:
    """Prints a figure. digits: that it is rounded to; setting: what it was measured on."""
    line = {"figure": name, "value": float(f"{value:.{digits}g}"), "unit": unit, **setting}
    print(json.dumps(line), flush=True)
