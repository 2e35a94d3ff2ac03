"""Every jitted function of a training run, lowered from shapes alone, before any array exists.

The functions are those of `training.assembly` and `rollout.slots`, which a run executes.

    name        arguments                            what else is in memory meanwhile
    hand_over   masters -> decoding weights          moments, reference
    prefill     decoding weights, packed questions   masters, moments, reference, cache
    insert      cache, packed keys and values        masters, moments, reference, decoding weights
    decode      decoding weights, cache              masters, moments, reference
    shrink      cache                                masters, moments, reference, decoding weights
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

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sar_jax import config as config_lib
from sar_jax.model import cache as cache_lib
from sar_jax.model import lora, parameters
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout import slots
from sar_jax.structs import Batch, Packed, Sampling, ValueBatch
from sar_jax.training import derived, learner
from sar_jax.training.assembly import Assembly, assemble


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


def chip_bytes(tree: Any) -> int:
    """Bytes on one device of described arrays with shardings."""
    size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(map(size, jax.tree.leaves(tree)))


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
    decoder = _Decoder.of(config, assembly)
    programs = {
        **_weights_programs(assembly, arrays, behind, between),
        **_decoder_programs(config, decoder, arrays.decoding_weights, tuple(stop_ids), between),
        **_update_programs(assembly, arrays, residents, behind),
    }
    if assembly.critic:
        programs |= _critic_programs(assembly, arrays, residents)
    return Described(assembly, programs, residents, decoder.shapes, chip_bytes(decoder.state.cache))


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
    weights = chip_bytes(arrays.weights)
    return Residents(
        masters=chip_bytes(arrays.masters),
        moments=chip_bytes(assembly.update.described.opt_state),
        reference=weights if compared else 0,  # beside adapters only their copy
        weights=weights if assembly.cast else 0,
        decoding_weights=chip_bytes(arrays.decoding_weights),
        gradients=chip_bytes(arrays.masters),
        critic=chip_bytes((critic.params, critic.opt_state)) if critic else 0,
        base=chip_bytes(arrays.frozen),
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
    moments = r.critic - chip_bytes(state.params)
    gradient = _gradient(critic.update, state.params, batch, {}, mesh)
    value = lambda: critic.values.lower(state.params, arrays.packed)
    apply = lambda: critic.update.apply.lower(state, state.params)
    return {
        "value": Program(value, mesh, policy + r.weights + moments),
        "value_gradient": Program(gradient, mesh, policy + moments),
        "value_apply": Program(apply, mesh, policy),
    }


class _Decoder(NamedTuple):
    """The decoder with all its slots and all their columns, described."""

    assembly: Assembly
    shapes: shapes_lib.Shapes
    state: slots.State

    @staticmethod
    def of(config: config_lib.TrainConfig, assembly: Assembly) -> "_Decoder":
        network, mesh = assembly.decoder, assembly.decoding
        devices = sharding.batch_devices(mesh)
        shapes = shapes_lib.of_config(config, network, devices)
        dtype = config.rollout.cache_dtype or network.dtype
        create = lambda: slots.create(network, shapes.sizes[0], shapes.columns[-1], dtype)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            state = jax.eval_shape(create)
            whole = cache_lib.axes(network)
        cut = {1: (sharding.BATCH,), 2: (sharding.BATCH, None), len(whole): whole}
        spread = lambda x: NamedSharding(mesh, P(*cut[x.ndim]))
        place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spread(x))
        return _Decoder(assembly, shapes, jax.tree.map(place, state))

    def packed(self) -> jax.ShapeDtypeStruct:
        """The keys, or the values, of packed questions."""
        cfg, mesh = self.assembly.decoder.cfg, self.assembly.decoding
        K, shapes = cfg.num_kv_heads, self.shapes
        heads = "tensor" if K % mesh.shape["tensor"] == 0 else None
        return jax.ShapeDtypeStruct(
            (shapes.rows, cfg.num_layers, K, shapes.width, cfg.head_dim),
            self.assembly.decoder.dtype,
            sharding=NamedSharding(mesh, P(None, None, heads, None, None)),
        )


def _decoder_programs(
    config: config_lib.TrainConfig,
    decoder: _Decoder,
    weights: Any,
    stop_ids: tuple[int, ...],
    beside: int,
) -> dict[str, Program]:
    """What `sample` calls. Copies of the smaller sizes are left out: they need less."""
    network, mesh = decoder.assembly.decoder, decoder.assembly.decoding
    shapes, state, packed = decoder.shapes, decoder.state, decoder.packed()
    everywhere = sharding.replicated(mesh)
    same = lambda *shape, dtype=jnp.int32: jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)
    rows = jax.ShapeDtypeStruct(
        (shapes.rows, shapes.width), jnp.int32, sharding=sharding.by_rows(mesh)
    )
    begin = slots.Begin(slots.Entries(0, 0, 0, 0), 0, 0, 0)
    begin = jax.tree.map(lambda _: same(slots.ENTRIES), begin)
    steps, until, greedy = same(), same(), same(dtype=jnp.bool_)
    sampling = Sampling.of(config)
    prefill = lambda: slots.prefill.lower(network, weights, rows, rows, rows)
    insert = lambda: slots.insert.lower(
        network, state, packed, packed, begin, same(), same(2, dtype=jnp.uint32)
    )
    decode = lambda: slots.decode.lower(
        network, weights, state, steps, until, greedy, stop_ids=stop_ids, sampling=sampling
    )
    held, cached = chip_bytes(weights), chip_bytes(state)
    waiting = chip_bytes((packed, packed))  # of questions whose answers wait
    found = {
        "prefill": Program(prefill, mesh, beside + cached),
        "insert": Program(insert, mesh, beside + held),
        "decode": Program(decode, mesh, beside + waiting),
    }
    if len(shapes.sizes) > 1:
        shrink = lambda: slots.resize.lower(
            network, state, same(shapes.sizes[1]), shapes.columns[-1]
        )
        found["shrink"] = Program(shrink, mesh, beside + held)
    return found
