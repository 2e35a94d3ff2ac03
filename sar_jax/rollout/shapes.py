"""The closed set of shapes that a decoder compiles for, and whether its cache fits.

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
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding

BUCKETS = (4, 2, 1)  # a slot's columns grow by these fractions of the limit,
_LEAST_COLUMNS = 128  # from here on
_SHRINK = 3  # each smaller number of slots is this part of the one before,
LEAST_SLOTS = 6  # down to here


class Shapes(NamedTuple):
    """Everything that a decoder compiles for.

    sizes         numbers of slots, falling
    columns       of a slot, rising; the smaller sizes have the last one only
    rows, width   of the packed questions
    """

    sizes: tuple[int, ...]
    columns: tuple[int, ...]
    rows: int
    width: int


def plan_shapes(
    network: Network, slots: int, width: int, max_answer_tokens: int, devices: int
) -> Shapes:
    """The shapes of a decoder.

    slots               answers decoded at once, rounded up to what the devices can share
    width               tokens of the longest question
    max_answer_tokens   the answer limit
    devices             how many share the rows
    """
    up = lambda count: -(-count // devices) * devices
    sizes = [up(slots)]
    while (smaller := up(sizes[-1] // _SHRINK)) >= LEAST_SLOTS and smaller <= sizes[-1] // 2:
        sizes.append(smaller)
    whole = width + max_answer_tokens
    columns = [whole]
    # The kernel for TPUs reads live columns only, however many there are.
    if cache_lib.is_apart(network):
        least = max(_LEAST_COLUMNS, width)
        columns = sorted({-(-whole // n) for n in BUCKETS if whole // n >= least} | {whole})
    rows = up(-(-cache_lib.PREFILL_TOKENS // width))
    return Shapes(tuple(sizes), tuple(columns), rows, width)


def of_config(config: TrainConfig, network: Network, devices: int) -> Shapes:
    """The shapes of a run's decoder; devices: how many share the rows."""
    rollout = config.rollout
    return plan_shapes(
        network, rollout.slots, config.data.max_prompt_tokens, rollout.max_answer_tokens, devices
    )


def check_memory(config: TrainConfig, network: Network, mesh: Mesh, copied: bool = True) -> None:
    """Raises `UserError` where the cache does not fit beside what is on a device now.

    network   as the decoder has it
    copied    the decoder's weights are yet to come: they need room too

    Devices that do not say how much memory they have are not checked.
    """
    stats = mesh.local_devices[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if copied:
        free -= _weight_bytes(network) // mesh.shape["tensor"]
    check_slots(config, network, sharding.batch_devices(mesh), mesh.size, free)


def _weight_bytes(network: Network) -> int:
    """Of a network's parameters in its compute dtype, on all devices together."""
    size = jnp.dtype(network.dtype).itemsize
    is_spec = lambda s: isinstance(s, parameters.ParamSpec)
    specs = jax.tree.leaves(parameters.param_specs(network.cfg), is_leaf=is_spec)
    of = lambda s: math.prod(s.shape) * (jnp.dtype(s.dtype).itemsize if s.dtype else size)
    return sum(map(of, specs))


def check_slots(config: TrainConfig, network: Network, devices: int, parts: int, free: int) -> None:
    """Raises `UserError` where the slots' cache needs more than `free` bytes of one device.

    devices   that share the slots
    parts     devices in all, which share the cache

    While slots move to fewer, or columns grow, both caches are there.
    """
    rollout = config.rollout
    dtype = rollout.cache_dtype or config.model.dtype
    shapes = of_config(config, network, devices)
    # of one slot, on the device that keeps it
    slot = cache_lib.bytes_of(network, 1, max_length(config), dtype) * devices / parts
    moved = [after / before for before, after in zip(shapes.sizes, shapes.sizes[1:2])]
    grown = []
    if len(shapes.columns) > 1:
        grown.append(shapes.columns[-2] / shapes.columns[-1])
    slot *= 1 + max(moved + grown, default=0)
    needed = slot * -(-rollout.slots // devices)
    if needed > free:
        raise UserError(
            f"config.rollout.slots is {rollout.slots}: their cache needs {needed / 2**30:.2f} GiB "
            f"on each device, but only {free / 2**30:.2f} GiB is free; at most "
            f"{int(free / slot) * devices} slots fit"
        )
