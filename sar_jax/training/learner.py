"""One optimizer update over micro-batches of packed rows: pure functions over a `TrainState`.

    sums  = 0
    sums += gradient and metric sums of each micro-batch       accumulate, jitted, one shape; sums donated
    state = apply(state, sums)                                 clip, AdamW, skip if not finite; state donated

A loss is a sum over tokens times one scale that is known before the first micro-batch, so the
gradient does not depend on how the rows were cut into micro-batches or spread over devices."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sar_jax import config as config_lib
from sar_jax.model import lora, parameters
from sar_jax.model import network as network_lib
from sar_jax.rl import losses
from sar_jax.structs import Batch, Packed
from sar_jax.training.score import score_rows


class TrainState(NamedTuple):
    """params: float32 master weights; updates: applied so far; skipped: updates left out, gradient
    not finite."""

    params: parameters.Params
    opt_state: Any
    updates: Int[Array, ""]
    skipped: Int[Array, ""]


class States(NamedTuple):
    """Everything that learns. critic: None without one."""

    policy: TrainState
    critic: TrainState | None


Metrics = dict[str, Float[Array, ""]]
# (params, micro-batch, scale) -> (scaled loss, sums of metrics over tokens)
LossFn = Callable[[parameters.Params, Any, Float[Array, ""]], tuple[Float[Array, ""], Metrics]]


def make_optimizer(
    cfg: config_lib.Optimizer, total_updates: int, decay_mask: Any
) -> optax.GradientTransformation:
    """AdamW on gradients clipped to a global norm; see `config.Optimizer` for the schedule."""
    rise = optax.linear_schedule(
        cfg.lr / max(cfg.warmup_updates, 1), cfg.lr, max(cfg.warmup_updates - 1, 1)
    )
    fall = optax.cosine_decay_schedule(
        cfg.lr, max(total_updates - cfg.warmup_updates, 1), cfg.final_lr_fraction
    )
    schedule = (
        optax.join_schedules([rise, fall], [cfg.warmup_updates]) if cfg.warmup_updates else fall
    )
    return optax.chain(
        optax.clip_by_global_norm(cfg.clip_norm),
        optax.adamw(
            schedule,
            cfg.b1,
            cfg.b2,
            cfg.eps,
            mu_dtype=cfg.mu_dtype,
            weight_decay=cfg.weight_decay,
            mask=decay_mask,
        ),
    )


def describe_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state's shapes, dtypes and shardings without its memory; moments are sharded like the
    parameters.

    `params`: arrays, or anything else whose leaves have shape, dtype and sharding.
    """
    params = jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding), params
    )
    scalar = _scalar_sharding(params)
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    opt_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda x, p: place(x, p.sharding),
        jax.eval_shape(optimizer.init, params),
        params,
        transform_non_params=lambda x: place(x, scalar),
    )
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=scalar)
    return TrainState(params, opt_state, count, count)


def init_state(params: parameters.Params, optimizer: optax.GradientTransformation) -> TrainState:
    """A state at update 0."""
    shardings = jax.tree.map(lambda x: x.sharding, describe_state(params, optimizer))
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(params)
    zero = lambda sharding: jax.device_put(np.zeros((), np.int32), sharding)
    return TrainState(params, opt_state, zero(shardings.updates), zero(shardings.skipped))


def _scalar_sharding(params: Any) -> jax.sharding.Sharding:
    sharding = jax.tree.leaves(params)[0].sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return sharding


def make_update(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    loss_fn: LossFn,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """`update(state, micro-batches, scale, frozen={}) -> state, metrics`; the update donates its
    state.

    `frozen`: parameters beside the state's that `loss_fn` needs and that do not learn (the base of
    `sar_jax.model.lora`).

    `state`: a state, or its description; only the shardings are read.

    Metrics: `loss` and `grad_norm` (before clipping) are final; the others are sums over tokens, as
    `loss_fn` gave them."""
    param_shardings = jax.tree.map(lambda p: p.sharding, state.params)
    state_shardings = jax.tree.map(lambda p: p.sharding, state)

    def loss_of(params, frozen, *rest):
        loss, metrics = loss_fn(lora.merged(frozen, params), *rest)
        return loss, {"loss": loss, **metrics}

    def zeros(params, microbatch, scale, frozen):
        metrics = jax.eval_shape(loss_of, params, frozen, microbatch, scale)[1]
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (params, metrics))

    def add(params, sums, microbatch, scale, frozen):
        # The backward pass adds each layer's gradient to the sums where they are: there is no
        # second stack of gradients.
        grads = jax.tree.map(jax.new_ref, sums[0])
        loss, vjp, metrics = jax.vjp(
            lambda p: loss_of(p, frozen, microbatch, scale), params, has_aux=True
        )
        vjp.with_refs(grads)(jnp.ones_like(loss))
        return jax.tree.map(jax.freeze, grads), jax.tree.map(jnp.add, sums[1], metrics)

    sums_shardings = (param_shardings, _scalar_sharding(state.params))
    zeros = jax.jit(zeros, out_shardings=sums_shardings)
    accumulate = jax.jit(add, donate_argnums=1, out_shardings=sums_shardings)

    def apply(state: TrainState, grads):
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        new = TrainState(
            optax.apply_updates(state.params, updates), opt_state, state.updates + 1, state.skipped
        )
        old = state._replace(skipped=state.skipped + 1)
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old), norm

    apply = jax.jit(
        apply, donate_argnums=0, out_shardings=(state_shardings, _scalar_sharding(state.params))
    )

    def update(
        state: TrainState,
        microbatches: Sequence[Any],
        scale: float,
        frozen: Any = None,
    ) -> tuple[TrainState, Metrics]:
        scale, frozen = jnp.float32(scale), frozen or {}
        sums = zeros(state.params, microbatches[0], scale, frozen)
        for microbatch in microbatches:
            sums = accumulate(state.params, sums, microbatch, scale, frozen)
        grads, metrics = sums
        state, norm = apply(state, grads)
        return state, {**metrics, "grad_norm": norm}

    update.parts = {"zeros": zeros, "accumulate": accumulate, "apply": apply}
    return update


def make_policy_loss(graphdef: network_lib.GraphDef, cfg: config_lib.Loss, chunk: int) -> LossFn:
    """The clipped policy loss with KL on a `Batch`; scale = 1 / `losses.DIVISORS[cfg.average]` of
    the mini-batch."""
    make_log_ratio, weigh = losses.LOG_RATIOS[cfg.ratio], losses.TOKEN_WEIGHTS[cfg.average]
    estimate_kl = losses.KL_ESTIMATORS[cfg.kl_estimator]

    def loss_fn(params, batch: Batch, scale):
        logps = score_rows(graphdef, params, batch.packed, chunk).logps
        segments, mask = batch.packed.segment_ids, batch.packed.mask
        log_ratio = make_log_ratio(logps - batch.old_logps, segments, mask)
        per_token, clipped = losses.clipped_policy_loss(
            log_ratio, batch.advantages, cfg.clip_low, cfg.clip_high, cfg.dual_clip
        )
        kl = estimate_kl(logps, batch.ref_logps) if cfg.kl else jnp.zeros_like(logps)
        total = lambda x: jnp.sum(jnp.where(mask, x, 0.0))
        metrics = {
            "clip_ratio": total(clipped),
            "kl": total(kl),
            "ratio": total(jnp.exp(log_ratio)),
        }
        if cfg.importance_cap:  # of the policy's part: the KL is no estimate of a return
            weights = losses.importance_weights(
                batch.old_logps, batch.sampling_logps, cfg.importance_cap
            )
            per_token = weights * per_token
            metrics |= {
                "importance/weight": total(weights),
                "importance/capped": total(weights >= cfg.importance_cap),
            }
        return scale * total(weigh(per_token + cfg.kl * kl, segments, mask)), metrics

    return loss_fn


def make_supervised_loss(graphdef: network_lib.GraphDef, chunk: int) -> LossFn:
    """Next-token cross-entropy on the answers of `Packed` rows; scale = 1 / tokens in the batch."""

    def loss_fn(params, packed: Packed, scale):
        logps = score_rows(graphdef, params, packed, chunk).logps
        return -scale * jnp.sum(logps), {}

    return loss_fn
