"""Keys and values of the sequences that are being decoded: S slots of C columns.

    create      empty slots
    write       the keys and values of one token of every slot, and attention over what the slot holds then
    insert      a question's keys and values into a slot, out of the packed rows that prefill read
    resize      fewer slots, or more columns

A slot's column is its token's position; a layer with a window w keeps the last w positions in a
ring, position p in column p mod w. Keys are rotated before they come here, so their order means
nothing, and the live columns are the first min(position + 1, w), for every layer.

Layers that share an array (a group) are those of one kind, for the scan over stacked layers and the
kernel of `sar_jax.model.attention.paged`; without it each layer has an array of its own (`apart`),
since XLA would copy a layer's part of a shared one for each product. Such an array has no axis l:
with one of size 1, the XLA of jax 0.10 takes another layout within the loop of `slots.decode` than
outside, and copies the whole cache twice a token on CPUs. Slots are spread over the mesh's rows and
kv heads over "tensor"; every function works on a device's own part in `shard_map`, so that no slot
ever travels.

A cache of eight bits rounds each token's keys and values, of each kv head, to 255 steps of their
largest (`int8.rows`), and keeps the steps as `scales`: those of `_lanes` columns side by side, so
that a TPU's memory is not padded for them.

Letters: L layers, l layers of a group, S slots, C columns, K kv heads, N heads, H head dim, R rows
and W columns of the packed questions."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Num

from sar_jax.model import int8
from sar_jax.model.attention import paged, portable
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel.sharding import BATCH, constrain, dividing

PREFILL_TOKENS = 1024  # at least so many columns of questions are read at once


class Cache(NamedTuple):
    """One array [K, l, S, C, H] for each group of layers, [K, S, C, H] where the layers are apart;
    k_scale, v_scale: [..., C / lanes, lanes] of a cache of eight bits, () of others."""

    k: tuple[Num[Array, "K *l S C H"], ...]
    v: tuple[Num[Array, "K *l S C H"], ...]
    k_scale: tuple[Float[Array, "K *l S c lanes"], ...] = ()
    v_scale: tuple[Float[Array, "K *l S c lanes"], ...] = ()


class Group(NamedTuple):
    """The layers that share an array, and their window."""

    layers: tuple[int, ...]
    window: int | None


class Entries(NamedTuple):
    """Questions to insert: where each stands among the packed rows (row, first column), how many of
    its tokens, and the slot that takes it."""

    slot: Int[Array, " n"]
    row: Int[Array, " n"]
    start: Int[Array, " n"]
    length: Int[Array, " n"]


def groups(cfg: ModelConfig, kernel: str) -> tuple[Group, ...]:
    """The arrays of a cache for a kernel of `model.build`."""
    if is_apart(kernel):
        return tuple(Group((l,), cfg.kinds[kind].window) for l, kind in enumerate(cfg.layer_kinds))
    return tuple(
        Group(tuple(l for l, k in enumerate(cfg.layer_kinds) if k == kind), cfg.kinds[kind].window)
        for kind in range(len(cfg.kinds))
    )


def is_apart(kernel: str) -> bool:
    """Has each layer an array of its own?"""
    return kernel != "splash"


def shapes(cfg: ModelConfig, kernel: str, slots: int, columns: int) -> list[tuple[int, ...]]:
    """Of the arrays; what the TPU's kernel wants as multiples is rounded up."""
    K, known = cfg.num_kv_heads, groups(cfg, kernel)
    if is_apart(kernel):
        return [(K, slots, _ring(g.window, columns), cfg.head_dim) for g in known]
    up = lambda size, multiple: -(-size // multiple) * multiple
    return [
        (
            K,
            len(g.layers),
            slots,
            up(_ring(g.window, columns), paged.PAGE),
            up(cfg.head_dim, paged.LANES),
        )
        for g in known
    ]


def described(cfg: ModelConfig, kernel: str, slots: int, columns: int, dtype: str) -> Cache:
    """The arrays' shapes and dtypes."""
    known, lanes = shapes(cfg, kernel, slots, columns), _lanes(kernel)
    side = lambda shapes, dtype: tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    scales = (
        [(*shape[:-2], shape[-2] // lanes, lanes) for shape in known] if dtype == "int8" else []
    )
    return Cache(*[side(known, dtype)] * 2, *[side(scales, "float32")] * 2)


def bytes_of(cfg: ModelConfig, kernel: str, slots: int, columns: int, dtype: str) -> int:
    """Keys and values of all slots, over all devices."""
    arrays = jax.tree.leaves(described(cfg, kernel, slots, columns, dtype))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays)


def create(cfg: ModelConfig, kernel: str, slots: int, columns: int, dtype: str) -> Cache:
    return jax.tree.map(
        lambda x: constrain(jnp.zeros(x.shape, x.dtype), *axes(cfg, kernel)),
        described(cfg, kernel, slots, columns, dtype),
    )


def _lanes(kernel: str) -> int:
    """How many columns' scales lie side by side."""
    return 1 if is_apart(kernel) else paged.PAGE


def _ring(window: int | None, columns: int) -> int:
    """How many of an array's columns are in use."""
    return columns if window is None else min(window, columns)


def axes(cfg: ModelConfig, kernel: str) -> tuple:
    """What the axes of a cache's arrays are spread over."""
    return (
        dividing("tensor", cfg.num_kv_heads),
        *(() if is_apart(kernel) else (None,)),
        BATCH,
        None,
        None,
    )


def _locally(function: Callable, cfg: ModelConfig, kernel: str, ins: str, outs: str) -> Callable:
    """`function` on each device's own part. ins, outs: a letter for each argument and result: "c" a
    cache, "h" [S, heads, H], "s" [S], "q" packed questions [R, L, K, W, H], "." what is the same on
    all devices."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return functools.partial(function, 0)
    heads = dividing("tensor", cfg.num_kv_heads)
    specs = {
        "c": P(*axes(cfg, kernel)),
        "h": P(BATCH, heads, None),
        "s": P(BATCH),
        ".": P(),
        "q": P(None, None, heads, None, None),
    }
    of = lambda letters: tuple(specs[letter] for letter in letters)

    def local(*arguments):
        return function(jax.lax.axis_index(BATCH), *arguments)

    out = of(outs)
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=of(ins),
        out_specs=out if len(out) > 1 else out[0],
        check_vma=False,
    )


def write(
    cfg: ModelConfig,
    kernel: str,
    cache: Cache,
    q: Float[Array, "S N H"],
    k: Float[Array, "S K H"],
    v: Float[Array, "S K H"],
    positions: Int[Array, " S"],
    group: int | Int[Array, ""],
    layer: int | Int[Array, ""],
) -> tuple[Float[Array, "S N H"], Cache]:
    """Writes the keys and values of the tokens at `positions` for the layer-th layer of a group,
    and attends over the slots' live columns with them. In a scan over the layers, group and layer
    are traced."""
    known = groups(cfg, kernel)

    def local(_, q, k, v, group, layer, positions, cache):
        S, h = len(positions), cache.k[0].shape[-1]
        widen = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, h - x.shape[-1]))).swapaxes(0, 1)
        rings = [_ring(g.window, array.shape[-2]) for g, array in zip(known, cache.k)]
        new = _entries(cache, widen(k), widen(v))

        def put(array, new, g, lanes):
            """[K, S, width] into the group's array, if it is the layer's: as rows of a flat array,
            since the compiler would turn the whole cache around for a scatter along two of its
            axes. lanes: columns that a row has."""
            K, l, (C, width) = len(array), math.prod(array.shape[1:-3]), array.shape[-2:]
            new, flat, column = (
                new.reshape(K * S, -1),
                array.reshape(-1, width),
                positions % rings[g],
            )
            place = jnp.minimum(layer, l - 1) * S + jnp.arange(S)
            rows = (jnp.arange(K)[:, None] * (l * S * C) + place * C + column // lanes).reshape(-1)
            if lanes > 1:
                new = jnp.where(
                    jnp.arange(lanes) == jnp.tile(column % lanes, K)[:, None], new, flat[rows]
                )
            if not isinstance(group, int):
                new = jnp.where(group == g, new, flat[rows])
            return (
                flat.at[rows]
                .set(new, unique_indices=True, indices_are_sorted=True)
                .reshape(array.shape)
            )

        def attend(g, q, cache, lengths):
            held = [side[g] for side in cache if side]
            options = dict(scale=cfg.query_scale, softcap=cfg.attn_softcap)
            lengths = jnp.minimum(lengths, rings[g])
            if is_apart(kernel):
                return portable.attend_cached(q, *held, lengths=lengths, **options)
            return paged.attend(
                q, *held, layer=jnp.minimum(layer, held[0].shape[1] - 1), lengths=lengths, **options
            )

        which = [group] if isinstance(group, int) or len(known) == 1 else range(len(known))
        which = [0] if len(known) == 1 else which
        cache = Cache(
            *(
                tuple(
                    put(array, side, g, _lanes(kernel) if name.endswith("scale") else 1)
                    if g in which
                    else array
                    for g, array in enumerate(arrays)
                )
                for name, arrays, side in zip(Cache._fields, cache, new)
            )
        )
        branches = [functools.partial(attend, g) for g in which]
        if len(branches) == 1:
            return branches[0](q, cache, positions + 1), cache
        return jax.lax.switch(group, branches, q, cache, positions + 1), cache

    if isinstance(group, int):  # numbers of the program, not arguments
        fixed = lambda d, q, k, v, positions, cache: local(
            d, q, k, v, group, layer, positions, cache
        )
        return _locally(fixed, cfg, kernel, "hhhsc", "hc")(q, k, v, positions, cache)
    return _locally(local, cfg, kernel, "hhh..sc", "hc")(q, k, v, group, layer, positions, cache)


def _entries(cache: Cache, k: Float[Array, "... h"], v: Float[Array, "... h"]) -> list[Array]:
    """What the cache's arrays take of keys and values, in the order of its fields."""
    if not cache.k_scale:
        return [x.astype(cache.k[0].dtype) for x in (k, v)]
    (k, k_scale), (v, v_scale) = int8.rows(k), int8.rows(v)
    return [k, v, k_scale, v_scale]


def insert(
    cfg: ModelConfig,
    kernel: str,
    cache: Cache,
    keys: Float[Array, "R L K W H"],
    values: Float[Array, "R L K W H"],
    entries: Entries,
    count: Int[Array, ""],
) -> Cache:
    """The first `count` entries' keys and values, as prefill packed them, into their slots. Columns
    beyond an entry's tokens take what stands there: they are not live before they are written."""
    known = groups(cfg, kernel)

    def local(device, cache, keys, values, entries, count):
        S = cache.k[0].shape[-3]

        def one(i, cache):
            slot, row, start, length = (
                jax.lax.dynamic_index_in_dim(x, i, keepdims=False) for x in entries
            )
            here, own = slot // S == device, slot % S
            new = [
                _entries(
                    cache,
                    *(_columns(packed, g, array, row, start, length) for packed in (keys, values)),
                )
                for g, array in zip(known, cache.k)
            ]
            return Cache(
                *(
                    tuple(
                        _put_columns(array, block, own, here)
                        for array, block in zip(arrays, blocks)
                    )
                    for arrays, blocks in zip(cache, zip(*new))
                )
            )

        return jax.lax.fori_loop(0, count, one, cache)

    return _locally(local, cfg, kernel, "cqq..", "c")(cache, keys, values, entries, count)


def _columns(
    packed: Array, group: Group, array: Array, row: Array, start: Array, length: Array
) -> Array:
    """[K, l, 1, c, H], or [K, 1, c, H]: one question's part of the packed rows, in the order of a
    group's columns."""
    ring, W = _ring(group.window, array.shape[-2]), packed.shape[3]
    block = jax.lax.dynamic_index_in_dim(packed, row, keepdims=False)
    if len(group.layers) < len(block):
        block = block[jnp.array(group.layers)]
    if W <= ring:
        block = jnp.roll(block, -start, axis=2)
    else:  # column c holds the last position p < length with p mod ring = c
        column = jnp.arange(ring)
        position = length - 1 - (length - 1 - column) % ring
        block = jnp.take(block, jnp.clip(start + position, 0, W - 1), axis=2)
    block = jnp.pad(block, ((0, 0), (0, 0), (0, 0), (0, array.shape[-1] - block.shape[-1])))
    return jnp.expand_dims(block.swapaxes(0, 1) if array.ndim == 5 else block[0], -3)


def _put_columns(array: Array, block: Array, slot: Array, here: Array) -> Array:
    if block.shape[-1] != (
        width := array.shape[-1]
    ):  # scales, one each; an array has several side by side
        block = jnp.pad(
            block[..., 0], ((0, 0),) * (block.ndim - 2) + ((0, -block.shape[-2] % width),)
        )
        block = block.reshape(*block.shape[:-1], -1, width)
    place = (*(0,) * (array.ndim - 3), slot, 0, 0)
    old = jax.lax.dynamic_slice(array, place, block.shape)
    return jax.lax.dynamic_update_slice(array, jnp.where(here, block, old), place)


def resize(
    cfg: ModelConfig, kernel: str, cache: Cache, slots: Int[Array, " s"], columns: int
) -> Cache:
    """The slots of these numbers, each from the device that keeps it, with room for `columns`."""
    wanted = described(cfg, kernel, max(len(slots), 1), columns, cache.k[0].dtype.name)

    def local(_, cache, slots):
        own = cache.k[0].shape[-3]

        def one(array, like):
            size = like.shape[-2]
            if len(slots) == own:
                return jnp.pad(
                    array, ((0, 0),) * (array.ndim - 2) + ((0, size - array.shape[-2]), (0, 0))
                )
            *outer, _, _, h = array.shape

            def copy(
                i, made
            ):  # slot by slot: a gather would have the compiler turn the whole cache around
                slot = jax.lax.dynamic_slice_in_dim(array, slots[i] % own, 1, axis=-3)
                return jax.lax.dynamic_update_slice(made, slot, (*(0,) * len(outer), i, 0, 0))

            return jax.lax.fori_loop(
                0, len(slots), copy, jnp.zeros((*outer, len(slots), size, h), array.dtype)
            )

        return jax.tree.map(one, cache, wanted)

    return _locally(local, cfg, kernel, "cs", "c")(cache, slots)
