"""Fused attention on TPUs: JAX's splash kernel, behind the signature of `attention.attend`.

The scores never leave the chip's own memory; blocks that the causal mask or the window hides are skipped. Each device runs
the kernel on its own rows (data, fsdp) and heads (tensor) inside `shard_map`, since XLA cannot partition a kernel. Rows are
padded to a multiple of 128 columns. Left out: attention across devices along the sequence.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from sar_jax.sharding import BATCH

_LANES = 128
_BLOCKS = (512, 384, 256, 128)   # columns of a tile: the largest that divides the row


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
    """See `attention.attend`. interpret: run the kernel's steps on any device, to check them."""
    mesh, T = jax.sharding.get_abstract_mesh(), q.shape[1]
    pad = -T % _LANES
    widen = lambda x: jnp.pad(x, ((0, 0), (0, pad)) + ((0, 0),) * (x.ndim - 2))
    local = functools.partial(_attend_local, softcap=softcap, window=window, interpret=interpret)
    if not mesh.empty:
        heads = "tensor" if _spread(q.shape[2], k.shape[2], mesh.shape["tensor"]) else None
        kv_heads = heads if k.shape[2] % mesh.shape["tensor"] == 0 else None
        spec = lambda heads: P(BATCH, None, heads, None)
        local = jax.shard_map(local, mesh=mesh, in_specs=(spec(heads), spec(kv_heads), spec(kv_heads), P(BATCH, None)),
                              out_specs=spec(heads), check_vma=False)
    return local(widen(q * scale), widen(k), widen(v), widen(segment_ids))[:, :T]


def _spread(num_heads: int, num_kv_heads: int, devices: int) -> bool:
    """Can the heads be cut so that each device holds the kv heads of its queries? One kv head is copied to all."""
    return num_heads % devices == 0 and (num_kv_heads % devices == 0 or num_kv_heads == 1)


def _attend_local(q: Array, k: Array, v: Array, segment_ids: Array, *, softcap: float | None, window: int | None,
                  interpret: bool) -> Array:
    """The rows and heads of one device."""
    T, N = q.shape[1:3]
    mask = masks.CausalMask((T, T)) if window is None else masks.LocalMask((T, T), (window - 1, 0), 0)
    block = next(b for b in _BLOCKS if T % b == 0)
    sizes = kernels.BlockSizes(**{f"block_{name}": block for name in (
        "q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")})
    kernel = kernels.make_splash_mha_single_device(
        masks.MultiHeadMask([mask] * N), block_sizes=sizes, attn_logits_soft_cap=softcap, interpret=interpret)
    heads_first = lambda x: x.swapaxes(1, 2)
    run = jax.vmap(lambda q, k, v, ids: kernel(q, k, v, segment_ids=kernels.SegmentIds(ids, ids)))
    return heads_first(run(heads_first(q), heads_first(k), heads_first(v), segment_ids))
