"""Settings that change no value and leave no memory idle: what a slice could do with a config.

    slots        as many as fit
    narrowest    a last micro-batch with fewer columns
    remat, rows  what the backward pass keeps, and rows a micro-batch: the fastest that fits

Seconds and memory of a pair of the last two are estimated from those of the config itself; the
compiler then has its say on the fastest ones, until one fits.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax

from sar_jax import config as config_lib
from sar_jax.model import remat
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import chips, sharding
from sar_jax.planning import compiling, programs, roofline
from sar_jax.planning.estimate import Plan
from sar_jax.planning.kept import Kept
from sar_jax.planning.measured import SILENT, Watch

_NARROWEST = 4
_MARGIN = 1.02  # of the memory: the estimate may be too large
_CHOICES = ("dots", "dots_but_up", "block")  # "none" keeps what XLA likes; "offload" waits for it


class Advice(NamedTuple):
    """A config with better settings, and those as overrides of the one that was given."""

    config: config_lib.TrainConfig
    overrides: list[str]


class _Slice(NamedTuple):
    """Where a run is planned; plan: of the config as it was given."""

    cfg: ModelConfig
    mesh: jax.sharding.Mesh
    work: roofline.Work
    chip: chips.Chip
    plan: Plan


class _Pair(NamedTuple):
    """seconds: of a step's score and gradient, estimated."""

    config: config_lib.TrainConfig
    seconds: float


def advise(
    config: config_lib.TrainConfig,
    cfg: ModelConfig,
    topology: str,
    prompt_tokens: float,
    answer_tokens: float,
    plan: Plan,
    kept: Kept | None = None,
    watch: Watch = SILENT,
) -> Advice:
    """What would be faster on a slice. plan: of the config there; the others as of `estimate`."""
    tpus = compiling.describe(topology)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, tpus.devices)
    better = _with(config, rollout={"slots": "auto"}, packing={"narrowest": _NARROWEST})
    work = roofline.Work(prompt_tokens, answer_tokens, 1, len(tpus.devices))
    found = _with(better, packing={"rows_per_microbatch": plan.rows})
    where = _Slice(cfg, mesh, work, tpus.device, plan)
    for pair in sorted(_pairs(found, where), key=lambda pair: pair.seconds):
        slots = {"slots": plan.slots}  # the gradient does not depend on them
        watch.tell("compiling the gradient with " + " ".join(_overrides(config, pair.config)))
        described = programs.describe(_with(pair.config, rollout=slots), cfg, mesh)
        gradient = compiling.measure(described.programs["gradient"], kept)
        if gradient.total <= tpus.device.hbm:
            found = pair.config
            break
    return Advice(found, _overrides(config, found))


def _pairs(config: config_lib.TrainConfig, where: _Slice) -> Iterator[_Pair]:
    """Those whose gradient may fit."""
    devices, rows = sharding.batch_devices(where.mesh), where.plan.rows
    for count in {rows, max(rows // 2 // devices, 1) * devices}:
        for policy in _CHOICES:
            made = _with(config, model={"remat": policy}, packing={"rows_per_microbatch": count})
            if _memory(config, made, where) <= _MARGIN * where.chip.hbm:
                yield _Pair(made, _seconds(made, where))


def _memory(old: config_lib.TrainConfig, new: config_lib.TrainConfig, where: _Slice) -> float:
    """Bytes of a device during the gradient; by what it is now, and what is kept of each layer."""
    size = 2 if new.model.dtype == "bfloat16" else 4
    devices, total = sharding.batch_devices(where.mesh), where.plan.programs["gradient"].total

    def kept(config: config_lib.TrainConfig) -> float:
        tokens = config.packing.rows_per_microbatch * config.packing.row_tokens / devices
        return remat.kept(where.cfg, config.model.remat) * where.cfg.num_layers * tokens * size

    if old.model.remat == "none":  # what is kept is not known, but it is more
        return total
    return total - kept(old) + kept(new)


def _seconds(config: config_lib.TrainConfig, where: _Slice) -> float:
    """Of score and gradient in a step. What a call of them sends hardly depends on its rows."""
    plan, work = where.plan, where.work
    network = Network.of(config.model, where.cfg, where.mesh)
    rows = roofline.packed_rows(config, work, network.kernel)
    calls = roofline.learner_calls(config, network, plan.residents, work, rows)
    seconds = 0.0
    for name in ("score", "gradient"):
        limits = roofline.limits(calls[name], plan.programs[name].sent, where.chip)
        seconds += calls[name].calls * limits.longest
    return seconds


def _with(config: config_lib.TrainConfig, **sections: dict) -> config_lib.TrainConfig:
    """The config with fields of its sections changed."""
    made = {
        name: dataclasses.replace(getattr(config, name), **fields)
        for name, fields in sections.items()
    }
    return dataclasses.replace(config, **made)


def _overrides(old: config_lib.TrainConfig, new: config_lib.TrainConfig) -> list[str]:
    """As options of a command."""
    found = []
    for path in (
        "rollout.slots",
        "packing.rows_per_microbatch",
        "packing.narrowest",
        "model.remat",
    ):
        section, name = path.split(".")
        before, now = (getattr(getattr(config, section), name) for config in (old, new))
        if before != now:
            found.append(f"--config.{path}={now}")
    return found
