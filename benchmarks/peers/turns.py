"""Programs of the same work, all warm, one call of each in turn, so that each pair of calls sees
the same machine."""

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from peers import meter
from peers.work import Work

FOLDER = pathlib.Path(__file__).resolve().parent.parent
THREADS = str(len(os.sched_getaffinity(0)))


class Side(NamedTuple):
    """A program. module: of `peers`; python: what runs it; path: its PYTHONPATH; packages: their
    versions, in words."""

    name: str
    module: str
    python: str
    path: str = ""
    packages: str = ""

    def command(self, module: str, *words: str) -> tuple[list[str], dict[str, str]]:
        """What runs a module of `peers` for this side, and in which environment."""
        environment = os.environ | {
            "PYTHONPATH": self.path,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", THREADS),
            "HF_HUB_OFFLINE": "1",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several programs share an accelerator
        }
        return [self.python, "-m", f"peers.{module}", *words], environment


class Started(NamedTuple):
    """A program that is warm. value: what its first call gave; device: what it ran on."""

    side: Side
    process: subprocess.Popen
    value: float
    device: str


def _read(name: str, process: subprocess.Popen) -> dict[str, Any]:
    line = process.stdout.readline()
    if line:
        return json.loads(line)
    if process.wait() == -signal.SIGKILL:
        raise SystemExit(f"{name} was killed, as the system does where memory ends")
    raise SystemExit(f"{name} has ended: its message is above")


def start(side: Side, work: Work) -> Started:
    """Starts a program and waits until it is warm."""
    words, environment = side.command(side.module, work.to_json())
    process = subprocess.Popen(
        words,
        cwd=FOLDER,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Started(side, process, **_read(side.name, process))


def take(sides: Sequence[Side], work: Work, rounds: int) -> dict[str, list[meter.Used]]:
    """What each round's call of each program took, by the side's name.

    Prints every program's first value: they do the same work where these agree.
    """
    found: dict[str, list[meter.Used]] = {side.name: [] for side in sides}
    with contextlib.ExitStack() as stack:
        started = []
        for side in sides:
            started.append(start(side, work))
            stack.callback(_end, started[-1].process)
            setting = dict(of=side.name, device=started[-1].device, packages=side.packages)
            meter.figure("first_value", started[-1].value, "", 7, **setting)
        for turn in range(rounds):
            for program in started if turn % 2 == 0 else started[::-1]:
                program.process.stdin.write("\n")
                program.process.stdin.flush()
                used = meter.Used(**_read(program.side.name, program.process))
                found[program.side.name].append(used)
                told = f"{program.side.name}, round {turn + 1}: {used.processor:.2f} s of processor"
                print(f"{told}, {used.wall:.2f} s, {used.peak:.2f} GiB", file=sys.stderr)
    return found


def _end(process: subprocess.Popen) -> None:
    process.stdin.close()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


def report(name: str, found: dict[str, list[meter.Used]], **setting: object) -> None:
    """Prints medians and peaks of all sides, and the first one's ratios to the others.

    A ratio of seconds is the median of the rounds' ratios.
    """
    median = lambda used, field: statistics.median(getattr(u, field) for u in used)
    peak = lambda used: max(u.peak for u in used)
    first, *others = found
    for side, used in found.items():
        for field in ("processor", "wall"):
            meter.figure(f"{name}.{field}", median(used, field), "s", of=side, **setting)
        meter.figure(f"{name}.peak", peak(used), "GiB", of=side, **setting)
    for other in others:
        beside = dict(of=first, to=other, **setting)
        for field in ("processor", "wall"):
            pairs = zip(found[first], found[other], strict=True)
            ratios = [getattr(a, field) / getattr(b, field) for a, b in pairs]
            meter.figure(f"{name}.{field}", statistics.median(ratios), "ratio", **beside)
        meter.figure(f"{name}.peak", peak(found[first]) / peak(found[other]), "ratio", **beside)
