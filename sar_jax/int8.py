"""Weights of eight bits for decoding: the matrices of the layers as integers, with a scale for each of their outputs.

    W ~ Q s     s = max |W| / 127 over the inputs of an output, Q = round(W / s)
    x W ~ (x Q) s

Half the bytes of bfloat16 in memory and for every decoded token. Embeddings, head, norms and biases stay. Answers are then
drawn from a slightly other distribution than the one that is scored: `loss.importance_cap` weighs each token by the ratio.
"""

import dataclasses

import jax.numpy as jnp

from sar_jax.parameters import MATRICES, ModelConfig, Params


def described(cfg: ModelConfig, weights_dtype: str) -> ModelConfig:
    """The model as the decoder has it. weights_dtype: "" or "int8", as in `config.rollout`."""
    return dataclasses.replace(cfg, int8=weights_dtype == "int8")


def rounded(params: Params) -> Params:
    """The tree that `parameters.param_specs` describes where `cfg.int8` is set; what is no matrix stays as it is."""
    layers = dict(params["layers"])
    for name in MATRICES:
        weight = layers[name].astype(jnp.float32)
        inputs = tuple(range(1, 1 + MATRICES[name]))
        scale = jnp.abs(weight).max(axis=inputs, keepdims=True) / 127
        whole = jnp.round(weight / jnp.where(scale == 0, 1, scale))
        layers |= {name: whole.astype(jnp.int8), f"{name}_scale": scale.squeeze(inputs)}
    return params | {"layers": layers}
