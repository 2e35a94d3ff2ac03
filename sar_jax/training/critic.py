"""The critic of PPO: the policy's decoder with one number a token instead of logits.

    specs(cfg)        its parameters: those of the decoder without a head, and value_head [D]
    value_rows(...)   packed rows -> at each answer token, the value of what is before it
    make_loss(...)    the clipped squared error to the returns

Its decoder begins from the policy's checkpoint, and its value head at 0, so the first advantages
are the rewards themselves. Updates, moments, sharding and checkpoints are those of any
`learner.TrainState`.
"""

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
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig, Params, ParamSpec
from sar_jax.parallel import sharding
from sar_jax.parallel.sharding import BATCH, constrain
from sar_jax.rl import losses
from sar_jax.structs import Packed, ValueBatch
from sar_jax.training import learner
from sar_jax.training.settings import derived

HEAD = "value_head"
Values = Callable[[Params, Packed], Float[Array, "R T"]]


class Critic(NamedTuple):
    """The jitted functions of a critic; `update.described` is its state."""

    values: Values
    update: learner.Update
    optimizer: optax.GradientTransformation


def make(config: config_lib.TrainConfig, network: Network, mesh: Mesh) -> Critic:
    """The critic of a run; nothing is loaded. network: the policy's, without adapters."""
    own = specs(network.cfg)
    optimizer = learner.make_optimizer(
        dataclasses.replace(config.optimizer, lr=config.critic.lr),
        derived.total_updates(config),
        parameters.decays(own),
    )
    described = parameters.describe(own, shardings(network.cfg, mesh))
    update = learner.make_update(
        learner.describe_state(described, optimizer),
        optimizer,
        make_loss(network, config.critic.value_clip),
    )
    return Critic(make_values(network), update, optimizer)


def shardings(cfg: ModelConfig, mesh: Mesh) -> Params:
    """Of the critic's parameters."""
    return sharding.param_shardings(specs(cfg), mesh)


def specs(cfg: ModelConfig) -> dict[str, Any]:
    """Like `parameters.param_specs`, with the value head in place of the logits' own head."""
    decoder = {name: spec for name, spec in parameters.param_specs(cfg).items() if name != "head"}
    return decoder | {HEAD: ParamSpec((cfg.embed_dim,), ("embed",), 0.0)}


def load(folder: str, cfg: ModelConfig, mesh: Mesh) -> Params:
    """The float32 parameters of a policy's folder, and a value head of zeros."""
    loaded = hf.load_params(
        folder, cfg, sharding.param_shardings(parameters.param_specs(cfg), mesh)
    )
    loaded.pop("head", None)
    own = shardings(cfg, mesh)[HEAD]
    zeros = jax.jit(lambda: jnp.zeros(cfg.embed_dim), out_shardings=own)
    return loaded | {HEAD: zeros()}


def value_rows(network: Network, params: Params, packed: Packed) -> Float[Array, "R T"]:
    """At each masked token the value, in float32, of the tokens before it; 0 elsewhere.

    Differentiable in `params`.
    """
    hidden = network_lib.forward(
        network, params, packed.tokens, packed.positions, packed.segment_ids
    )
    hidden = constrain(hidden, BATCH, None, None)
    head = params[HEAD].astype(hidden.dtype)
    values = jnp.einsum("RTD,D->RT", hidden, head, preferred_element_type=jnp.float32)
    return jnp.where(packed.mask, jnp.pad(values, ((0, 0), (1, 0)))[:, :-1], 0.0)


def make_values(network: Network) -> Values:
    """The jitted `values(params, packed)`."""
    return jax.jit(functools.partial(value_rows, network))


def make_loss(network: Network, clip: float) -> learner.LossFn:
    """The loss of a `ValueBatch`; its scale is 1 / tokens in the mini-batch.

    clip   a value may move at most this far from what it was before the step
    """

    def loss_fn(params, batch: ValueBatch, scale):
        values = value_rows(network, params, batch.packed)
        per_token, clipped = losses.clipped_value_loss(
            values, batch.old_values, batch.returns, clip
        )
        total = lambda x: jnp.sum(jnp.where(batch.packed.mask, x, 0.0))
        return scale * total(per_token), {"clip_ratio": total(clipped)}

    return loss_fn
