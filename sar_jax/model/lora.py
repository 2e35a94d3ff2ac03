"""Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): the base stays frozen, and a product of
two thin matrices learns.

    y = x W + (alpha / rank) (x A) B            A random, B zero: training begins at the base model

    adapted(cfg, config.lora)    the description of the model with adapters; its parameters are those of
    merged(base, adapters)       the base's tree with the adapters in it: what score and update run on
    folded(cfg, base, adapters)  W + (alpha / rank) A B, a tree of the base model: what decoding, export and evaluation use

The adapters of a matrix `q_proj` are `q_proj_a` [L, its inputs, rank] and `q_proj_b` [L, rank, its
outputs]. The base is kept in the compute dtype, and is the reference too."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import parameters
from sar_jax.model.parameters import Adapter, ModelConfig, Params


def adapted(cfg: ModelConfig, lora: config_lib.Lora) -> ModelConfig:
    """The model with adapters. Raises `UserError` where a target is no matrix of its layers."""
    targets = tuple(name.strip() for name in lora.targets.split(",") if name.strip())
    known = [name for name in parameters.MATRICES if name in parameters.param_specs(cfg)["layers"]]
    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        raise UserError(
            f"config.lora.targets is {lora.targets!r}: it must be a list of {', '.join(known)}"
        )
    return dataclasses.replace(cfg, adapter=Adapter(lora.rank, lora.alpha / lora.rank, targets))


def specs(cfg: ModelConfig) -> dict[str, Any]:
    """The adapters alone, as `ParamSpec`s in the places that they have in the whole tree."""
    base = parameters.param_specs(dataclasses.replace(cfg, adapter=None))["layers"]
    return {
        "layers": {n: s for n, s in parameters.param_specs(cfg)["layers"].items() if n not in base}
    }


def init(cfg: ModelConfig, key: jax.Array) -> Params:
    """Adapters that change nothing yet: A is random with variance 1 / inputs, B is 0."""
    names = specs(cfg)["layers"]
    keys = jax.random.split(key, len(names))
    draw = lambda spec, k: (
        spec.scale * jax.random.normal(k, spec.shape) if spec.scale else jnp.zeros(spec.shape)
    )
    return {"layers": {name: draw(spec, k) for (name, spec), k in zip(names.items(), keys)}}


def merged(base: Params, adapters: Params) -> Params:
    """One tree of both; no array is copied."""
    return (
        base | {"layers": base["layers"] | adapters["layers"]}
        if adapters and base
        else base or adapters
    )


def folded(cfg: ModelConfig, base: Params, adapters: Params) -> Params:
    """The base's tree, with each target's product added in float32 and rounded to the base's
    dtype."""
    layers = dict(base["layers"])
    for name in cfg.adapter.targets:
        weight = layers[name]
        a, b = (adapters["layers"][f"{name}_{part}"].astype(jnp.float32) for part in "ab")
        L, rank = a.shape[0], a.shape[-1]
        product = jnp.einsum(
            "lir,lro->lio", a.reshape(L, -1, rank), b.reshape(L, rank, -1)
        ).reshape(weight.shape)
        layers[name] = (weight.astype(jnp.float32) + cfg.adapter.scale * product).astype(
            weight.dtype
        )
    return base | {"layers": layers}
