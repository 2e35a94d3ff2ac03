"""Every jitted function of a training run, lowered from shapes alone, before any array exists.

The functions are those of `training.assembly` and `rollout.described`, which a run executes.

    name        arguments                            what else is in memory meanwhile
    hand_over   masters -> decoding weights          moments, reference
    prefill     decoding weights, packed questions   masters, moments, reference, cache
    insert      cache, packed keys and values        masters, moments, reference, decoding weights
    decode      decoding weights, cache              masters, moments, reference
    shrink      cache                                masters, moments, reference, decoding weights,
                                                     packed keys and values
    cast        masters -> weights                   moments, reference
    score       weights (or reference), packed rows  masters, moments, reference (or weights)
    gradient    masters, gradient sums, packed rows  moments, reference
    apply       masters, moments, gradient sums      reference

With adapters (LoRA) the masters are these alone; their frozen base is beside everything or is an
argument, and there is

    fold        base, masters -> weights with both   moments, reference

which gives what hand_over takes. With a critic its parameters and moments are beside all of these,
and there are

    value            critic, packed rows                  masters, moments, reference, weights,
                                                          critic's moments
    value_gradient   critic, gradient sums, packed rows   the same without weights
    value_apply      critic, its moments, gradient sums   masters, moments, reference

masters: the float32 parameters; weights: their copies in the compute dtype, which decode and score.
The order is a step's. Evaluations decode with the same programs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sar_jax import config as config_lib
from sar_jax.model import lora, parameters
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import sharding
from sar_jax.rollout import fitting
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout.described import Decoder
from sar_jax.structs import Batch, Packed, Sampling, ValueBatch
from sar_jax.training import learner
from sar_jax.training.assembly import Assembly, assemble
from sar_jax.training.settings import derived


class Program(NamedTuple):
    """A function to compile.

    lower    traces it, under `mesh`
    beside   bytes a device that are in memory beside its arguments
    """

    lower: Callable[[], jax.stages.Lowered]
    mesh: Mesh
    beside: int


class Residents(NamedTuple):
    """Bytes on one device."""

    masters: int
    moments: int
    reference: int
    weights: int
    decoding_weights: int
    gradients: int
    critic: int  # parameters and moments
    base: int  # frozen, beside adapters


class Described(NamedTuple):
    """The programs of a run, and what stays in memory between them.

    shapes   of the decoder
    cache    bytes of all slots, on one device
    """

    assembly: Assembly
    programs: dict[str, Program]
    residents: Residents
    shapes: shapes_lib.Shapes
    cache: int


class _Arrays(NamedTuple):
    """What the functions take, described."""

    masters: Any
    weights: Any
    frozen: Any
    decoding_weights: Any
    packed: Packed
    batch: Batch


def describe(
    config: config_lib.TrainConfig, cfg: ModelConfig, mesh: Mesh, stop_ids: Sequence[int] = (0,)
) -> Described:
    """The programs of a run of `config` on `mesh`, whose devices need not exist.

    stop_ids   tokens that end an answer; how many there are hardly matters to the decoder
    """
    assembly = assemble(config, cfg, mesh)
    arrays = _describe_arrays(config, assembly)
    residents = _residents(config, assembly, arrays)
    r = residents
    behind = r.moments + r.reference + r.critic
    between = behind + r.masters + r.base
    decoder = Decoder.of(config, assembly.decoder, assembly.decoding)
    programs = {
        **_weights_programs(assembly, arrays, behind, between),
        **_decoder_programs(config, decoder, arrays.decoding_weights, tuple(stop_ids), between),
        **_update_programs(assembly, arrays, residents, behind),
    }
    if assembly.critic:
        programs |= _critic_programs(assembly, arrays, residents)
    return Described(
        assembly, programs, residents, decoder.shapes, sharding.bytes_each(decoder.state.cache)
    )


def fitted(
    config: config_lib.TrainConfig, cfg: ModelConfig, mesh: Mesh, hbm: float
) -> config_lib.TrainConfig:
    """The config with the number of slots that "auto" means where programs may use `hbm` bytes."""
    if config.rollout.slots != "auto":
        return config
    assembly = assemble(config, cfg, mesh)
    r = _residents(config, assembly, _describe_arrays(config, assembly))
    free = hbm - (r.masters + r.moments + r.reference + r.critic + r.base)
    found = fitting.fit(config, assembly.decoder, assembly.decoding, free)
    return fitting.with_slots(config, found.slots)


def _describe_arrays(config: config_lib.TrainConfig, assembly: Assembly) -> _Arrays:
    mesh, dtype = assembly.mesh, jnp.dtype(config.model.dtype)
    own = sharding.param_shardings(assembly.specs, mesh)
    of = lambda dtype: parameters.describe(assembly.specs, own, dtype)
    frozen = {}
    if config.lora.rank:
        specs = parameters.param_specs(assembly.base.cfg)
        frozen = parameters.describe(specs, sharding.param_shardings(specs, mesh), dtype)
    light = parameters.param_specs(assembly.decoder.cfg)
    rules = sharding.DECODING_RULES
    decoding = sharding.param_shardings(light, assembly.decoding, rules)
    packed, batch = _describe_rows(config, mesh)
    return _Arrays(
        masters=of(jnp.float32),
        weights=of(dtype),
        frozen=frozen,
        decoding_weights=parameters.describe(light, decoding, dtype),
        packed=packed,
        batch=batch,
    )


def _describe_rows(config: config_lib.TrainConfig, mesh: Mesh) -> tuple[Packed, Batch]:
    """A micro-batch."""
    shape = (config.packing.rows_per_microbatch, config.packing.row_tokens)
    grid = lambda dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.by_rows(mesh))
    packed = Packed(grid(jnp.int32), grid(jnp.int32), grid(jnp.int32), grid(jnp.bool_))
    sampling = grid(jnp.float32) if config.loss.importance_cap else None
    values = (grid(jnp.float32) for _ in range(3))
    return packed, Batch(packed, *values, sampling)


def _residents(config: config_lib.TrainConfig, assembly: Assembly, arrays: _Arrays) -> Residents:
    critic = assembly.critic and assembly.critic.update.described
    compared = derived.needs_reference(config)
    weights = sharding.bytes_each(arrays.weights)
    return Residents(
        masters=sharding.bytes_each(arrays.masters),
        moments=sharding.bytes_each(assembly.update.described.opt_state),
        reference=weights if compared else 0,  # beside adapters only their copy
        weights=weights if assembly.cast else 0,
        decoding_weights=sharding.bytes_each(arrays.decoding_weights),
        gradients=sharding.bytes_each(arrays.masters),
        critic=sharding.bytes_each((critic.params, critic.opt_state)) if critic else 0,
        base=sharding.bytes_each(arrays.frozen),
    )


def _weights_programs(
    assembly: Assembly, arrays: _Arrays, behind: int, between: int
) -> dict[str, Program]:
    """What makes the weights of score and of the decoder."""
    found, mesh = {}, assembly.mesh
    masters, frozen = arrays.masters, arrays.frozen
    if assembly.fold is not None:
        found["fold"] = Program(lambda: assembly.fold.lower(frozen, masters), mesh, behind)
    if assembly.hand_over is not None:
        whole = frozen or masters  # adapters were added to the base, which stays
        beside = between if frozen else behind
        found["hand_over"] = Program(lambda: assembly.hand_over.lower(whole), mesh, beside)
    if assembly.cast is not None:
        beside = between if frozen else behind
        found["cast"] = Program(lambda: assembly.cast.lower(masters), mesh, beside)
    return found


def _update_programs(
    assembly: Assembly, arrays: _Arrays, r: Residents, behind: int
) -> dict[str, Program]:
    mesh, update = assembly.mesh, assembly.update
    weights = lora.merged(arrays.frozen, arrays.weights)
    masters_too = r.masters if assembly.cast else 0
    gradient = _gradient(update, arrays.masters, arrays.batch, arrays.frozen, mesh)
    apply = lambda: update.apply.lower(update.described, arrays.masters)
    return {
        "score": Program(
            lambda: assembly.score.lower(weights, arrays.packed), mesh, behind + masters_too
        ),
        "gradient": Program(gradient, mesh, behind),
        "apply": Program(apply, mesh, r.reference + r.critic + r.base),
    }


def _gradient(
    update: learner.Update, params: Any, batch: Any, frozen: Any, mesh: Mesh
) -> Callable[[], jax.stages.Lowered]:
    """Lowers the accumulation of a micro-batch's gradient."""
    scalar = lambda kind: jax.ShapeDtypeStruct((), kind, sharding=sharding.replicated(mesh))
    scale = scalar(jnp.float32)
    metrics = jax.eval_shape(update.zeros, params, batch, scale, frozen)[1]
    sums = (params, jax.tree.map(lambda x: scalar(x.dtype), metrics))
    return lambda: update.accumulate.lower(params, sums, batch, scale, frozen)


def _critic_programs(assembly: Assembly, arrays: _Arrays, r: Residents) -> dict[str, Program]:
    mesh, critic = assembly.mesh, assembly.critic
    state, batch = critic.update.described, arrays.batch
    # described alike: a grid of float32
    batch = ValueBatch(arrays.packed, returns=batch.advantages, old_values=batch.old_logps)
    policy = r.masters + r.moments + r.reference + r.base
    moments = r.critic - sharding.bytes_each(state.params)
    gradient = _gradient(critic.update, state.params, batch, {}, mesh)
    value = lambda: critic.values.lower(state.params, arrays.packed)
    apply = lambda: critic.update.apply.lower(state, state.params)
    return {
        "value": Program(value, mesh, policy + r.weights + moments),
        "value_gradient": Program(gradient, mesh, policy + moments),
        "value_apply": Program(apply, mesh, policy),
    }


def _decoder_programs(
    config: config_lib.TrainConfig,
    decoder: Decoder,
    weights: Any,
    stop_ids: tuple[int, ...],
    beside: int,
) -> dict[str, Program]:
    found = decoder.programs(weights, stop_ids, Sampling.of(config))
    return {
        name: Program(program.lower, decoder.mesh, beside + program.beside)
        for name, program in found.items()
    }
