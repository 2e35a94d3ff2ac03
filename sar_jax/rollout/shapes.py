"""How much a decoder holds: the closed set of shapes that it compiles for, and whether its cache
fits.

sizes     numbers of slots: as asked for, and fewer for the last answers
columns   of a slot's cache: rising to the longest sequence
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sar_jax.config import TrainConfig, max_length
from sar_jax.errors import UserError
from sar_jax.model import cache as cache_lib
from sar_jax.model import int8, parameters
from sar_jax.model import network as network_lib
from sar_jax.parallel import sharding

BUCKETS = (4, 2, 1)  # a slot's columns grow by these fractions of the limit,
_LEAST_COLUMNS = 128  # from here on
_SHRINK = 3  # each smaller number of slots is this part of the one before,
LEAST_SLOTS = 6  # down to here


class Shapes(NamedTuple):
    """Everything that a decoder compiles for. sizes: numbers of slots, falling; columns: of a slot,
    rising (the smaller sizes have the last one only); rows, width: of the packed questions."""

    sizes: tuple[int, ...]
    columns: tuple[int, ...]
    rows: int
    width: int


def plan_shapes(
    kernel: str, slots: int, width: int, max_answer_tokens: int, devices: int
) -> Shapes:
    """slots: asked for; rounded up to what `devices`, those that share the rows, can share."""
    up = lambda count: -(-count // devices) * devices
    sizes = [up(slots)]
    while (smaller := up(sizes[-1] // _SHRINK)) >= LEAST_SLOTS and smaller <= sizes[-1] // 2:
        sizes.append(smaller)
    whole = width + max_answer_tokens
    columns = [whole]
    if cache_lib.is_apart(
        kernel
    ):  # the kernel for TPUs reads live columns only, however many there are
        columns = sorted(
            {-(-whole // n) for n in BUCKETS if whole // n >= max(_LEAST_COLUMNS, width)} | {whole}
        )
    return Shapes(tuple(sizes), tuple(columns), up(-(-cache_lib.PREFILL_TOKENS // width)), width)


def of_config(config: TrainConfig, kernel: str, devices: int) -> Shapes:
    """Of a run's decoder."""
    rollout = config.rollout
    return plan_shapes(
        kernel, rollout.slots, config.data.max_prompt_tokens, rollout.max_answer_tokens, devices
    )


def check_memory(
    config: TrainConfig, cfg: parameters.ModelConfig, mesh: Mesh, copied: bool = True
) -> None:
    """Raises `UserError` where the cache does not fit beside what is on a device now and, where
    they are `copied`, the decoder's weights, if the device says how much it has."""
    stats = mesh.local_devices[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return
    free, kernel = (
        stats["bytes_limit"] - stats.get("bytes_in_use", 0),
        network_lib.pick_kernel(config.model, cfg, mesh),
    )
    size = jnp.dtype(config.model.dtype).itemsize
    specs = jax.tree.leaves(
        parameters.param_specs(int8.described(cfg, config.rollout.weights_dtype)),
        is_leaf=lambda s: isinstance(s, parameters.ParamSpec),
    )
    weights = sum(
        math.prod(s.shape) * (jnp.dtype(s.dtype).itemsize if s.dtype else size) for s in specs
    )
    free -= copied * weights // mesh.shape["tensor"]
    check_slots(config, cfg, kernel, sharding.batch_devices(mesh), mesh.size, free)


def check_slots(
    config: TrainConfig,
    cfg: parameters.ModelConfig,
    kernel: str,
    devices: int,
    parts: int,
    free: int,
) -> None:
    """devices: that share the slots; parts: devices in all, which share the cache; free: bytes of
    one device.

    While slots move to fewer, or columns grow, both caches are there."""
    rollout = config.rollout
    dtype = rollout.cache_dtype or config.model.dtype
    slot = (
        cache_lib.bytes_of(cfg, kernel, 1, max_length(config), dtype) * devices / parts
    )  # on the device that keeps it
    shapes = of_config(config, kernel, devices)
    slot *= 1 + max(
        [after / before for before, after in zip(shapes.sizes, shapes.sizes[1:2])]
        + [
            before / after
            for before, after in zip(shapes.columns[-2:], shapes.columns[-1:])
            if len(shapes.columns) > 1
        ],
        default=0,
    )
    if (needed := slot * -(-rollout.slots // devices)) > free:
        raise UserError(
            f"config.rollout.slots is {rollout.slots}: their cache takes {needed / 2**30:.2f} GiB a device, "
            f"where {free / 2**30:.2f} GiB are free; at most {int(free / slot) * devices} slots fit"
        )
