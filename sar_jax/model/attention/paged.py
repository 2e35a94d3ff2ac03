"""Attention over a cache on TPUs, which reads of every slot what is live and no more.

A slot's columns are side by side in the cache, so a page is a piece of it and the table of pages is
plain arithmetic; the layer is part of a page's number, so that the kernels read from the cache of
all layers without a copy of one. Called with one device's slots and kv heads (`sar_jax.model.cache`
divides them).

A floating-point cache goes to JAX's paged-attention kernel. That one takes eight bits only with
scales as wide as the heads, in float32, which is more than they save; so a cache of eight bits has
a kernel here, whose scales are one number a column.

Letters: S slots, C columns, K kv heads, N heads, G heads of a kv head, H head dim, h head dim as
the cache has it, l layers, c pages of a slot.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention
from jaxtyping import Array, Float, Int, Int8, Num

from sar_jax.model.attention.portable import softcapped

PAGE = 128  # columns; a page is read as a whole
LANES = 128  # head dims are padded to a multiple; in a TPU's memory they are anyway
_BLOCK = 2  # pages at a time
# pages at a time, of all kv heads together: with fewer the grid has more steps, with more columns
# are read that nobody needs
_BLOCK_INT8 = 4
_NEGATIVE = -1e30  # finite, so that a masked score stays free of NaN
_TRANSPOSED = (((1,), (1,)), ((), ()))  # dimension numbers of a b^T


def attend(
    q: Float[Array, "S N H"],
    k: Num[Array, "K l S C h"],
    v: Num[Array, "K l S C h"],
    k_scale: Float[Array, "K l S c 128"] | None = None,
    v_scale: Float[Array, "K l S c 128"] | None = None,
    *,
    layer: Int[Array, ""],
    lengths: Int[Array, " S"],
    scale: float,
    softcap: float | None = None,
) -> Float[Array, "S N H"]:
    """`portable.attend_cached` over one layer of a cache, by a TPU's kernel.

    k, v               h is H padded to LANES, C a multiple of PAGE
    k_scale, v_scale   factors on each column's keys and values, of a cache of eight bits
    layer              which of the cache's layers
    lengths            live columns of each slot, the first ones; at least 1
    """
    K, layers, S, C, h = k.shape
    padded = jnp.pad(q * scale, ((0, 0), (0, 0), (0, h - q.shape[-1])))
    lengths = lengths.astype(jnp.int32)
    if k_scale is not None:
        out = _attend_int8(padded, k, v, k_scale, v_scale, layer, lengths, softcap)
        return out[..., : q.shape[-1]].astype(q.dtype)
    each = C // PAGE
    pages = lambda x: x.reshape(K, layers * S * each, PAGE, h)
    slots = (layer * S + jnp.arange(S, dtype=jnp.int32))[:, None]
    numbers = slots * each + jnp.arange(each, dtype=jnp.int32)
    out = paged_attention(
        padded.astype(k.dtype),
        pages(k),
        pages(v),
        lengths,
        numbers.astype(jnp.int32),
        attn_logits_soft_cap=softcap,
        pages_per_compute_block=_BLOCK if each % _BLOCK == 0 else 1,
    )
    return out[..., : q.shape[-1]].astype(q.dtype)


def _attend_int8(
    q: Float[Array, "S N h"],
    k: Int8[Array, "K l S C h"],
    v: Int8[Array, "K l S C h"],
    k_scale: Float[Array, "K l S c 128"],
    v_scale: Float[Array, "K l S c 128"],
    layer: Int[Array, ""],
    lengths: Int[Array, " S"],
    softcap: float | None,
) -> Float[Array, "S N h"]:
    """One program of the grid for each slot and block of columns, up to the longest slot's end.

    A shorter slot's further programs name its last block again, which is there already: nothing is
    read for them.
    """
    S, N, h = q.shape
    K, each = len(k), k.shape[3] // PAGE
    pages = max(n for n in range(1, each + 1) if each % n == 0 and (n * K <= _BLOCK_INT8 or n == 1))
    block, G = pages * PAGE, N // K

    def columns(s, i, layer, lengths):
        return 0, layer[0], s, jnp.minimum(i, (lengths[s] - 1) // block), 0

    slot = lambda s, i, layer, lengths: (0, layer[0], s, 0, 0)
    query = pl.BlockSpec((1, K, G, h), lambda s, i, layer, lengths: (s, 0, 0, 0))
    held = pl.BlockSpec((K, 1, 1, block, h), columns)
    scales = pl.BlockSpec((K, 1, 1, each, PAGE), slot)
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=2,
        grid=(S, (lengths.max() + block - 1) // block),
        in_specs=[query, held, held, scales, scales],
        out_specs=query,
        scratch_shapes=[
            pltpu.VMEM((K, G, LANES), jnp.float32),
            pltpu.VMEM((K, G, LANES), jnp.float32),
            pltpu.VMEM((K, G, h), jnp.float32),
        ],
    )
    kernel = functools.partial(_kernel, pages=pages, softcap=softcap)
    shape = jax.ShapeDtypeStruct((S, K, G, h), jnp.float32)
    run = pl.pallas_call(kernel, grid_spec=grid, out_shape=shape)
    layer, q = layer.reshape(1).astype(jnp.int32), q.reshape(S, K, G, h)
    return run(layer, lengths, q, k, v, k_scale, v_scale).reshape(S, N, h)


def _kernel(
    layer,
    lengths,
    q,
    k,
    v,
    k_scale,
    v_scale,
    out,
    largest,
    total,
    summed,
    *,
    pages: int,
    softcap: float | None,
):
    """A softmax over blocks of columns: the largest score so far, and sums relative to it.

    largest, total, summed   scratch: the largest score; the sum of weights, and of weighted values
    pages                    of a block

    After Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018). Whole numbers
    up to 127 are exact in bfloat16.
    """
    s, i = pl.program_id(0), pl.program_id(1)
    block = pages * PAGE

    @pl.when(i == 0)
    def _():
        first = jnp.full_like(largest, _NEGATIVE), jnp.zeros_like(total), jnp.zeros_like(summed)
        largest[...], total[...], summed[...] = first

    def wide(scale, head):
        """The block's scales, one row."""
        rows = [scale[head, 0, 0, pl.ds(i * pages + p, 1), :] for p in range(pages)]
        return jnp.concatenate(rows, axis=1)

    @pl.when(i * block < lengths[s])
    def _():
        live = i * block + jax.lax.broadcasted_iota(jnp.int32, (1, block), 1) < lengths[s]
        for head in range(len(k)):
            keys, values = (x[head, 0, 0].astype(jnp.float32).astype(jnp.bfloat16) for x in (k, v))
            queries = q[0, head].astype(jnp.bfloat16)
            scores = jax.lax.dot_general(
                queries, keys, _TRANSPOSED, preferred_element_type=jnp.float32
            )
            scores = jnp.where(live, softcapped(scores * wide(k_scale, head), softcap), _NEGATIVE)
            before = largest[head]
            after = jnp.maximum(before, scores.max(axis=1, keepdims=True))
            weights, shrink = jnp.exp(scores - after[:, :1]), jnp.exp(before - after)
            largest[head] = after
            total[head] = total[head] * shrink + weights.sum(axis=1, keepdims=True)
            weighted = (weights * wide(v_scale, head)).astype(jnp.bfloat16)
            new = jnp.dot(weighted, values, preferred_element_type=jnp.float32)
            summed[head] = summed[head] * shrink[:, :1] + new

    @pl.when(i == pl.num_programs(1) - 1)
    def _():
        out[0] = summed[...] / total[...][..., :1]
