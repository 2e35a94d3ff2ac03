"""What `sar_jax.plan` found, for people: one slice as two tables with advice, several as one
table."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from sar_jax import config as config_lib
from sar_jax.parallel import chips

_MUCH = 4  # times the model's bytes: two gathers and one reduce-scatter are 3
_MANY = 64  # devices, from which on XLA sums gradients without scattering them


def gib(size: float) -> str:
    return "too much" if math.isinf(size) else f"{size / 2**30:.2f}"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def show(console: Console, config: config_lib.TrainConfig, found: dict[str, Any]) -> None:
    """One slice: memory, time, the verdict and, where it does not fit, what would."""
    unit = "chip" if found["devices"] == found["chips"] else "core"
    copies = found["decoding_copies"]
    console.print(
        f"{found['topology']}: {found['chips']} chips, {gib(found['hbm'])} GiB a {unit} for programs; "
        f"{copies} cop{'y' if copies == 1 else 'ies'} of the model for decoding"
    )
    if found["overrides"]:
        console.print(
            "rows were raised to what the devices can share; a run needs "
            + " ".join(found["overrides"]),
            soft_wrap=True,
        )
    table = _table(
        f"memory, GiB a {unit} (the compiler's plan)",
        ("program", "in all", "args", "temp", "beside", "free", "sent, GB", "cpu s"),
    )
    for name, p in found["programs"].items():
        sent = "not known" if p["sent"] is None else f"{p['sent'] / 1e9:.3f}"
        table.add_row(
            name,
            gib(p["total"]),
            gib(p.get("arguments", math.nan)),
            gib(p["temporary"]),
            gib(p["beside"]),
            gib(found["hbm"] - p["total"]),
            sent,
            f"{p['compile_seconds']:.0f}",
        )
    console.print(table)
    console.print(
        "args, temp: arguments and temporaries of the program; beside: what lies there meanwhile; sent: to other "
        "devices, a call; cpu s: to compile it here"
    )
    r = found["residents"]
    there = {
        "float32 masters": "masters",
        "Adam's moments": "moments",
        "reference": "reference",
        "critic": "critic",
        "frozen base": "base",
    }
    console.print(
        "always there: "
        + ", ".join(f"{name} {gib(r[key])}" for name, key in there.items() if r[key])
        + f"; by turns: weights {gib(r['weights'])}, weights for decoding {gib(r['decoding_weights'])}, cache "
        f"{gib(found['cache'])}, gradient sums {gib(r['gradients'])}"
    )
    if copies := found["programs"]["gradient"]["sent"]:
        console.print(_sent(config, found, copies / 2 / found["parameters"]), soft_wrap=True)
    _show_times(console, config, found)
    spare = found["hbm"] - found["peak"]
    if spare >= 0:
        console.print(
            f"[bold]fits[/bold], with {gib(spare)} GiB a {unit} to spare", highlight=False
        )
    else:
        missing = "" if math.isinf(spare) else f": {gib(-spare)} GiB a {unit} are missing"
        console.print(f"[bold]does not fit[/bold]{missing}. What would help:", highlight=False)
        for line in advice(config, found):
            console.print(f"  {line}", highlight=False, soft_wrap=True)


def _sent(config: config_lib.TrainConfig, found: dict[str, Any], copies: float) -> str:
    """What a micro-batch of the update sends, and what sends less where the model is cut over very
    many devices."""
    line = f"a micro-batch of the update sends {copies:.1f} times the model's bfloat16 bytes"
    if copies <= _MUCH or config.mesh.data != 1 or found["devices"] < _MANY:
        return line
    return f"{line}; --config.mesh.data=4 cuts it over a quarter of the devices, which sends less and holds more"


def _show_times(console: Console, config: config_lib.TrainConfig, found: dict[str, Any]) -> None:
    table = _table(
        "a step at the chip's limits (an estimate; no run is as fast)",
        ("program", "calls", "Tflop", "compute, ms", "memory, ms", "network, ms", "s a step"),
    )
    for name, t in found["times"].items():
        ms = (f"{1e3 * t[limit]:.2f}" for limit in ("compute", "memory", "network"))
        table.add_row(
            name, f"{t['calls']:g}", f"{t['flops'] / 1e12:.2f}", *ms, f"{t['seconds']:.1f}"
        )
    console.print(table)
    console.print(
        f"at best {found['step_seconds']:.0f} s a step, {found['tokens_per_second']:.0f} answer tokens/s; "
        f"{config.steps} steps in {found['hours']:.1f} hours, {found['chip_hours']:.0f} chip-hours"
    )


def advice(config: config_lib.TrainConfig, found: dict[str, Any]) -> list[str]:
    """What would make the run fit, by the programs that do not: settings with the bytes a device
    that they give back."""
    lines, devices, r = [], found["devices"], found["residents"]
    over = {name for name, p in found["programs"].items() if p["total"] > found["hbm"]}
    rows, slots = config.packing.rows_per_microbatch, config.rollout.slots
    if over & {"gradient", "score", "value", "value_gradient"}:
        if not config.model.remat:
            lines.append("--config.model.remat=true: activations of one layer at a time")
        if rows // devices > 1:
            lines.append(
                f"--config.packing.rows_per_microbatch={max(rows // 2 // devices, 1) * devices}: about half the "
                "temporaries of score and gradient"
            )
        if config.packing.logprob_chunk > 2048:
            lines.append("--config.packing.logprob_chunk=2048: fewer logits at once")
    if over & {"prefill", "insert", "decode", "shrink"} and slots > 1:
        lines.append(
            f"--config.rollout.slots={slots // 2}: {gib(found['cache'] / 2)} GiB less cache, and more steps of "
            "fewer tokens"
        )
    if over & {"prefill", "insert", "decode", "shrink"} and config.rollout.cache_dtype != "int8":
        lines.append(
            f"--config.rollout.cache_dtype=int8: about {gib(found['cache'] / 2)} GiB less cache, answers drawn "
            "from rounded keys and values (see loss.importance_cap)"
        )
    if over & {"prefill", "decode"} and not config.rollout.weights_dtype:
        lines.append(
            f"--config.rollout.weights_dtype=int8: up to {gib(r['decoding_weights'] / 2)} GiB less, answers drawn "
            "from rounded weights (see loss.importance_cap)"
        )
    if config.optimizer.mu_dtype == "float32":
        lines.append(
            f"--config.optimizer.mu_dtype=bfloat16: {gib(r['moments'] / 4)} GiB less, Adam's first moment rounded"
        )
    if r["reference"] and not config.model.offload_reference:
        lines.append(
            f"--config.model.offload_reference=true: {gib(r['reference'])} GiB less outside score; the reference "
            "waits in the hosts' memory"
        )
    if config.loss.kl:
        lines.append(
            f"--config.loss.kl=0: {gib(r['reference'])} GiB less, no reference model (changes the method)"
        )
    larger = chips.next_slice(found["topology"])
    if larger:
        lines.append(
            f"--topology={larger}: masters, moments and reference fall by the ratio of the chips"
        )
    return lines


def show_sweep(console: Console, found: list[dict[str, Any]]) -> None:
    """One line a slice."""
    console.print("GiB a device; seconds and hours at the chips' limits (estimates)")
    console.print(sweep_table(found))


def sweep_table(found: list[dict[str, Any]]) -> Table:
    table = _table(
        "",
        (
            "slice",
            "chips",
            "usable",
            "decode",
            "score",
            "update",
            "free",
            "fits",
            "s a step",
            "answer tokens/s",
            "hours",
            "chip-hours",
        ),
    )
    for f in found:
        p = f["programs"]
        update = max(
            p[name]["total"]
            for name in ("gradient", "apply", "value_gradient", "value_apply")
            if name in p
        )
        decode = max(
            p[name]["total"] for name in ("prefill", "insert", "decode", "shrink") if name in p
        )
        table.add_row(
            f["topology"],
            str(f["chips"]),
            gib(f["hbm"]),
            gib(decode),
            gib(p["score"]["total"]),
            gib(update),
            gib(f["hbm"] - f["peak"]),
            "yes" if f["peak"] <= f["hbm"] else "no",
            f"{f['step_seconds']:.0f}",
            f"{f['tokens_per_second']:.0f}",
            f"{f['hours']:.0f}",
            f"{f['chip_hours']:.0f}",
        )
    return table
