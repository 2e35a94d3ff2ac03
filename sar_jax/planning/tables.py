"""Plans for people: one slice as two tables with advice, several slices as one table.

Every function gives lines of text: a table's rows can be printed one by one, as they become known.
Each figure is called compiled (the compiler's own), counted (from shapes and the config) or
estimated.
"""

import math
from collections.abc import Sequence

from sar_jax import config as config_lib
from sar_jax.parallel import chips
from sar_jax.planning.estimate import Plan, Time
from sar_jax.planning.measured import Head, Measured
from sar_jax.planning.units import chip_time, duration, flops, rate, sent, size

# Where the figures of a plan are from, by their names in what --json writes.
SOURCES = {
    "compiled": "programs: arguments, temporary, collectives, sent, and the rest of total",
    "counted": "programs: beside; residents, cache, parameters, times: calls, flops",
    "estimated": "times: compute, memory, network, seconds; filled, step_seconds, "
    "tokens_per_second, hours, chip_hours",
    "published": "hbm, and the limits of the chip that times follow from",
    "measured": "none",
}
MEMORY = ("in all", "args", "temp", "beside", "free", "sent", "compiled in")
MEANT_BY_MEMORY = (
    "compiled: in all, args and temp (arguments and temporaries), sent (to other devices in a "
    "call); counted: beside (what else is in memory meanwhile); compiled in: beside another "
    "program, cached: for an earlier plan"
)
TIMES = ("calls", "flops", "compute", "memory", "network", "a step")
MEANT_BY_TIMES = (
    "counted: calls, flops (of one call); estimated: one call at each of the chip's published "
    "limits, and all calls of a step; measured: nothing, no chip has run this"
)
_MUCH = 4  # times the model's bytes: two gathers and one reduce-scatter are 3
_FULL = 0.95  # of packed rows, below which a narrower last micro-batch is worth a word
_MANY = 64  # devices, from which on XLA sums gradients without scattering them
_NARROW = 10  # characters of a column, at least
DECODER = ("prefill", "insert", "decode", "shrink")
_UPDATE = ("gradient", "apply", "value_gradient", "value_apply")
_ALWAYS = {
    "float32 masters": "masters",
    "Adam's moments": "moments",
    "reference": "reference",
    "critic": "critic",
    "frozen base": "base",
}


class Columns:
    """A table's header and rows, with columns of the same width in each.

    first   name and width of the first column, which begins at the left
    """

    def __init__(self, first: tuple[str, int], others: Sequence[str]):
        self._first = max(first[1], len(first[0]))
        self._widths = [max(len(name), _NARROW) for name in others]
        self.header = self.row(first[0], others)

    def row(self, name: str, values: Sequence[str]) -> str:
        cells = (f"{value:>{width}}" for value, width in zip(values, self._widths, strict=True))
        return f"{name:<{self._first}}  {'  '.join(cells)}"


def unit(plan: Plan | Head) -> str:
    """What a device is."""
    return "chip" if plan.devices == plan.chips else "core"


def head(head: Head) -> list[str]:
    """The slice, and what was chosen for it."""
    copies = head.decoding_copies
    lines = [
        f"{head.topology}: {head.chips} chips, {size(head.hbm)} a {unit(head)} for programs; "
        f"{copies} cop{'y' if copies == 1 else 'ies'} of the model for decoding"
    ]
    if head.overrides:
        lines.append(
            "rows were raised to what the devices can share; a run needs "
            + " ".join(head.overrides)
        )
    if head.slots_are_fitted:
        lines.append(f"rollout.slots=auto: {head.slots} fit")
    return lines


class Memory:
    """The table of what programs take."""

    def __init__(self, head: Head):
        self._hbm = head.hbm
        self._columns = Columns(("program", max(map(len, head.programs))), MEMORY)
        self.header = [
            "",
            f"memory of a {unit(head)} while each program runs (by the TPU compiler)",
            self._columns.header,
        ]

    def row(self, name: str, program: Measured) -> str:
        return self._columns.row(name, memory_cells(program, self._hbm))


def memory_cells(program: Measured, hbm: float) -> list[str]:
    """Those below `MEMORY`. hbm: bytes that programs may use."""
    p = program
    return [
        size(p.total),
        size(p.arguments),
        size(p.temporary),
        size(p.beside),
        size(hbm - p.total) if math.isfinite(p.total) else "none",
        sent(p.sent),
        "cached" if p.cached else duration(p.compile_seconds),
    ]


def time_cells(time: Time) -> list[str]:
    """Those below `TIMES`."""
    limits = (time.compute, time.memory, time.network)
    each = ["not known" if s is None else duration(s) for s in limits]
    return [f"{time.calls:,.4g}", flops(time.flops), *each, duration(time.seconds)]


def rest(config: config_lib.TrainConfig, plan: Plan) -> list[str]:
    """What follows the rows of memory: what is always there, time, the verdict and, where it does
    not fit, what would help."""
    lines = _memory_notes(plan)
    bytes_sent = plan.programs["gradient"].sent
    if bytes_sent:
        lines.append(_sent(config, plan, bytes_sent / 2 / plan.parameters))
    lines += [*_times(config, plan), verdict(plan)]
    if plan.fits():
        return lines
    return [*lines, "What would help:", *(f"  {line}" for line in advice(config, plan))]


def verdict(plan: Plan) -> str:
    """Does it fit? In a line."""
    spare = plan.hbm - plan.peak
    if plan.fits():
        return f"fits, with {size(spare)} a {unit(plan)} to spare (compiled)"
    missing = "" if math.isinf(spare) else f": {size(-spare)} a {unit(plan)} are missing"
    return f"does not fit (compiled){missing}"


def pace(plan: Plan, steps: int) -> str:
    """How fast a run is at best. steps: of the run."""
    return (
        f"at best {duration(plan.step_seconds)} a step, {rate(plan.tokens_per_second)} answer "
        f"tokens/s; {steps} steps in {duration(3600 * plan.hours)}, "
        f"{chip_time(plan.chip_hours)} (estimated)"
    )


def _memory_notes(plan: Plan) -> list[str]:
    r = plan.residents
    always = {name: getattr(r, field) for name, field in _ALWAYS.items()}
    return [
        MEANT_BY_MEMORY,
        "counted, always there: "
        + ", ".join(f"{name} {size(held)}" for name, held in always.items() if held)
        + f"; at times: weights {size(r.weights)}, weights for decoding "
        f"{size(r.decoding_weights)}, cache {size(plan.cache)}, gradient sums {size(r.gradients)}",
    ]


def _sent(config: config_lib.TrainConfig, plan: Plan, copies: float) -> str:
    """What a micro-batch of the update sends, and how to send less.

    The latter where the model is divided among very many devices.
    """
    line = f"a micro-batch of the update sends {copies:.1f} times the model's bfloat16 bytes"
    if copies <= _MUCH or config.mesh.data != 1 or plan.devices < _MANY:
        return line
    return (
        f"{line}; --config.mesh.data=4 divides it among a quarter of the devices, which sends less "
        "and takes more memory on each"
    )


def _times(config: config_lib.TrainConfig, plan: Plan) -> list[str]:
    columns = Columns(("program", max(map(len, plan.times), default=0)), TIMES)
    lines = ["", "a step at the chip's limits (estimated; no run is as fast)", columns.header]
    lines += [columns.row(name, time_cells(time)) for name, time in plan.times.items()]
    lines.append(MEANT_BY_TIMES)
    compiled = lambda name: not math.isinf(plan.programs[name].total)
    unknown = [name for name, t in plan.times.items() if t.network is None and compiled(name)]
    if unknown:
        lines.append(
            f"not known with this version of JAX, and left out of the seconds: what is sent to "
            f"other devices by {', '.join(unknown)}"
        )
    better = plan.filled < _FULL and config.packing.narrowest == 1
    hint = "; --config.packing.narrowest=4 fills them better" if better else ""
    return lines + [
        f"packed rows are {100 * plan.filled:.1f} % full with answers of such lengths "
        f"(estimated){hint}",
        pace(plan, config.steps),
    ]


def advice(config: config_lib.TrainConfig, plan: Plan) -> list[str]:
    """What would make the run fit: settings, with the bytes a device that they save.

    Only those that help the programs which do not fit.
    """
    r = plan.residents
    over = {name for name, p in plan.programs.items() if p.total > plan.hbm}
    lines = []
    if over & {"gradient", "score", "value", "value_gradient"}:
        lines += _advice_on_rows(config, plan)
    if over & set(DECODER):
        lines += _advice_on_slots(config, plan)
    if over & {"prefill", "decode"} and not config.rollout.weights_dtype:
        lines.append(
            f"--config.rollout.weights_dtype=int8: up to {size(r.decoding_weights / 2)} less, "
            "answers are then drawn from rounded weights (see loss.importance_cap)"
        )
    if config.optimizer.mu_dtype == "float32":
        lines.append(
            f"--config.optimizer.mu_dtype=bfloat16: {size(r.moments / 4)} less, with Adam's "
            "first moment rounded"
        )
    if r.reference and not config.model.offload_reference:
        lines.append(
            f"--config.model.offload_reference=true: {size(r.reference)} less outside score; "
            "the reference waits in the hosts' memory"
        )
    if config.loss.kl:
        lines.append(
            f"--config.loss.kl=0: {size(r.reference)} less, no reference model (changes the method)"
        )
    larger = chips.next_slice(plan.topology)
    if larger:
        lines.append(
            f"--topology={larger}: masters, moments and reference shrink in proportion to the "
            "number of chips"
        )
    return lines


def _advice_on_rows(config: config_lib.TrainConfig, plan: Plan) -> list[str]:
    lines, devices = [], plan.devices
    if config.model.keep_logits:
        lines.append("--config.model.keep_logits=false: logits of a part of the vocabulary at once")
    policy = config.model.remat
    if policy in ("none", "dots", "dots_but_up"):
        lines.append("--config.model.remat=block: activations of one layer at a time")
    if plan.rows // devices > 1:
        half = max(plan.rows // 2 // devices, 1) * devices
        lines.append(
            f"--config.packing.rows_per_microbatch={half}: about half the temporaries of score "
            "and gradient"
        )
    if config.packing.logprob_chunk > 2048:
        lines.append("--config.packing.logprob_chunk=2048: fewer logits at once")
    return lines


def _advice_on_slots(config: config_lib.TrainConfig, plan: Plan) -> list[str]:
    lines, slots, half = [], plan.slots, size(plan.cache / 2)
    if slots > 1:
        lines.append(
            f"--config.rollout.slots={slots // 2}: {half} less cache, and more decoding steps "
            "with fewer tokens each"
        )
    if config.rollout.cache_dtype != "int8":
        lines.append(
            f"--config.rollout.cache_dtype=int8: about {half} less cache, answers are then "
            "drawn from rounded keys and values (see loss.importance_cap)"
        )
    return lines


class Sweep:
    """One table with a line a slice."""

    def __init__(self, slices: Sequence[str]):
        names = ("chips", "usable", "decode", "score", "update", "free", "fits")
        times = ("a step", "tokens/s", "whole run", "chip time")
        self._columns = Columns(("slice", max(map(len, slices))), (*names, *times))
        self.header = [
            "memory of a device (compiled); times at the chips' limits, answer tokens (estimated)",
            self._columns.header,
        ]

    def row(self, plan: Plan) -> str:
        most = lambda names: max(plan.programs[n].total for n in names if n in plan.programs)
        spare = plan.hbm - plan.peak
        return self._columns.row(
            plan.topology,
            (
                str(plan.chips),
                size(plan.hbm),
                size(most(DECODER)),
                size(plan.programs["score"].total),
                size(most(_UPDATE)),
                size(spare) if math.isfinite(spare) else "none",
                "yes" if plan.fits() else "no",
                duration(plan.step_seconds),
                rate(plan.tokens_per_second),
                duration(3600 * plan.hours),
                chip_time(plan.chip_hours),
            ),
        )
