"""Keys and values of the sequences that are being decoded: S slots of C columns.

    create      empty slots
    write       the keys and values of a token of every slot, and attention over each slot
    insert      a question's keys and values into a slot, out of the packed rows that prefill read
    resize      fewer slots, or more columns

Which column a token has is in `columns`. Keys are rotated before they come here, so their order
means nothing, and the live columns are the first min(position + 1, window), for every layer.

Layers that share an array (a group) are those of one kind, for the scan over stacked layers and the
kernel of `attention.paged`. Without that kernel each layer has an array of its own (`is_apart`),
since XLA would copy a layer's part of a shared one for each product. Such an array has no axis l:
with one of size 1, the XLA of jax 0.10 takes another layout within the loop of `slots.decode` than
outside, and copies the whole cache twice a token on CPUs.

Slots are spread over the mesh's rows and kv heads over "tensor"; every function works on a device's
own part in `shard_map`, so no slot ever travels.

A cache of eight bits rounds each token's keys and values, of each kv head, to 255 steps of their
largest (`int8.rows`), and keeps the steps as `scales`: those of `_lanes` columns side by side, so
that a TPU's memory is not padded for them.

Letters: L layers, l layers of a group, S slots, C columns, K kv heads, N heads, H head dim, R rows
and W columns of the packed questions.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Num

from sar_jax.model import columns as columns_lib
from sar_jax.model import int8
from sar_jax.model.attention import paged, portable
from sar_jax.model.network import Network
from sar_jax.parallel.sharding import BATCH, constrain, dividing

PREFILL_TOKENS = 1024  # at least this many columns of questions are read at once


class Cache(NamedTuple):
    """Arrays, one for each group of layers.

    k, v               [K, l, S, C, H], or [K, S, C, H] where the layers are apart
    k_scale, v_scale   [..., C / lanes, lanes] of a cache of eight bits, () of others
    """

    k: tuple[Num[Array, "K *l S C H"], ...]
    v: tuple[Num[Array, "K *l S C H"], ...]
    k_scale: tuple[Float[Array, "K *l S c lanes"], ...] = ()
    v_scale: tuple[Float[Array, "K *l S c lanes"], ...] = ()


class Group(NamedTuple):
    """The layers that share an array, and their window."""

    layers: tuple[int, ...]
    window: int | None


class Entries(NamedTuple):
    """Questions to insert.

    slot         the slot that takes it
    row, start   where it is among the packed rows: row, first column
    length       how many of its tokens
    """

    slot: Int[Array, " n"]
    row: Int[Array, " n"]
    start: Int[Array, " n"]
    length: Int[Array, " n"]


def is_apart(network: Network) -> bool:
    """Has each layer an array of its own?"""
    return network.kernel != "splash"


def groups(network: Network) -> tuple[Group, ...]:
    """The arrays of a network's cache."""
    cfg = network.cfg
    if is_apart(network):
        return tuple(Group((l,), cfg.kinds[kind].window) for l, kind in enumerate(cfg.layer_kinds))
    layers = lambda kind: tuple(l for l, k in enumerate(cfg.layer_kinds) if k == kind)
    return tuple(Group(layers(kind), cfg.kinds[kind].window) for kind in range(len(cfg.kinds)))


def places(network: Network) -> list[tuple[int, int]]:
    """For each layer its group, and which of the group's layers it is."""
    found = {
        l: (g, i) for g, group in enumerate(groups(network)) for i, l in enumerate(group.layers)
    }
    return [found[l] for l in range(network.cfg.num_layers)]


def describe(network: Network, slots: int, columns: int, dtype: str) -> Cache:
    """The arrays' shapes and dtypes, without their memory. dtype: of keys and values, or "int8"."""
    shapes, lanes = _shapes(network, slots, columns), _lanes(network)
    side = lambda shapes, dtype: tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    scales = []
    if dtype == "int8":
        scales = [(*shape[:-2], shape[-2] // lanes, lanes) for shape in shapes]
    return Cache(*[side(shapes, dtype)] * 2, *[side(scales, "float32")] * 2)


def _shapes(network: Network, slots: int, columns: int) -> list[tuple[int, ...]]:
    """Of the arrays; what the TPU's kernel wants as multiples is rounded up."""
    cfg, known = network.cfg, groups(network)
    used = lambda group: columns_lib.ring(group.window, columns)
    K, H = cfg.num_kv_heads, cfg.head_dim
    if is_apart(network):
        return [(K, slots, used(g), H) for g in known]
    up = lambda size, multiple: -(-size // multiple) * multiple
    return [(K, len(g.layers), slots, up(used(g), paged.PAGE), up(H, paged.LANES)) for g in known]


def bytes_of(network: Network, slots: int, columns: int, dtype: str) -> int:
    """Keys and values of all slots, over all devices."""
    arrays = jax.tree.leaves(describe(network, slots, columns, dtype))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays)


def create(network: Network, slots: int, columns: int, dtype: str) -> Cache:
    """Empty slots."""
    zeros = lambda x: constrain(jnp.zeros(x.shape, x.dtype), *axes(network))
    return jax.tree.map(zeros, describe(network, slots, columns, dtype))


def _lanes(network: Network) -> int:
    """How many columns' scales are side by side."""
    return 1 if is_apart(network) else paged.PAGE


def axes(network: Network) -> tuple:
    """What the axes of a cache's arrays are spread over."""
    layers = () if is_apart(network) else (None,)
    return (dividing("tensor", network.cfg.num_kv_heads), *layers, BATCH, None, None)


class _Specs(NamedTuple):
    """How the arguments of this file's functions are cut over the devices.

    cache    a `Cache`           heads    [S, heads, H]          slots   [S]
    packed   [R, L, K, W, H]     same     what is the same on all devices
    """

    cache: P
    heads: P
    slots: P
    packed: P
    same: P

    @staticmethod
    def of(network: Network) -> "_Specs":
        heads = dividing("tensor", network.cfg.num_kv_heads)
        return _Specs(
            cache=P(*axes(network)),
            heads=P(BATCH, heads, None),
            slots=P(BATCH),
            packed=P(None, None, heads, None, None),
            same=P(),
        )


def _on_devices(function: Callable, ins: tuple[P, ...], outs: P | tuple[P, ...]) -> Callable:
    """`function` on each device's own part of its arguments."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)


def write(
    network: Network,
    cache: Cache,
    q: Float[Array, "S N H"],
    k: Float[Array, "S K H"],
    v: Float[Array, "S K H"],
    positions: Int[Array, " S"],
    group: int | Int[Array, ""],
    layer: int | Int[Array, ""],
) -> tuple[Float[Array, "S N H"], Cache]:
    """Writes a token's keys and values into every slot, and attends over the slots with them.

    positions      of the tokens in their sequences
    group, layer   for the layer-th layer of which group; traced in a scan over the layers

    Returns the attention over each slot's live columns, and the cache.
    """
    specs = _Specs.of(network)
    local = functools.partial(_write_locally, network)
    arguments = (q, k, v, positions, cache)
    ins = (specs.heads, specs.heads, specs.heads, specs.slots, specs.cache)
    outs = (specs.heads, specs.cache)
    if isinstance(group, int):  # numbers of the program, not arguments
        fixed = functools.partial(local, group=group, layer=layer)
        return _on_devices(fixed, ins, outs)(*arguments)
    return _on_devices(local, (*ins, specs.same, specs.same), outs)(*arguments, group, layer)


def _write_locally(
    network: Network,
    q: Array,
    k: Array,
    v: Array,
    positions: Array,
    cache: Cache,
    group: int | Array,
    layer: int | Array,
) -> tuple[Array, Cache]:
    """`write` on one device's slots and heads."""
    known, width = groups(network), cache.k[0].shape[-1]
    rings = [columns_lib.ring(g.window, x.shape[-2]) for g, x in zip(known, cache.k)]
    traced = not isinstance(group, int)
    # the groups that the layer may belong to
    candidates = [0] if len(known) == 1 else list(range(len(known))) if traced else [group]

    def put(array: Array, new: Array, g: int, lanes: int) -> Array:
        if g not in candidates:
            return array
        mine = group == g if traced else None
        return _put(array, new, layer, positions % rings[g], lanes, mine)

    new = _entries(cache, _widened(k, width), _widened(v, width))
    lanes = [_lanes(network) if name.endswith("scale") else 1 for name in Cache._fields]
    side = lambda arrays, fresh, wide: tuple(
        put(array, fresh, g, wide) for g, array in enumerate(arrays)
    )
    cache = Cache(*map(side, cache, new, lanes))

    def attend(g: int, q: Array, cache: Cache, lengths: Array) -> Array:
        return _attend(network, q, cache, g, layer, jnp.minimum(lengths, rings[g]))

    branches = [functools.partial(attend, g) for g in candidates]
    if len(branches) == 1:
        return branches[0](q, cache, positions + 1), cache
    return jax.lax.switch(group, branches, q, cache, positions + 1), cache


def _widened(x: Float[Array, "S K H"], width: int) -> Float[Array, "K S h"]:
    """Heads first, and as wide as the cache's arrays."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, width - x.shape[-1]))).swapaxes(0, 1)


def _put(
    array: Num[Array, "K *l S C h"],
    new: Num[Array, "K S w"],
    layer: int | Array,
    columns: Int[Array, " S"],
    lanes: int,
    mine: Bool[Array, ""] | None,
) -> Num[Array, "K *l S C h"]:
    """The array with `new` in one column of every slot.

    lanes   columns that are side by side in a row
    mine    does the layer belong to this array? None where that is known

    The array is written as rows of a flat one, since the compiler would turn the whole cache around
    for a scatter along two of its axes.
    """
    K, l, (S, C, width) = len(array), math.prod(array.shape[1:-3]), array.shape[-3:]
    new, flat = new.reshape(K * S, -1), array.reshape(-1, width)
    rows = columns_lib.flat_rows((K, l, S, C), layer, columns // lanes)
    if lanes > 1:
        here = jnp.arange(lanes) == jnp.tile(columns % lanes, K)[:, None]
        new = jnp.where(here, new, flat[rows])
    if mine is not None:
        new = jnp.where(mine, new, flat[rows])
    flat = flat.at[rows].set(new, unique_indices=True, indices_are_sorted=True)
    return flat.reshape(array.shape)


def _attend(
    network: Network, q: Array, cache: Cache, group: int, layer: int | Array, lengths: Array
) -> Array:
    """Attention over the first `lengths` columns of every slot, in one group's arrays."""
    held = [side[group] for side in cache if side]
    options = dict(scale=network.cfg.query_scale, softcap=network.cfg.attn_softcap)
    if is_apart(network):
        return portable.attend_cached(q, *held, lengths=lengths, **options)
    layer = jnp.minimum(layer, held[0].shape[1] - 1)
    return paged.attend(q, *held, layer=layer, lengths=lengths, **options)


def _entries(cache: Cache, k: Float[Array, "... h"], v: Float[Array, "... h"]) -> list[Array]:
    """What the cache's arrays take of keys and values, in the order of its fields."""
    if not cache.k_scale:
        return [x.astype(cache.k[0].dtype) for x in (k, v)]
    (k, k_scale), (v, v_scale) = int8.rows(k), int8.rows(v)
    return [k, v, k_scale, v_scale]


def insert(
    network: Network,
    cache: Cache,
    keys: Float[Array, "R L K W H"],
    values: Float[Array, "R L K W H"],
    entries: Entries,
    count: Int[Array, ""],
) -> Cache:
    """Puts the first `count` entries' keys and values, as prefill packed them, into their slots.

    Columns beyond an entry's tokens take what is there: they are not live before they are written.
    """
    specs = _Specs.of(network)
    known = groups(network)
    one_device = jax.sharding.get_abstract_mesh().empty

    def local(cache, keys, values, entries, count):
        S = cache.k[0].shape[-3]
        device = 0 if one_device else jax.lax.axis_index(BATCH)

        def one(i, cache):
            take = lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False)
            slot, row, start, length = map(take, entries)
            here, own = slot // S == device, slot % S
            block = lambda packed, g, array: _columns(packed, g, array, row, start, length)
            new = [
                _entries(cache, *(block(packed, g, array) for packed in (keys, values)))
                for g, array in zip(known, cache.k)
            ]
            put = lambda arrays, blocks: tuple(
                _put_columns(array, block, own, here) for array, block in zip(arrays, blocks)
            )
            return Cache(*(put(arrays, blocks) for arrays, blocks in zip(cache, zip(*new))))

        return jax.lax.fori_loop(0, count, one, cache)

    ins = (specs.cache, specs.packed, specs.packed, specs.same, specs.same)
    return _on_devices(local, ins, specs.cache)(cache, keys, values, entries, count)


def _columns(
    packed: Float[Array, "R L K W H"],
    group: Group,
    array: Num[Array, "K *l S C h"],
    row: Array,
    start: Array,
    length: Array,
) -> Float[Array, "K *l 1 c h"]:
    """One question's part of the packed rows, in the order of a group's columns."""
    ring, W = columns_lib.ring(group.window, array.shape[-2]), packed.shape[3]
    block = jax.lax.dynamic_index_in_dim(packed, row, keepdims=False)
    if len(group.layers) < len(block):
        block = block[jnp.array(group.layers)]
    if W <= ring:
        block = jnp.roll(block, -start, axis=2)
    else:
        position = columns_lib.newest_positions(length, ring)
        block = jnp.take(block, jnp.clip(start + position, 0, W - 1), axis=2)
    block = jnp.pad(block, ((0, 0), (0, 0), (0, 0), (0, array.shape[-1] - block.shape[-1])))
    return jnp.expand_dims(block.swapaxes(0, 1) if array.ndim == 5 else block[0], -3)


def _put_columns(array: Array, block: Array, slot: Array, here: Array) -> Array:
    """The array with a block in one slot, if that is one of this device's."""
    width = array.shape[-1]
    if block.shape[-1] != width:  # scales, one each; an array has several side by side
        padding = ((0, 0),) * (block.ndim - 2) + ((0, -block.shape[-2] % width),)
        block = jnp.pad(block[..., 0], padding)
        block = block.reshape(*block.shape[:-1], -1, width)
    place = (*(0,) * (array.ndim - 3), slot, 0, 0)
    old = jax.lax.dynamic_slice(array, place, block.shape)
    return jax.lax.dynamic_update_slice(array, jnp.where(here, block, old), place)


def resize(network: Network, cache: Cache, slots: Int[Array, " s"], columns: int) -> Cache:
    """The slots of these numbers, each from the device that keeps it, with room for `columns`."""
    specs = _Specs.of(network)
    wanted = describe(network, max(len(slots), 1), columns, cache.k[0].dtype.name)

    def local(cache, slots):
        own = cache.k[0].shape[-3]

        def one(array, like):
            size = like.shape[-2]
            if len(slots) == own:
                more = (0, size - array.shape[-2])
                return jnp.pad(array, ((0, 0),) * (array.ndim - 2) + (more, (0, 0)))
            *outer, _, _, h = array.shape

            # slot by slot: for a gather the compiler would turn the whole cache around
            def copy(i, made):
                slot = jax.lax.dynamic_slice_in_dim(array, slots[i] % own, 1, axis=-3)
                return jax.lax.dynamic_update_slice(made, slot, (*(0,) * len(outer), i, 0, 0))

            empty = jnp.zeros((*outer, len(slots), size, h), array.dtype)
            return jax.lax.fori_loop(0, len(slots), copy, empty)

        return jax.tree.map(one, cache, wanted)

    return _on_devices(local, (specs.cache, specs.slots), specs.cache)(cache, slots)
