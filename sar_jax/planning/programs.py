"""Every jitted function of a training run, described by shapes alone, so that it can be compiled
before anything exists.

    name        arguments                              what else lies in memory meanwhile
    hand_over   masters -> decoding weights            moments, reference
    prefill     decoding weights, packed questions     masters, moments, reference, cache
    insert      cache, packed keys and values          masters, moments, reference, decoding weights
    decode      decoding weights, cache                masters, moments, reference
    shrink      cache                                  masters, moments, reference, decoding weights
    cast        masters -> weights                     moments, reference
    score       weights (or reference), packed rows    masters, moments, reference (or weights)
    gradient    masters, gradient sums, packed rows    moments, reference
    apply       masters, moments, gradient sums        reference

With adapters (`sar_jax.model.lora`) the masters are these alone; their frozen base lies beside
everything or is an argument, and

    fold        base, masters -> weights with both     moments, reference

gives what hand_over takes. With a critic its parameters and moments lie beside all of these, and
there are

    value            critic, packed rows               masters, moments, reference, weights, critic's moments
    value_gradient   critic, gradient sums, packed rows    the same without weights
    value_apply      critic, its moments, gradient sums    masters, moments, reference

masters: the float32 parameters; weights: their copies in the compute dtype, which decode and score.
The order is a step's. Evaluations decode with the same programs."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sar_jax import config as config_lib
from sar_jax import structs
from sar_jax.model import cache as cache_lib
from sar_jax.model import int8, lora, parameters
from sar_jax.model import network as network_lib
from sar_jax.parallel import sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout import slots
from sar_jax.structs import Batch, Packed, ValueBatch
from sar_jax.training import critic as critic_lib
from sar_jax.training import handover, learner, score


class Program(NamedTuple):
    """lower: traces the function, under `mesh`; beside: bytes a chip that lie in memory beside its
    arguments."""

    lower: Callable[[], jax.stages.Lowered]
    mesh: Mesh
    beside: int


class Residents(NamedTuple):
    """Bytes on one chip."""

    masters: int
    moments: int
    reference: int
    weights: int
    decoding_weights: int
    gradients: int
    critic: int  # parameters and moments
    base: int  # frozen, beside adapters


def chip_bytes(tree: Any) -> int:
    """Bytes on one chip of described arrays with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def describe(
    config: config_lib.TrainConfig,
    cfg: parameters.ModelConfig,
    mesh: Mesh,
) -> tuple[dict[str, Program], Residents]:
    """The programs of a run of `config` on `mesh`, whose devices need not exist, and what stays in
    memory between them."""
    dtype, specs = jnp.dtype(config.model.dtype), parameters.param_specs(cfg)
    adapted = lora.adapted(cfg, config.lora) if config.lora.rank else cfg
    learnt = lora.specs(adapted) if config.lora.rank else specs
    decoding = sharding.decoding_mesh(mesh, config.rollout.tensor, cfg.num_kv_heads)
    shardings = sharding.param_shardings(specs, mesh)
    masters, weights = (
        parameters.describe(learnt, sharding.param_shardings(learnt, mesh), d)
        for d in (jnp.float32, dtype)
    )
    frozen = parameters.describe_params(cfg, shardings, dtype) if config.lora.rank else {}
    light = int8.described(cfg, config.rollout.weights_dtype)
    decoding_weights = parameters.describe_params(
        light,
        sharding.param_shardings(parameters.param_specs(light), decoding, sharding.DECODING_RULES),
        dtype,
    )
    kernel = network_lib.pick_kernel(config.model, cfg, mesh)
    decoder, graphdef = (
        network_lib.build(c, config.model.dtype, config.model.remat, kernel)
        for c in (light, adapted)
    )
    optimizer = learner.make_optimizer(config.optimizer, config.steps, parameters.decays(learnt))
    state = learner.describe_state(masters, optimizer)
    chunk = config.packing.logprob_chunk
    update = learner.make_update(
        state, optimizer, learner.make_policy_loss(graphdef, config.loss, chunk)
    )
    packed, batch = _rows(config, mesh)
    scalar = lambda kind: jax.ShapeDtypeStruct((), kind, sharding=sharding.replicated(mesh))
    metrics = jax.eval_shape(update.parts["zeros"], masters, batch, scalar(jnp.float32), frozen)[1]
    sums = (masters, jax.tree.map(lambda x: scalar(x.dtype), metrics))
    copied = dtype != jnp.float32
    critic = critic_lib.make(config, cfg, mesh) if config.advantage.estimator == "critic" else None
    residents = Residents(
        masters=chip_bytes(masters),
        moments=chip_bytes(state.opt_state),
        reference=chip_bytes(weights)
        if config_lib.needs_reference(config)
        else 0,  # beside adapters only their copy
        weights=chip_bytes(weights) if copied else 0,
        decoding_weights=chip_bytes(decoding_weights),
        gradients=chip_bytes(masters),
        critic=chip_bytes((critic.described.params, critic.described.opt_state)) if critic else 0,
        base=chip_bytes(frozen),
    )
    behind = residents.moments + residents.reference + residents.critic
    between = behind + residents.masters + residents.base
    scorer = score.make_score(graphdef, chunk)
    hand_over = handover.make_hand_over(light, mesh, decoding, config.model.dtype)
    cast = handover.make_cast(cfg, mesh, config.model.dtype)
    programs = {
        **_decoder(config, cfg, decoder, decoding, decoding_weights, between),
        "score": Program(
            lambda: scorer.lower(lora.merged(frozen, weights), packed),
            mesh,
            behind + residents.masters * copied,
        ),
        "gradient": Program(
            lambda: update.parts["accumulate"].lower(
                masters, sums, batch, scalar(jnp.float32), frozen
            ),
            mesh,
            behind,
        ),
        "apply": Program(
            lambda: update.parts["apply"].lower(state, masters),
            mesh,
            residents.reference + residents.critic + residents.base,
        ),
    }
    if decoding != mesh or light.int8:
        whole = frozen or masters  # adapters were added to the base, which stays
        programs = {
            "hand_over": Program(
                lambda: hand_over.lower(whole), mesh, between if frozen else behind
            )
        } | programs
    if frozen:
        fold = jax.jit(functools.partial(lora.folded, adapted), out_shardings=shardings)
        programs = {"fold": Program(lambda: fold.lower(frozen, masters), mesh, behind)} | programs
    elif hasattr(cast, "lower"):
        programs["cast"] = Program(lambda: cast.lower(masters), mesh, behind)
    if critic:
        programs |= _critic_programs(config, mesh, critic, residents)
    return programs, residents


def _critic_programs(
    config: config_lib.TrainConfig,
    mesh: Mesh,
    critic: critic_lib.Critic,
    r: Residents,
) -> dict[str, Program]:
    packed, batch = _rows(config, mesh)
    batch = ValueBatch(packed, batch.advantages, batch.old_logps)  # described alike
    params, parts = critic.described.params, critic.update.parts
    scale = jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding.replicated(mesh))
    metrics = jax.eval_shape(parts["zeros"], params, batch, scale, {})[1]
    sums = (
        params,
        jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype, sharding=scale.sharding), metrics),
    )
    policy, moments = r.masters + r.moments + r.reference + r.base, r.critic - chip_bytes(params)
    return {
        "value": Program(
            lambda: critic.values.lower(params, packed), mesh, policy + r.weights + moments
        ),
        "value_gradient": Program(
            lambda: parts["accumulate"].lower(params, sums, batch, scale, {}),
            mesh,
            policy + moments,
        ),
        "value_apply": Program(
            lambda: parts["apply"].lower(critic.described, params), mesh, policy
        ),
    }


def _rows(config: config_lib.TrainConfig, mesh: Mesh) -> tuple[Packed, Batch]:
    """A micro-batch."""
    shape = (config.packing.rows_per_microbatch, config.packing.row_tokens)
    grid = lambda dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.by_rows(mesh))
    packed = Packed(grid(jnp.int32), grid(jnp.int32), grid(jnp.int32), grid(jnp.bool_))
    sampling = grid(jnp.float32) if config.loss.importance_cap else None
    return packed, Batch(packed, grid(jnp.float32), grid(jnp.float32), grid(jnp.float32), sampling)


def describe_cache(
    config: config_lib.TrainConfig,
    cfg: parameters.ModelConfig,
    kernel: str,
    mesh: Mesh,
    shapes: shapes_lib.Shapes,
) -> slots.State:
    """All slots with all their columns."""
    dtype = config.rollout.cache_dtype or config.model.dtype
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        state = jax.eval_shape(
            lambda: slots.create(cfg, kernel, shapes.sizes[0], shapes.columns[-1], dtype)
        )
        whole = cache_lib.axes(cfg, kernel)
    cut = {1: (sharding.BATCH,), 2: (sharding.BATCH, None), len(whole): whole}
    spread = lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=NamedSharding(mesh, P(*cut[x.ndim]))
    )
    return jax.tree.map(spread, state)


def cache_bytes(config: config_lib.TrainConfig, cfg: parameters.ModelConfig, mesh: Mesh) -> int:
    """Of all slots, on one chip."""
    kernel = network_lib.pick_kernel(config.model, cfg, mesh)
    shapes = shapes_lib.of_config(config, kernel, sharding.batch_devices(mesh))
    return chip_bytes(describe_cache(config, cfg, kernel, mesh, shapes).cache)


def _decoder(
    config: config_lib.TrainConfig,
    cfg: parameters.ModelConfig,
    graphdef: network_lib.GraphDef,
    mesh: Mesh,
    weights: Any,
    beside: int,
) -> dict[str, Program]:
    """What `sample` calls. The copies of the smaller sizes are left out: they need less."""
    kernel = network_lib.pick_kernel(config.model, cfg, mesh)
    shapes = shapes_lib.of_config(config, kernel, sharding.batch_devices(mesh))
    state = describe_cache(config, cfg, kernel, mesh, shapes)
    same = lambda *shape, dtype=jnp.int32: jax.ShapeDtypeStruct(
        shape, dtype, sharding=sharding.replicated(mesh)
    )
    rows = jax.ShapeDtypeStruct(
        (shapes.rows, shapes.width), jnp.int32, sharding=sharding.by_rows(mesh)
    )
    heads = "tensor" if cfg.num_kv_heads % mesh.shape["tensor"] == 0 else None
    packed = jax.ShapeDtypeStruct(
        (shapes.rows, cfg.num_layers, cfg.num_kv_heads, shapes.width, cfg.head_dim),
        config.model.dtype,
        sharding=NamedSharding(mesh, P(None, None, heads, None, None)),
    )
    begin = jax.tree.map(
        lambda _: same(slots.ENTRIES), slots.Begin(slots.Entries(0, 0, 0, 0), 0, 0, 0)
    )
    key = same(2, dtype=jnp.uint32)
    drawn = structs.Sampling.of(config)
    held, cached = chip_bytes(weights), chip_bytes(state)
    found = {
        "prefill": Program(
            lambda: slots.prefill.lower(graphdef, weights, rows, rows, rows), mesh, beside + cached
        ),
        "insert": Program(
            lambda: slots.insert.lower(cfg, kernel, state, packed, packed, begin, same(), key),
            mesh,
            beside + held,
        ),
        "decode": Program(
            lambda: slots.decode.lower(
                graphdef,
                weights,
                state,
                same(),
                same(),
                same(dtype=jnp.bool_),
                stop_ids=(0,),
                sampling=drawn,
            ),
            mesh,
            beside + chip_bytes((packed, packed)),
        ),  # of questions whose answers wait
    }
    if len(shapes.sizes) > 1:
        kept = jax.ShapeDtypeStruct(
            (shapes.sizes[1],), jnp.int32, sharding=sharding.replicated(mesh)
        )
        found["shrink"] = Program(
            lambda: slots.resize.lower(cfg, kernel, state, kept, shapes.columns[-1]),
            mesh,
            beside + held,
        )
    return found
