"""One optimizer update over micro-batches of packed rows: pure functions over a `TrainState`.

    sums  = 0
    sums += gradient and metrics of each micro-batch   accumulate: jitted, one shape, sums donated
    state = apply(state, sums)                         clip, AdamW, skip if not finite; donated

A loss is a sum over tokens times one scale that is known before the first micro-batch, so the
gradient does not depend on how the rows were cut into micro-batches or spread over devices.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sar_jax import config as config_lib
from sar_jax.model import lora, parameters
from sar_jax.model.network import Network
from sar_jax.rl import losses
from sar_jax.structs import Batch, Packed
from sar_jax.training.score import score_rows


class TrainState(NamedTuple):
    """Something that learns.

    params      float32 master weights
    opt_state   of the optimizer
    updates     applied so far
    skipped     updates that were left out, since the gradient was not finite
    """

    params: parameters.Params
    opt_state: Any
    updates: Int[Array, ""]
    skipped: Int[Array, ""]


class States(NamedTuple):
    """Everything that learns. critic: None without one."""

    policy: TrainState
    critic: TrainState | None


Metrics = dict[str, Float[Array, ""]]
Sums = tuple[parameters.Params, Metrics]  # of gradients and metrics over tokens
# (params, micro-batch, scale) -> (scaled loss, sums of metrics over tokens)
LossFn = Callable[[parameters.Params, Any, Float[Array, ""]], tuple[Float[Array, ""], Metrics]]


def make_optimizer(
    cfg: config_lib.Optimizer, total_updates: int, decay_mask: Any
) -> optax.GradientTransformation:
    """AdamW on gradients clipped to a global norm; see `config.Optimizer` for the schedule.

    total_updates   of the whole run: the cosine ends there
    decay_mask      a tree like the parameters, True where weight decay acts
    """
    warmup = cfg.warmup_updates
    schedule = optax.cosine_decay_schedule(
        cfg.lr, max(total_updates - warmup, 1), cfg.final_lr_fraction
    )
    if warmup:
        rise = optax.linear_schedule(cfg.lr / warmup, cfg.lr, max(warmup - 1, 1))
        schedule = optax.join_schedules([rise, schedule], [warmup])
    adamw = optax.adamw(
        schedule,
        cfg.b1,
        cfg.b2,
        cfg.eps,
        mu_dtype=cfg.mu_dtype,
        weight_decay=cfg.weight_decay,
        mask=decay_mask,
    )
    return optax.chain(optax.clip_by_global_norm(cfg.clip_norm), adamw)


def describe_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state's shapes, dtypes and shardings without its memory; moments are sharded like params.

    params   arrays, or anything else whose leaves have shape, dtype and sharding
    """
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    params = jax.tree.map(lambda p: place(p, p.sharding), params)
    scalar = _scalar_sharding(params)
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


@dataclasses.dataclass(frozen=True)
class Update:
    """One optimizer update over micro-batches, as three jitted functions; `described`: its state.

    zeros        (params, micro-batch, scale, frozen) -> sums
    accumulate   (params, sums, micro-batch, scale, frozen) -> sums; donates the sums
    apply        (state, gradient) -> state, gradient norm before clipping; donates the state

    Sums are the gradient and the metrics, both summed over tokens. `frozen`: parameters that the
    loss needs and that do not learn (the base of `lora`).
    """

    described: TrainState
    zeros: Callable[..., Sums]
    accumulate: Callable[..., Sums]
    apply: Callable[..., tuple[TrainState, Array]]

    def __call__(
        self,
        state: TrainState,
        microbatches: Sequence[Any],
        scale: float,
        frozen: parameters.Params | None = None,
    ) -> tuple[TrainState, Metrics]:
        """The new state and the metrics; donates the old state.

        scale   what each micro-batch's sum over tokens is multiplied by, the same for all

        Metrics `loss` and `grad_norm` (before clipping) are final; the others are sums over tokens,
        as the loss gave them.
        """
        scale, frozen = jnp.float32(scale), frozen or {}
        sums = self.zeros(state.params, microbatches[0], scale, frozen)
        for microbatch in microbatches:
            sums = self.accumulate(state.params, sums, microbatch, scale, frozen)
        gradient, metrics = sums
        state, norm = self.apply(state, gradient)
        return state, {**metrics, "grad_norm": norm}

    def warm(
        self, params: parameters.Params, microbatch: Any, frozen: parameters.Params | None = None
    ) -> None:
        """Compiles for a micro-batch of this shape, and drops what comes of it."""
        scale, frozen = jnp.float32(1), frozen or {}
        sums = self.zeros(params, microbatch, scale, frozen)
        jax.block_until_ready(self.accumulate(params, sums, microbatch, scale, frozen))


def make_update(
    described: TrainState, optimizer: optax.GradientTransformation, loss_fn: LossFn
) -> Update:
    """The update of a loss. described: a state, or its description; only shardings are read."""

    def loss_of(params, frozen, *rest):
        loss, metrics = loss_fn(lora.merged(frozen, params), *rest)
        return loss, {"loss": loss, **metrics}

    def zeros(params, microbatch, scale, frozen):
        metrics = jax.eval_shape(loss_of, params, frozen, microbatch, scale)[1]
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (params, metrics))

    def add(params, sums, microbatch, scale, frozen):
        # The backward pass adds each layer's gradient to the sums where they are: there is no
        # second stack of gradients.
        gradient = jax.tree.map(jax.new_ref, sums[0])
        loss, vjp, metrics = jax.vjp(
            lambda p: loss_of(p, frozen, microbatch, scale), params, has_aux=True
        )
        vjp.with_refs(gradient)(jnp.ones_like(loss))
        return jax.tree.map(jax.freeze, gradient), jax.tree.map(jnp.add, sums[1], metrics)

    def apply(state: TrainState, gradient):
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(params, opt_state, state.updates + 1, state.skipped)
        old = state._replace(skipped=state.skipped + 1)
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old), norm

    param_shardings = jax.tree.map(lambda p: p.sharding, described.params)
    state_shardings = jax.tree.map(lambda p: p.sharding, described)
    scalar = _scalar_sharding(described.params)
    sums_shardings = (param_shardings, scalar)
    return Update(
        described,
        zeros=jax.jit(zeros, out_shardings=sums_shardings),
        accumulate=jax.jit(add, donate_argnums=1, out_shardings=sums_shardings),
        apply=jax.jit(apply, donate_argnums=0, out_shardings=(state_shardings, scalar)),
    )


def make_policy_loss(network: Network, cfg: config_lib.Loss, chunk: int) -> LossFn:
    """The clipped policy loss with KL on a `Batch`.

    chunk   vocabulary entries whose logits exist at once

    Its scale is 1 / `losses.DIVISORS[cfg.average]` of the mini-batch.
    """
    make_log_ratio, weigh = losses.LOG_RATIOS[cfg.ratio], losses.TOKEN_WEIGHTS[cfg.average]
    estimate_kl = losses.KL_ESTIMATORS[cfg.kl_estimator]

    def loss_fn(params, batch: Batch, scale):
        segments, mask = batch.packed.segment_ids, batch.packed.mask
        total = lambda x: jnp.sum(jnp.where(mask, x, 0.0))
        logps = score_rows(network, params, batch.packed, chunk).logps
        log_ratio = make_log_ratio(logps - batch.old_logps, segments, mask)
        per_token, clipped = losses.clipped_policy_loss(
            log_ratio, batch.advantages, cfg.clip_low, cfg.clip_high, cfg.dual_clip
        )
        kl = estimate_kl(logps, batch.ref_logps) if cfg.kl else jnp.zeros_like(logps)
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
            metrics["importance/weight"] = total(weights)
            metrics["importance/capped"] = total(weights >= cfg.importance_cap)
        return scale * total(weigh(per_token + cfg.kl * kl, segments, mask)), metrics

    return loss_fn


def make_supervised_loss(network: Network, chunk: int) -> LossFn:
    """Next-token cross-entropy on the answers of `Packed` rows; scale = 1 / tokens in the batch."""

    def loss_fn(params, packed: Packed, scale):
        logps = score_rows(network, params, packed, chunk).logps
        return -scale * jnp.sum(logps), {}

    return loss_fn
