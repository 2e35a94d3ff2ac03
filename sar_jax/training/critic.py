"""The critic of PPO: the policy's decoder, from the same checkpoint, with one number a token
instead of logits.

    specs(cfg)          its parameters: those of the decoder without a head, and value_head [D]
    value_rows(...)     packed rows -> at each answer token, the value of what stands before it
    make_loss(...)      the clipped squared error to the returns

The value head begins at 0, so the first advantages are the rewards themselves. Updates, moments,
sharding and checkpoints are those of any `learner.TrainState`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sar_jax import config as config_lib
from sar_jax.model import hf, parameters
from sar_jax.model import network as network_lib
from sar_jax.model.parameters import ModelConfig, Params, ParamSpec
from sar_jax.parallel import sharding
from sar_jax.parallel.sharding import BATCH, constrain
from sar_jax.rl import losses
from sar_jax.structs import Packed, ValueBatch
from sar_jax.training import learner

HEAD = "value_head"


class Critic(NamedTuple):
    """values: jitted, `(params, packed) -> [R, T]`; update: as `learner.make_update` gives it;
    described: its state."""

    values: Callable[[Params, Packed], Array]
    update: Callable[..., Any]
    optimizer: optax.GradientTransformation
    described: learner.TrainState


def make(config: config_lib.TrainConfig, cfg: ModelConfig, mesh: Mesh) -> Critic:
    """The critic of a run, as jitted functions and a description; nothing is loaded."""
    described = parameters.describe(specs(cfg), shardings(cfg, mesh))
    updates = config.rollout.questions // config.loss.minibatch_questions
    optimizer = learner.make_optimizer(
        dataclasses.replace(config.optimizer, lr=config.critic.lr),
        config.steps * updates,
        parameters.decays(specs(cfg)),
    )
    state = learner.describe_state(described, optimizer)
    graphdef = build(
        cfg,
        config.model.dtype,
        config.model.remat,
        network_lib.pick_kernel(config.model, cfg, mesh),
    )
    loss = make_loss(graphdef, config.critic.value_clip)
    return Critic(
        make_values(graphdef), learner.make_update(state, optimizer, loss), optimizer, state
    )


def shardings(cfg: ModelConfig, mesh: Mesh) -> Params:
    return sharding.param_shardings(specs(cfg), mesh)


def specs(cfg: ModelConfig) -> dict[str, Any]:
    """Like `parameters.param_specs`, with the value head in place of the logits' own head."""
    decoder = {name: spec for name, spec in parameters.param_specs(cfg).items() if name != "head"}
    return decoder | {HEAD: ParamSpec((cfg.embed_dim,), ("embed",), 0.0)}


def build(cfg: ModelConfig, dtype: str, remat: bool, kernel: str) -> network_lib.GraphDef:
    """The decoder's structure without a head."""
    return network_lib.build(dataclasses.replace(cfg, tied=True), dtype, remat, kernel)


def load(folder: str, cfg: ModelConfig, mesh: Mesh) -> Params:
    """The float32 parameters of a policy's folder, and a value head of zeros."""
    loaded = hf.load_params(
        folder, cfg, sharding.param_shardings(parameters.param_specs(cfg), mesh)
    )
    loaded.pop("head", None)
    zeros = jax.jit(lambda: jnp.zeros(cfg.embed_dim), out_shardings=shardings(cfg, mesh)[HEAD])
    return loaded | {HEAD: zeros()}


def value_rows(
    graphdef: network_lib.GraphDef, params: Params, packed: Packed
) -> Float[Array, "R T"]:
    """At each masked token the value, in float32, of the tokens before it; 0 elsewhere.
    Differentiable in `params`."""
    decoder = {name: value for name, value in params.items() if name != HEAD}
    hidden = network_lib.forward(
        graphdef, decoder, packed.tokens, packed.positions, packed.segment_ids
    )
    values = jnp.einsum(
        "RTD,D->RT",
        constrain(hidden, BATCH, None, None),
        params[HEAD].astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )
    return jnp.where(packed.mask, jnp.pad(values, ((0, 0), (1, 0)))[:, :-1], 0.0)


def make_values(graphdef: network_lib.GraphDef) -> Callable[[Params, Packed], Array]:
    """The jitted `values(params, packed) -> [R, T]`."""
    return jax.jit(functools.partial(value_rows, graphdef))


def make_loss(graphdef: network_lib.GraphDef, clip: float) -> learner.LossFn:
    """The loss of a `ValueBatch`; scale = 1 / tokens in the mini-batch."""

    def loss_fn(params, batch: ValueBatch, scale):
        values = value_rows(graphdef, params, batch.packed)
        per_token, clipped = losses.clipped_value_loss(
            values, batch.old_values, batch.returns, clip
        )
        total = lambda x: jnp.sum(jnp.where(batch.packed.mask, x, 0.0))
        return scale * total(per_token), {"clip_ratio": total(clipped)}

    return loss_fn
