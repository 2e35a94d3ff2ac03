"""The closed set of shapes that a decoder compiles for, and whether its cache fits.

sizes     numbers of slots: as asked for, and fewer for the last answers
columns   of a slot's cache: rising to the longest sequence
"""

import math
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sar_jax.config import Packing, TrainConfig, max_length
from sar_jax.errors import UserError
from sar_jax.model import cache as cache_lib
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding

BUCKETS = (4, 2, 1)  # a slot's columns grow by these fractions of the limit,
_LEAST_COLUMNS = 128  # from here on
_SHRINK = 3  # each smaller number of slots is this part of the one before,
LEAST_SLOTS = 6  # down to here
_ANSWER_BYTES = 12  # of a token on the host: its id and two logprobs


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
    """Raises `UserError` where a run's arrays cannot be in memory, or the cache does not fit.

    As `check_cache`; beside the cache a part of what is needed is counted: the answers on the host,
    and a micro-batch's tokens as vectors on the devices.
    """
    check_microbatch(config.packing, network, mesh)
    rollout = config.rollout
    answers = rollout.questions * rollout.samples
    needed = answers // jax.process_count() * rollout.max_answer_tokens * _ANSWER_BYTES
    if needed > host_bytes():
        raise UserError(
            f"config.rollout.questions * config.rollout.samples is {answers}: answers of "
            f"{rollout.max_answer_tokens} tokens need {needed / 2**30:.0f} GiB on each host, which "
            f"has {host_bytes() / 2**30:.0f} GiB"
        )
    check_cache(config, network, mesh, copied)


def check_cache(config: TrainConfig, network: Network, mesh: Mesh, copied: bool = True) -> None:
    """Raises `UserError` where the cache does not fit beside what is on a device now.

    network   as the decoder has it
    copied    the decoder's weights are yet to come: they need room too

    Of CPUs all the machine's memory counts as free, so only what can never fit is refused there.
    """
    free = free_bytes(network, mesh, copied)
    check_slots(config, network, sharding.batch_devices(mesh), mesh.size, free)


def free_bytes(network: Network, mesh: Mesh, copied: bool) -> int:
    """That one device has for the cache; see `check_cache`."""
    stats = mesh.local_devices[0].memory_stats() or {}
    free = device_bytes(mesh) - stats.get("bytes_in_use", 0)
    if copied and "bytes_limit" in stats:
        free -= weight_bytes(network) // mesh.shape["tensor"]
    return free


def check_microbatch(packing: Packing, network: Network, mesh: Mesh) -> None:
    """Raises `UserError` where one layer's values of a micro-batch's tokens cannot be in memory, or
    the logits that are to be kept of them."""
    tokens, available = packing.rows_per_microbatch * packing.row_tokens, device_bytes(mesh)
    available *= mesh.size
    needed = tokens * network.cfg.embed_dim * jnp.dtype(network.dtype).itemsize
    if needed > available:
        raise UserError(
            f"config.packing.rows_per_microbatch * config.packing.row_tokens is {tokens}: what one "
            f"layer makes of these tokens needs {needed / 2**30:.0f} GiB, and all devices together "
            f"have {available / 2**30:.0f} GiB"
        )
    kept = 4 * tokens * network.cfg.vocab_size * network.keep_logits
    if kept > available:
        raise UserError(
            f"config.model.keep_logits: the logits of {tokens} tokens (config.packing) and "
            f"{network.cfg.vocab_size} entries need {kept / 2**30:.0f} GiB, and all devices "
            f"together have {available / 2**30:.0f} GiB: use false, or a smaller "
            "packing.rows_per_microbatch"
        )


def device_bytes(mesh: Mesh) -> int:
    """The memory of one device, in bytes; of a CPU its share of the machine's."""
    stats = mesh.local_devices[0].memory_stats() or {}
    return stats.get("bytes_limit", host_bytes() // len(mesh.local_devices))


def host_bytes() -> int:
    """Of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def weight_bytes(network: Network) -> int:
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
    """
    slot = slot_bytes(config, network, devices, parts)
    needed = slot * -(-config.rollout.slots // devices)
    if needed > free:
        raise UserError(
            f"config.rollout.slots is {config.rollout.slots}: their cache needs "
            f"{needed / 2**30:.2f} GiB on each device, but only {free / 2**30:.2f} GiB is free; at "
            f"most {int(free / slot) * devices} slots fit"
        )


def slot_bytes(config: TrainConfig, network: Network, devices: int, parts: int) -> float:
    """Bytes of a slot's cache on the device that keeps it; see `check_slots`.

    While slots move to fewer, or columns grow, both caches are there.
    """
    dtype = config.rollout.cache_dtype or config.model.dtype
    shapes = of_config(config, network, devices)
    slot = cache_lib.bytes_of(network, 1, max_length(config), dtype) * devices / parts
    moved = [after / before for before, after in zip(shapes.sizes, shapes.sizes[1:2])]
    grown = []
    if len(shapes.columns) > 1:
        grown.append(shapes.columns[-2] / shapes.columns[-1])
    return slot * (1 + max(moved + grown, default=0))
