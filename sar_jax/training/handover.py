"""Weights for scoring and decoding, from the float32 masters: cast first, then spread anew: the
half-sized copy travels.

masters, float32, RULES  --cast-->       weights, RULES             score
                         --hand_over-->  weights, DECODING_RULES    sample; where asked for, rounded to int8
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sar_jax.model import int8
from sar_jax.model.parameters import ModelConfig, Params, ParamSpec, param_specs, spec_map
from sar_jax.parallel import sharding


def make_cast(cfg: ModelConfig, mesh: Mesh, dtype: str) -> Callable[[Params], Params]:
    """`cast(masters) -> weights` of `dtype` in the same places; the masters themselves where they
    have it already."""
    shardings = sharding.param_shardings(param_specs(cfg), mesh)
    if jnp.dtype(dtype) == jnp.float32:
        return lambda masters: masters
    return jax.jit(
        lambda masters: jax.tree.map(lambda x: x.astype(dtype), masters), out_shardings=shardings
    )


def make_hand_over(
    cfg: ModelConfig, mesh: Mesh, decoding: Mesh, dtype: str
) -> Callable[[Params], Params]:
    """`hand_over(masters) -> weights` of `dtype`, or as `cfg.int8` has them, for decoding on
    `decoding` (see `sharding.decoding_mesh`)."""
    specs = param_specs(cfg)
    shardings = sharding.param_shardings(specs, decoding, sharding.DECODING_RULES)

    def lighter(masters: Params) -> Params:
        weights = jax.tree.map(
            lambda x: x.astype(dtype), masters
        )  # first: as an export has them, and `evaluate`
        return int8.rounded(weights) if cfg.int8 else weights

    if decoding == mesh:
        return (
            jax.jit(lighter, out_shardings=shardings) if cfg.int8 else make_cast(cfg, mesh, dtype)
        )

    def half_way(spec: ParamSpec) -> NamedSharding:
        """What fsdp cut stays cut, in as many parts as "tensor" has devices."""
        cut = sharding.spec_for(spec.shape, spec.axes, mesh)
        return NamedSharding(
            decoding,
            P(
                *(
                    "tensor" if axis == "fsdp" and size % decoding.shape["tensor"] == 0 else None
                    for axis, size in zip(cut, spec.shape)
                )
            ),
        )

    def hand_over(masters: Params) -> Params:
        halfway = spec_map(half_way, specs)
        return jax.lax.with_sharding_constraint(lighter(masters), halfway)

    return jax.jit(hand_over, out_shardings=shardings)
