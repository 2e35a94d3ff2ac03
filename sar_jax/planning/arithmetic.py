"""What a run would take on a slice, without compiling anything: to choose what is worth compiling.

    always         masters, moments, reference: exact, from shapes
    gradient       what each layer keeps, and about what one layer and the head need besides
    decoding       the weights and the cache of all slots, exact but for little
    seconds        as `roofline`; what is sent is counted as the shardings need it

The compiler has the last word; docs/plan.md has how far the two are apart.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import parameters, remat
from sar_jax.parallel import chips, sharding
from sar_jax.planning import programs, roofline
from sar_jax.planning.estimate import Plan
from sar_jax.rollout import fitting
from sar_jax.rollout import shapes as shapes_lib

_WORKING = 24  # bytes a token and unit of a layer's feed-forward, beside what is kept
_GATHERED = 2  # layers whose weights a device holds at once
_GRADIENT_SENDS = 3.4  # copies of the model in the compute dtype, of a micro-batch
_SCORE_SENDS = 1.2
_SUMMED_WHOLE = 64  # devices from which on XLA sums gradients without scattering them
_WHOLE_SENDS = 6.0  # then
_SPARE = 0.97  # of a device's memory, for what the decoder may use


class Place(NamedTuple):
    """A slice with the devices' axes; described: the run's programs there, with any rows."""

    tpus: chips.Slice
    described: programs.Described
    work: roofline.Work


class Guess(NamedTuple):
    """gradient, decoding: bytes of a device meanwhile; limits: of a call of each function, with the
    number of its calls in a step."""

    config: config_lib.TrainConfig
    gradient: float
    decoding: float
    limits: Mapping[str, tuple[float, roofline.Limits]]

    @property
    def memory(self) -> float:
        return max(self.gradient, self.decoding)

    @property
    def seconds(self) -> float:
        """Of a step."""
        return sum(calls * limits.longest for calls, limits in self.limits.values())

    @property
    def least(self) -> float:
        """The same where nothing is sent: a compiled plan is never below it."""
        return self._with_network({})

    def corrected(self, other: "Guess", plan: Plan) -> float:
        """Seconds, if what is sent differs from the compiler's as it did in another guess, of whose
        config this is the plan."""
        sent = {}
        for name, (_, limits) in self.limits.items():
            told = plan.times[name].network if name in plan.times else None
            before = other.limits[name][1].network if name in other.limits else None
            if told is None:
                sent[name] = limits.network
            else:
                sent[name] = limits.network * told / before if before and limits.network else told
        return self._with_network(sent)

    def _with_network(self, seconds: Mapping[str, float | None]) -> float:
        return sum(
            calls * limits._replace(network=seconds.get(name)).longest
            for name, (calls, limits) in self.limits.items()
        )


def guess(config: config_lib.TrainConfig, place: Place, rows: roofline.Rows) -> Guess | None:
    """A run of `config`; None where it cannot fit. Slots that are "auto" become a number.

    rows   as `roofline.packed_rows` finds them for this config
    """
    assembly, room = place.described.assembly, _SPARE * place.tpus.device.hbm
    room -= _always(config, place) + place.described.residents.decoding_weights
    if config.rollout.slots == "auto":
        try:
            slots = fitting.most(config, assembly.decoder, assembly.decoding, room)
        except UserError:
            return None  # not one
        config = fitting.with_slots(config, slots)
    memory = _gradient(config, place), _decoding(config, place)
    return Guess(config, *memory, _limits(config, place, rows))


def _always(config: config_lib.TrainConfig, place: Place) -> float:
    r = place.described.residents
    reference = 0 if config.model.offload_reference else r.reference
    return r.masters + r.moments + reference + r.critic + r.base


def _decoding(config: config_lib.TrainConfig, place: Place) -> float:
    assembly, r = place.described.assembly, place.described.residents
    devices = sharding.batch_devices(assembly.decoding)
    slot = shapes_lib.slot_bytes(config, assembly.decoder, devices, assembly.decoding.size)
    return _always(config, place) + r.decoding_weights + config.rollout.slots / devices * slot


def _gradient(config: config_lib.TrainConfig, place: Place) -> float:
    assembly, r = place.described.assembly, place.described.residents
    cfg, size = assembly.base.cfg, _size(config)
    tokens = config.packing.rows_per_microbatch * config.packing.row_tokens
    tokens /= sharding.batch_devices(assembly.mesh)
    head = cfg.vocab_size * cfg.embed_dim
    layer = (parameters.count_params(cfg) - head * (1 if cfg.tied else 2)) / cfg.num_layers
    tensor = assembly.mesh.shape["tensor"]
    kept = remat.kept(cfg, config.model.remat) * cfg.num_layers * tokens * size
    working = _WORKING * cfg.ffw_dim * tokens
    if config.model.keep_logits:
        kept += 4 * tokens * cfg.vocab_size
    gathered = size * (head + _GATHERED * layer)
    return _always(config, place) + r.gradients + (kept + working + gathered) / tensor


def _limits(
    config: config_lib.TrainConfig, place: Place, rows: roofline.Rows
) -> dict[str, tuple[float, roofline.Limits]]:
    assembly, device = place.described.assembly, place.tpus.device
    calls = roofline.step_calls(config, assembly.base, place.described.residents, place.work, rows)
    sent = _sent(config, place)
    return {
        name: (call.calls, roofline.limits(call, sent.get(name, 0.0), device))
        for name, call in calls.items()
    }


def _sent(config: config_lib.TrainConfig, place: Place) -> dict[str, float]:
    """Bytes that a device sends in a call."""
    assembly = place.described.assembly
    cfg, mesh, decoding = assembly.base.cfg, assembly.mesh, assembly.decoding
    whole = _size(config) * parameters.count_params(cfg) / mesh.shape["tensor"]
    shared = 1 - 1 / mesh.shape["fsdp"]
    many = mesh.shape["fsdp"] >= _SUMMED_WHOLE
    gradient = (_WHOLE_SENDS if many else _GRADIENT_SENDS) * whole * shared
    tensor = decoding.shape["tensor"]
    # two sums a layer over the devices that share a copy, each sent twice but for its own part
    token = 2 * cfg.num_layers * cfg.embed_dim * _size(config) * 2 * (1 - 1 / tensor)
    copies = decoding.size / tensor
    return {
        "prefill": place.work.reads / copies * token,
        "decode": config.rollout.slots / copies * token,
        "score": _SCORE_SENDS * whole * shared,
        "gradient": gradient,
        "value": _SCORE_SENDS * whole * shared,
        "value_gradient": gradient,
    }


def _size(config: config_lib.TrainConfig) -> int:
    return 2 if config.model.dtype == "bfloat16" else 4


def changed(config: config_lib.TrainConfig, **sections: dict) -> config_lib.TrainConfig:
    """The config with fields of its sections changed."""
    made = {
        name: dataclasses.replace(getattr(config, name), **fields)
        for name, fields in sections.items()
    }
    return dataclasses.replace(config, **made)
