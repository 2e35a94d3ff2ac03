"""Eight bits for decoding.

Weights: the matrices of the layers as integers, with a scale for each of their outputs.

    W ~ Q s     s = max |W| / 127 over the inputs of an output, Q = round(W / s)
    x W ~ (x Q) s

Half the bytes of bfloat16 in memory and for every decoded token. Embeddings, head, norms and biases
stay. Answers are then drawn from a slightly different distribution from the one that is scored:
`loss.importance_cap` weighs each token by the ratio.

Cache: each token's keys and values in the same way, with a scale for each kv head (`rows`).
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from sar_jax.model.parameters import MATRICES, ModelConfig, Params


def described(cfg: ModelConfig, weights_dtype: str) -> ModelConfig:
    """The model as the decoder has it. weights_dtype: "" or "int8", as in `config.rollout`."""
    return dataclasses.replace(cfg, int8=weights_dtype == "int8")


def rounded(params: Params) -> Params:
    """The tree that `parameters.param_specs` describes where `cfg.int8` is set.

    What is no matrix of the layers stays as it is.
    """
    layers = dict(params["layers"])
    for name in MATRICES:
        inputs = tuple(range(1, 1 + MATRICES[name]))
        whole, scale = _nearest(layers[name], inputs)
        layers |= {name: whole, f"{name}_scale": scale.squeeze(inputs)}
    return params | {"layers": layers}


def rows(x: Float[Array, "... H"]) -> tuple[Int8[Array, "... H"], Float[Array, "... 1"]]:
    """The last axis as integers, and the scale, in float32, that they are multiplied by."""
    return _nearest(x, -1)


def _nearest(x: Array, axes: int | tuple[int, ...]) -> tuple[Array, Array]:
    x = x.astype(jnp.float32)
    scale = jnp.abs(x).max(axis=axes, keepdims=True) / 127
    return jnp.round(x / jnp.where(scale == 0, 1, scale)).astype(jnp.int8), scale
