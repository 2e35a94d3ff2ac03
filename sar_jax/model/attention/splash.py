"""Fused attention on TPUs: JAX's splash kernel, for packed rows.

The scores never leave the chip's own memory; blocks that the causal mask or the window hides are
skipped. Rows are padded to a multiple of 128 columns. Left out: attention across devices along the
sequence.
"""

import functools

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Float, Int

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
    """The rows and heads of one device."""
    T, N = q.shape[1:3]
    if window is None:
        mask = masks.CausalMask((T, T))
    else:
        mask = masks.LocalMask((T, T), (window - 1, 0), 0)
    block = next(b for b in _BLOCKS if T % b == 0)
    sizes = kernels.BlockSizes(**{f"block_{name}": block for name in _SIZES})
    kernel = kernels.make_splash_mha_single_device(
        masks.MultiHeadMask([mask] * N),
        block_sizes=sizes,
        attn_logits_soft_cap=softcap,
        residual_checkpoint_name=ATTENTION,
        interpret=interpret,
    )
    heads_first = lambda x: x.swapaxes(1, 2)
    run = jax.vmap(lambda q, k, v, ids: kernel(q, k, v, segment_ids=kernels.SegmentIds(ids, ids)))
    return heads_first(run(heads_first(q), heads_first(k), heads_first(v), segment_ids))
