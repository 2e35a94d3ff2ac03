"""Fused attention on TPUs: JAX's splash kernel, for packed rows.

The scores never leave the chip's own memory. Blocks of them that the causal mask, the window or the
segments hide are skipped; the last are known only while a run runs. Rows are padded to a multiple
of 128 columns. Left out: attention across devices along the sequence.

A worked example, blocks of 2 columns, one row of 8 with the segments 1 1 1 2 2 2 2 0:

    queries 0..1    keys 0..1
    queries 2..3    keys 0..1, 2..3
    queries 4..5               2..3, 4..5
    queries 6..7               2..3, 4..5, 6..7
"""

import functools
from types import ModuleType
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Bool, Float, Int

from sar_jax.model.attention.portable import on_each_device
from sar_jax.model.remat import ATTENTION

_LANES = 128
_BLOCKS = (512, 384, 256, 128)  # columns of a tile: the largest that divides the row
# of a tile of each pass, as the kernel names them
_SIZES = "q kv kv_compute q_dkv kv_dkv kv_dkv_compute q_dq kv_dq".split()


def attend(
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    segment_ids: Int[Array, "R T"],
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
    interpret: bool = False,
) -> Float[Array, "R T N H"]:
    """`portable.attend` by the splash kernel.

    interpret   run the kernel's steps on any device, to check them
    """
    local = functools.partial(_attend_local, softcap=softcap, window=window, interpret=interpret)
    return on_each_device(local, _LANES, q * scale, k, v, segment_ids)


def pairs(segment_ids: Int[np.ndarray, "R T"]) -> int:
    """Pairs of a query and a key in the blocks that are not skipped, of a layer without window."""
    T = segment_ids.shape[1]
    ids = np.pad(segment_ids, ((0, 0), (0, -T % _LANES)))
    block = _block(ids.shape[1])
    steps = ids.shape[1] // block
    return int(visits(seen_blocks(ids, block, None), steps).visited.sum()) * block**2


def _block(columns: int) -> int:
    """Columns of a tile."""
    return next(b for b in _BLOCKS if columns % b == 0)


def _attend_local(
    q: Array,
    k: Array,
    v: Array,
    segment_ids: Array,
    *,
    softcap: float | None,
    window: int | None,
    interpret: bool,
) -> Array:
    """The rows and heads of one device. To the kernel, all rows are one long sequence."""
    R, T, N = q.shape[:3]
    if window is None:
        mask = masks.CausalMask((T, T))
    else:
        mask = masks.LocalMask((T, T), (window - 1, 0), 0)
    block = _block(T)
    sizes = kernels.BlockSizes(**{f"block_{name}": block for name in _SIZES})
    kernel = kernels.make_splash_mha_single_device(
        masks.MultiHeadMask([mask] * N),
        block_sizes=sizes,
        attn_logits_soft_cap=softcap,
        residual_checkpoint_name=ATTENTION,
        interpret=interpret,
    )
    run = _for_segments(kernel, segment_ids, block, window)
    heads_first = lambda x: x.reshape(R * T, *x.shape[2:]).swapaxes(0, 1)
    ids = segment_ids.reshape(R * T)
    out = run(heads_first(q), heads_first(k), heads_first(v), kernels.SegmentIds(ids, ids))
    return out.swapaxes(0, 1).reshape(R, T, N, -1)


def _for_segments(
    kernel: kernels.SplashAttentionKernel,
    segment_ids: Int[Array, "R T"],
    block: int,
    window: int | None,
) -> kernels.SplashAttentionKernel:
    """The kernel of one row, for rows one after the other, with the blocks that their segments
    leave."""
    seen = seen_blocks(segment_ids, block, window)
    keys = visits(seen, kernel.fwd_mask_info.block_mask.shape[2])
    queries = visits(seen.swapaxes(1, 2), kernel.dkv_mask_info.block_mask.shape[1])
    columns = np.arange(segment_ids.size, dtype=np.int32)
    by_query = kernel.fwd_mask_info._replace(
        data_next=keys.block[None], block_mask=keys.visited[None], q_sequence=columns
    )
    by_key = kernel.dkv_mask_info._replace(
        data_next=queries.block.T[None], block_mask=queries.visited.T[None], q_sequence=columns
    )
    return kernels.SplashAttentionKernel(by_query, by_query, by_key, **kernel.kwargs)


def seen_blocks(
    segment_ids: Int[Array | np.ndarray, "R T"], block: int, window: int | None
) -> Bool[Array | np.ndarray, "R B B"]:
    """Does any query of a block (first axis of blocks) see any key of another?

    Where padding is not last in a row, or segments come back, too many are said to.
    """
    R, T = segment_ids.shape
    xp = _library(segment_ids)
    ids = xp.where(segment_ids == 0, xp.iinfo(segment_ids.dtype).max, segment_ids)
    ids = ids.reshape(R, T // block, block)
    low, high = ids.min(axis=2), ids.max(axis=2)
    starts = np.arange(0, T, block)
    age = starts[:, None] - starts  # of the block's first key, to its first query
    seen = age >= 0
    if window is not None:
        seen &= age - (block - 1) < window
    return seen & (low[:, :, None] <= high[:, None])


class Visits(NamedTuple):
    """What a kernel's loop does: for each block of all rows, in steps, over blocks of all rows.

    block     that a step works on; where it works on none, the one to be fetched for what follows
    visited   does the step work?
    """

    block: Int[Array | np.ndarray, "RB W"]
    visited: Int[Array | np.ndarray, "RB W"]


def visits(seen: Bool[Array | np.ndarray, "R B B"], steps: int) -> Visits:
    """For each block of the first axis those from the first to the last that it meets.

    steps   of the loop; at least the most that meet one
    """
    R, B = seen.shape[:2]
    xp = _library(seen)
    first = xp.argmax(seen, axis=2)
    last = B - 1 - xp.argmax(seen[:, :, ::-1], axis=2)
    first, last = ((x + B * np.arange(R)[:, None]).reshape(R * B, 1) for x in (first, last))
    block = first + np.arange(steps)
    visited = block <= last
    block = xp.where(visited, block, xp.roll(first, -1, axis=0))
    return Visits(block.astype(xp.int32), visited.astype(xp.int32))


def _library(x: Array | np.ndarray) -> ModuleType:
    """A plan counts thousands of rows, which JAX would do operation by operation."""
    return np if isinstance(x, np.ndarray) else jnp
