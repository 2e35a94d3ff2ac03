"""Low-rank adapters: the base stays frozen, and products of two thin matrices learn.

    y = x W + (alpha / rank) (x A) B      A random, B zero: training begins at the base model

    adapted(cfg, config.lora)      the description of the model with adapters
    merged(base, adapters)         its parameters, the base's tree with the adapters in it: what
                                   score and update run on
    folded(cfg, base, adapters)    W + (alpha / rank) A B, a tree of the base model: what decoding,
                                   export and evaluation use

LoRA, Hu et al., arXiv 2106.09685. The adapters of a matrix `q_proj` are `q_proj_a` [L, its inputs,
rank] and `q_proj_b` [L, rank, its outputs]. The base is kept in the compute dtype, and is the
reference too.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import parameters
from sar_jax.model.parameters import Adapter, ModelConfig, Params, ParamSpec


def adapted(cfg: ModelConfig, lora: config_lib.Lora) -> ModelConfig:
    """The model with adapters.

    Raises `UserError` where a target is no matrix of its layers, and for a rank that no target can
    have.
    """
    targets = tuple(name.strip() for name in lora.targets.split(",") if name.strip())
    known = [name for name in parameters.MATRICES if name in parameters.param_specs(cfg)["layers"]]
    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        raise UserError(
            f"config.lora.targets is {lora.targets!r}: it must name one or more of "
            f"{', '.join(known)}, separated by commas"
        )
    largest = max(_full_rank(cfg, name) for name in targets)
    if lora.rank > largest:
        raise UserError(
            f"config.lora.rank is {lora.rank}: no matrix of config.lora.targets has a rank above "
            f"{largest}, the smaller of its sides"
        )
    return dataclasses.replace(cfg, adapter=Adapter(lora.rank, lora.alpha / lora.rank, targets))


def _full_rank(cfg: ModelConfig, name: str) -> int:
    """The smaller side of a layer's matrix."""
    shape, inputs = parameters.param_specs(cfg)["layers"][name].shape, parameters.MATRICES[name]
    return min(math.prod(shape[1 : 1 + inputs]), math.prod(shape[1 + inputs :]))


def specs(cfg: ModelConfig) -> dict[str, Any]:
    """The adapters alone, as `ParamSpec`s in the places that they have in the whole tree."""
    base = parameters.param_specs(dataclasses.replace(cfg, adapter=None))["layers"]
    whole = parameters.param_specs(cfg)["layers"]
    return {"layers": {name: spec for name, spec in whole.items() if name not in base}}


def init(cfg: ModelConfig, key: jax.Array) -> Params:
    """Adapters that change nothing yet: A is random with variance 1 / inputs, B is 0."""
    described = specs(cfg)["layers"]
    keys = jax.random.split(key, len(described))

    def draw(spec: ParamSpec, key: jax.Array) -> jax.Array:
        if not spec.scale:
            return jnp.zeros(spec.shape)
        return spec.scale * jax.random.normal(key, spec.shape)

    return {"layers": {name: draw(spec, k) for (name, spec), k in zip(described.items(), keys)}}


def merged(base: Params, adapters: Params) -> Params:
    """One tree of both, either of which may be empty; no array is copied."""
    if not adapters or not base:
        return base or adapters
    return base | {"layers": base["layers"] | adapters["layers"]}


def folded(cfg: ModelConfig, base: Params, adapters: Params) -> Params:
    """The base's tree, with each target's product added.

    The sum is of float32, and rounded to the base's dtype.
    """
    layers = dict(base["layers"])
    for name in cfg.adapter.targets:
        weight = layers[name]
        a, b = (adapters["layers"][f"{name}_{part}"].astype(jnp.float32) for part in "ab")
        L, rank = a.shape[0], a.shape[-1]
        a, b = a.reshape(L, -1, rank), b.reshape(L, rank, -1)
        product = jnp.einsum("lir,lro->lio", a, b).reshape(weight.shape)
        total = weight.astype(jnp.float32) + cfg.adapter.scale * product
        layers[name] = total.astype(weight.dtype)
    return base | {"layers": layers}
