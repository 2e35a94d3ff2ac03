"""Weights for scoring and decoding, from the float32 masters.

    masters, float32, RULES  --cast-->       weights, RULES             score
                             --hand_over-->  weights, DECODING_RULES    sample; int8 where asked for

They are cast first and spread over the devices afterwards, so that the half-sized copy travels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sar_jax.model import int8
from sar_jax.model.parameters import ModelConfig, Params, ParamSpec, param_specs, spec_map
from sar_jax.parallel import sharding

Cast = Callable[[Params], Params]


def make_cast(specs: Any, mesh: Mesh, dtype: str) -> Cast | None:
    """The jitted `cast(masters) -> weights` of `dtype` in the same places.

    specs   of the masters, as `parameters.param_specs` gives them

    None for float32: the masters serve as they are.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return None
    shardings = sharding.param_shardings(specs, mesh)

    def cast(masters: Params) -> Params:
        return jax.tree.map(lambda x: x.astype(dtype), masters)

    return jax.jit(cast, out_shardings=shardings)


def make_hand_over(cfg: ModelConfig, mesh: Mesh, decoding: Mesh, dtype: str) -> Cast | None:
    """The jitted `hand_over(masters) -> weights` for decoding on the mesh `decoding`.

    cfg     the model as the decoder has it: `cfg.int8` rounds the matrices
    mesh    where the masters are
    dtype   of the weights that are not rounded

    None where decoding needs no other weights than scoring does.
    """
    if decoding == mesh and not cfg.int8:
        return None
    specs = param_specs(cfg)
    shardings = sharding.param_shardings(specs, decoding, sharding.DECODING_RULES)

    def lighter(masters: Params) -> Params:
        # cast first: the weights as an export has them, and `evaluate`
        weights = jax.tree.map(lambda x: x.astype(dtype), masters)
        return int8.rounded(weights) if cfg.int8 else weights

    if decoding == mesh:
        return jax.jit(lighter, out_shardings=shardings)

    def half_way(spec: ParamSpec) -> NamedSharding:
        """What fsdp cut stays cut, in as many parts as "tensor" has devices."""
        parts = decoding.shape["tensor"]
        cut = sharding.spec_for(spec.shape, spec.axes, mesh)
        stays = lambda axis, size: axis == "fsdp" and size % parts == 0
        axes = ("tensor" if stays(axis, size) else None for axis, size in zip(cut, spec.shape))
        return NamedSharding(decoding, P(*axes))

    def hand_over(masters: Params) -> Params:
        halfway = spec_map(half_way, specs)
        return jax.lax.with_sharding_constraint(lighter(masters), halfway)

    return jax.jit(hand_over, out_shardings=shardings)
