"""Plans for people: one slice as two tables with advice, several slices as one table."""

import math

from rich.console import Console
from rich.table import Table

from sar_jax import config as config_lib
from sar_jax.parallel import chips
from sar_jax.planning.estimate import Plan

_MUCH = 4  # times the model's bytes: two gathers and one reduce-scatter are 3
_FULL = 0.95  # of packed rows, below which a narrower last micro-batch is worth a word
_MANY = 64  # devices, from which on XLA sums gradients without scattering them
DECODER = ("prefill", "insert", "decode", "shrink")
_UPDATE = ("gradient", "apply", "value_gradient", "value_apply")
_ALWAYS = {
    "float32 masters": "masters",
    "Adam's moments": "moments",
    "reference": "reference",
    "critic": "critic",
    "frozen base": "base",
}


def gib(size: float | None) -> str:
    """Bytes in GiB, with two decimals."""
    if size is None:
        return "-"
    return "too much" if math.isinf(size) else f"{size / 2**30:.2f}"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def show(console: Console, config: config_lib.TrainConfig, plan: Plan) -> None:
    """One slice: memory, time, the verdict and, where it does not fit, what would help."""
    unit = "chip" if plan.devices == plan.chips else "core"
    copies = plan.decoding_copies
    console.print(
        f"{plan.topology}: {plan.chips} chips, {gib(plan.hbm)} GiB a {unit} for programs; "
        f"{copies} cop{'y' if copies == 1 else 'ies'} of the model for decoding"
    )
    if plan.overrides:
        console.print(
            "rows were raised to what the devices can share; a run needs "
            + " ".join(plan.overrides),
            soft_wrap=True,
        )
    if config.rollout.slots == "auto":
        console.print(f"rollout.slots=auto: {plan.slots} fit")
    _show_memory(console, plan, unit)
    sent = plan.programs["gradient"].sent
    if sent:
        console.print(_sent(config, plan, sent / 2 / plan.parameters), soft_wrap=True)
    _show_times(console, config, plan)
    spare = plan.hbm - plan.peak
    if plan.fits():
        console.print(
            f"[bold]fits[/bold], with {gib(spare)} GiB a {unit} to spare", highlight=False
        )
        return
    missing = "" if math.isinf(spare) else f": {gib(-spare)} GiB a {unit} are missing"
    console.print(f"[bold]does not fit[/bold]{missing}. What would help:", highlight=False)
    for line in advice(config, plan):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _show_memory(console: Console, plan: Plan, unit: str) -> None:
    table = _table(
        f"memory, GiB a {unit} (the compiler's plan)",
        ("program", "in all", "args", "temp", "beside", "free", "sent, GB", "cpu s"),
    )
    for name, p in plan.programs.items():
        table.add_row(
            name,
            gib(p.total),
            gib(p.arguments),
            gib(p.temporary),
            gib(p.beside),
            gib(plan.hbm - p.total),
            "not known" if p.sent is None else f"{p.sent / 1e9:.3f}",
            f"{p.compile_seconds:.0f}",
        )
    console.print(table)
    console.print(
        "args, temp: arguments and temporaries of the program; beside: what else is in memory "
        "meanwhile; sent: to other devices in one call; cpu s: processor time to compile it here"
    )
    r = plan.residents
    always = {name: getattr(r, field) for name, field in _ALWAYS.items()}
    console.print(
        "always there: "
        + ", ".join(f"{name} {gib(size)}" for name, size in always.items() if size)
        + f"; at times: weights {gib(r.weights)}, weights for decoding {gib(r.decoding_weights)}, "
        f"cache {gib(plan.cache)}, gradient sums {gib(r.gradients)}"
    )


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


def _show_times(console: Console, config: config_lib.TrainConfig, plan: Plan) -> None:
    table = _table(
        "a step at the chip's limits (an estimate; no run is as fast)",
        ("program", "calls", "Tflop", "compute, ms", "memory, ms", "network, ms", "s a step"),
    )
    for name, t in plan.times.items():
        limits = (t.compute, t.memory, t.network)
        ms = ("not known" if s is None else f"{1e3 * s:.2f}" for s in limits)
        table.add_row(name, f"{t.calls:.4g}", f"{t.flops / 1e12:.2f}", *ms, f"{t.seconds:.1f}")
    console.print(table)
    compiled = lambda name: not math.isinf(plan.programs[name].total)
    unknown = [name for name, t in plan.times.items() if t.network is None and compiled(name)]
    if unknown:
        console.print(
            f"not known with this version of JAX, and left out of the seconds: what is sent to "
            f"other devices by {', '.join(unknown)}"
        )
    better = plan.filled < _FULL and config.packing.narrowest == 1
    hint = "; --config.packing.narrowest=4 fills them better" if better else ""
    console.print(
        f"packed rows are {100 * plan.filled:.1f} % full with answers of such lengths{hint}"
    )
    console.print(
        f"at best {plan.step_seconds:.0f} s a step, {plan.tokens_per_second:.0f} answer tokens/s; "
        f"{config.steps} steps in {plan.hours:.1f} hours, {plan.chip_hours:.0f} chip-hours"
    )


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
            f"--config.rollout.weights_dtype=int8: up to {gib(r.decoding_weights / 2)} GiB less, "
            "answers are then drawn from rounded weights (see loss.importance_cap)"
        )
    if config.optimizer.mu_dtype == "float32":
        lines.append(
            f"--config.optimizer.mu_dtype=bfloat16: {gib(r.moments / 4)} GiB less, with Adam's "
            "first moment rounded"
        )
    if r.reference and not config.model.offload_reference:
        lines.append(
            f"--config.model.offload_reference=true: {gib(r.reference)} GiB less outside score; "
            "the reference waits in the hosts' memory"
        )
    if config.loss.kl:
        lines.append(
            f"--config.loss.kl=0: {gib(r.reference)} GiB less, no reference model (changes the "
            "method)"
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
    lines, slots, half = [], plan.slots, gib(plan.cache / 2)
    if slots > 1:
        lines.append(
            f"--config.rollout.slots={slots // 2}: {half} GiB less cache, and more decoding steps "
            "with fewer tokens each"
        )
    if config.rollout.cache_dtype != "int8":
        lines.append(
            f"--config.rollout.cache_dtype=int8: about {half} GiB less cache, answers are then "
            "drawn from rounded keys and values (see loss.importance_cap)"
        )
    return lines


def show_sweep(console: Console, plans: list[Plan]) -> None:
    """One line a slice."""
    console.print("GiB a device; seconds and hours at the chips' limits (estimates)")
    console.print(sweep_table(plans))


def sweep_table(plans: list[Plan]) -> Table:
    columns = ("slice", "chips", "usable", "decode", "score", "update", "free", "fits")
    table = _table("", (*columns, "s a step", "answer tokens/s", "hours", "chip-hours"))
    for plan in plans:
        most = lambda names, p=plan: max(p.programs[n].total for n in names if n in p.programs)
        table.add_row(
            plan.topology,
            str(plan.chips),
            gib(plan.hbm),
            gib(most(DECODER)),
            gib(plan.programs["score"].total),
            gib(most(_UPDATE)),
            gib(plan.hbm - plan.peak),
            "yes" if plan.fits() else "no",
            f"{plan.step_seconds:.0f}",
            f"{plan.tokens_per_second:.0f}",
            f"{plan.hours:.0f}",
            f"{plan.chip_hours:.0f}",
        )
    return table
