"""Where a step's time goes: a run of a config, by its jitted functions and the code between them.

    JAX_PLATFORMS=cpu python benchmarks/step.py [--config=configs/tiny.py] [--steps=5]

Every jitted function is waited for, so that its seconds are its own: on an accelerator the step is
slower than in a run, where the host works meanwhile. Prints one line of JSON a figure, means over
the steps after the first two, which compile: seconds and processor seconds of the step, each
function's share of both, `outside` of all of them (of the main thread alone for the processor),
and compilations after the second step. Without evaluation, checkpoints and trackers."""

import collections
import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from peers import meter
from peers import options as options_lib
from peers.with_sar_jax import override

import sar_jax
from sar_jax.rollout import slots
from sar_jax.training import assembly as assembly_lib
from sar_jax.training import setup
from sar_jax.training.api import calls

COMPILING = 2  # steps
DECODER = ("create", "prefill", "insert", "decode", "resize")


class Clock:
    """Seconds, processor seconds and the main thread's processor seconds of each function."""

    def __init__(self):
        self.spent: dict[str, list[float]] = collections.defaultdict(lambda: [0.0] * 3)
        self.depth = 0

    @staticmethod
    def now() -> list[float]:
        return [time.perf_counter(), time.process_time(), time.thread_time()]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, waited for. One that runs within another is a part of that."""

        def call(*given, **named):
            if self.depth:
                return function(*given, **named)
            self.depth += 1
            start = self.now()
            found = jax.block_until_ready(function(*given, **named))
            self.depth -= 1
            for i, (a, b) in enumerate(zip(start, self.now(), strict=True)):
                self.spent[name][i] += b - a
            return found

        return call


def instrument(clock: Clock) -> None:
    """Times the functions of every run that this process sets up from now on."""
    for name in DECODER:
        setattr(slots, name, clock.timed(f"rollout.{name}", getattr(slots, name)))
    assemble = assembly_lib.assemble

    def all_timed(owner: Any, prefix: str, names: Sequence[str]) -> Any:
        there = {name: getattr(owner, name) for name in names if getattr(owner, name) is not None}
        timed = {name: clock.timed(prefix + name, function) for name, function in there.items()}
        return dataclasses.replace(owner, **timed)

    def timed(*given) -> assembly_lib.Assembly:
        found = all_timed(assemble(*given), "", ("score", "cast", "hand_over", "fold"))
        update = all_timed(found.update, "update.", ("zeros", "accumulate", "apply"))
        return dataclasses.replace(found, update=update)

    setup.assemble = timed


class Seen(NamedTuple):
    """After a step: the clock, what each function has taken so far, compilations in the step."""

    now: list[float]
    spent: dict[str, list[float]]
    compilations: float


def report(seen: list[Seen]) -> None:
    first, last, steps = seen[COMPILING - 1], seen[-1], len(seen) - COMPILING
    wall, processor, thread = (b - a for a, b in zip(first.now, last.now, strict=True))
    meter.figure("step.wall", wall / steps, "s")
    meter.figure("step.processor", processor / steps, "s")
    for name in sorted(last.spent, key=lambda name: -last.spent[name][1]):
        before = first.spent.get(name, [0.0] * 3)
        own = [b - a for a, b in zip(before, last.spent[name], strict=True)]
        wall_share, processor_share = own[0] / wall, own[1] / processor
        meter.figure(f"step.{name}.wall", wall_share, "share")
        meter.figure(f"step.{name}.processor", processor_share, "share")
        thread -= own[2]
    inside = sum(values[0] for values in last.spent.values())
    inside -= sum(values[0] for values in first.spent.values())
    meter.figure("step.outside.wall", 1 - inside / wall, "share")
    meter.figure("step.outside.processor", thread / processor, "share")
    meter.figure("step.compilations", sum(s.compilations for s in seen[COMPILING:]), "")


def main() -> None:
    parser = options_lib.parser(__doc__)
    add = parser.add_argument
    add("--config", default="configs/tiny.py", help="a config file of sar_jax.train")
    add("--steps", type=int, default=5, help="of the run; the first two are not counted")
    options = parser.parse_args()
    if options.steps <= COMPILING:
        parser.error(f"--steps is {options.steps}: the first {COMPILING} are not counted")
    config = calls.as_config(options.config)
    quiet = ("data.eval=", "logging.to=", f"checkpoint.every_steps={options.steps}")
    override(config, (f"steps={options.steps}", *quiet, *options.overrides))
    output, clock = meter.channel(), Clock()
    instrument(clock)
    seen: list[Seen] = []

    def on_step(step: int, metrics: dict[str, float]) -> None:
        spent = {name: [*values] for name, values in clock.spent.items()}
        seen.append(Seen(clock.now(), spent, metrics["compilations"]))

    with tempfile.TemporaryDirectory() as folder:
        sar_jax.train(config, f"{folder}/run", on_step)
    with contextlib.redirect_stdout(output):
        report(seen)


if __name__ == "__main__":
    main()
