"""Every jitted function of a training run, described by shapes alone, so that it can be compiled before anything exists.

    name        arguments                              what else lies in memory meanwhile
    hand_over   masters -> decoding weights            moments, reference
    sample      decoding weights, prompts              masters, moments, reference
    evaluate    the same, greedy, one answer each      masters, moments, reference
    cast        masters -> weights                     moments, reference
    score       weights (or reference), packed rows    masters, moments, reference (or weights)
    gradient    masters, gradient sums, packed rows    moments, reference
    apply       masters, moments, gradient sums        reference

masters: the float32 parameters; weights: their copies in the compute dtype, which decode and score. The order is a step's.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sar_jax import config as config_lib
from sar_jax import handover, learner, model, parameters, sample, score, sharding
from sar_jax.structs import Batch, Packed


class Program(NamedTuple):
    """lower: traces the function, under `mesh`; beside: bytes a chip that lie in memory beside its arguments."""
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


def chip_bytes(tree: Any) -> int:
    """Bytes on one chip of described arrays with shardings."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def describe(config: config_lib.TrainConfig, cfg: parameters.ModelConfig, mesh: Mesh,
             ) -> tuple[dict[str, Program], Residents]:
    """The programs of a run of `config` on `mesh`, whose devices need not exist, and what stays in memory between them."""
    dtype, specs = jnp.dtype(config.model.dtype), parameters.param_specs(cfg)
    decoding = sharding.decoding_mesh(mesh, config.rollout.tensor, cfg.num_kv_heads)
    shardings = sharding.param_shardings(specs, mesh)
    masters, weights = (parameters.describe_params(cfg, shardings, d) for d in (jnp.float32, dtype))
    decoding_weights = parameters.describe_params(
        cfg, sharding.param_shardings(specs, decoding, sharding.DECODING_RULES), dtype)
    graphdef = model.build(cfg, config.model.dtype, config.model.remat, model.pick_kernel(config.model.attention, mesh))
    optimizer = learner.make_optimizer(config.optimizer, config.steps, parameters.decayed(cfg))
    state = learner.describe_state(masters, optimizer)
    chunk = config.packing.logprob_chunk
    update = learner.make_update(state, optimizer, learner.make_policy_loss(graphdef, config.loss, chunk))
    packed, batch = _rows(config, mesh)
    scalar = lambda kind: jax.ShapeDtypeStruct((), kind, sharding=sharding.replicated(mesh))
    metrics = jax.eval_shape(update.parts["zeros"], masters, batch, scalar(jnp.float32))[1]
    sums = (masters, jax.tree.map(lambda x: scalar(x.dtype), metrics))
    copied = dtype != jnp.float32
    residents = Residents(
        masters=chip_bytes(masters), moments=chip_bytes(state.opt_state),
        reference=chip_bytes(weights) if config.loss.kl else 0, weights=chip_bytes(weights) if copied else 0,
        decoding_weights=chip_bytes(decoding_weights), gradients=chip_bytes(masters))
    behind = residents.moments + residents.reference
    scorer = score.make_score(graphdef, chunk)
    decode = lambda samples, questions: sample.make_sample(
        graphdef, (0,), samples, config.rollout.max_answer_tokens, greedy=samples == 1).lower(
            decoding_weights, *_prompts(config, decoding, questions))
    hand_over = handover.make_hand_over(cfg, mesh, decoding, config.model.dtype)
    cast = handover.make_cast(cfg, mesh, config.model.dtype)
    programs = {
        "sample": Program(lambda: decode(config.rollout.samples, config.rollout.batch), decoding,
                          behind + residents.masters),
        "evaluate": Program(lambda: decode(1, config.evaluation.batch), decoding, behind + residents.masters),
        "score": Program(lambda: scorer.lower(weights, packed), mesh, behind + residents.masters * copied),
        "gradient": Program(lambda: update.parts["accumulate"].lower(masters, sums, batch, scalar(jnp.float32)), mesh,
                            behind),
        "apply": Program(lambda: update.parts["apply"].lower(state, masters), mesh, residents.reference),
    }
    if decoding != mesh:
        programs = {"hand_over": Program(lambda: hand_over.lower(masters), mesh, behind)} | programs
    if hasattr(cast, "lower"):
        programs["cast"] = Program(lambda: cast.lower(masters), mesh, behind)
    return programs, residents


def _rows(config: config_lib.TrainConfig, mesh: Mesh) -> tuple[Packed, Batch]:
    """A micro-batch."""
    shape = (config.packing.rows_per_microbatch, config.packing.row_tokens)
    grid = lambda dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.rows(mesh))
    packed = Packed(grid(jnp.int32), grid(jnp.int32), grid(jnp.int32), grid(jnp.bool_))
    sampling = grid(jnp.float32) if config.loss.importance_cap else None
    return packed, Batch(packed, grid(jnp.float32), grid(jnp.float32), grid(jnp.float32), sampling)


def _prompts(config: config_lib.TrainConfig, mesh: Mesh, questions: int) -> tuple[Any, ...]:
    """Prompts, lengths, numbers and key, as `experience` and `generate` hand them to the decoder."""
    rows = sharding.rows(mesh)
    ids = lambda *shape: jax.ShapeDtypeStruct((questions, *shape), jnp.int32, sharding=rows)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return (ids(config.data.max_prompt_tokens), ids(), ids(),
            jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh)))
