"""Attention over a cache on TPUs: JAX's paged-attention kernel, which reads of every slot what is live and no more.

A slot's columns lie side by side in the cache, so a page is a piece of it and needs no table but for arithmetic; the layer
is part of a page's number, so that the kernel reads from the cache of all layers without a copy of one. Called with one
device's slots and kv heads (`sar_jax.cache` cuts). Left out: quantised pages (the kernel's scales take more room than they
save).
"""

import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention
from jaxtyping import Array, Float, Int

PAGE = 128     # columns; a page is read as a whole
LANES = 128    # head dims are padded to a multiple; in a TPU's memory they are anyway
_BLOCK = 2     # pages at a time


def attend(q: Float[Array, "S N H"], k: Float[Array, "K l S C h"], v: Float[Array, "K l S C h"], layer: Int[Array, ""],
           lengths: Int[Array, " S"], *, scale: float, softcap: float | None = None) -> Float[Array, "S N H"]:
    """See `attention.attend_cached`; h is H padded to LANES, C a multiple of PAGE."""
    K, layers, S, C, h = k.shape
    each = C // PAGE
    pages = lambda x: x.reshape(K, layers * S * each, PAGE, h)
    numbers = (layer * S + jnp.arange(S, dtype=jnp.int32))[:, None] * each + jnp.arange(each, dtype=jnp.int32)
    padded = jnp.pad(q * scale, ((0, 0), (0, 0), (0, h - q.shape[-1]))).astype(k.dtype)
    out = paged_attention(padded, pages(k), pages(v), lengths.astype(jnp.int32), numbers.astype(jnp.int32),
                          attn_logits_soft_cap=softcap, pages_per_compute_block=_BLOCK if each % _BLOCK == 0 else 1)
    return out[..., :q.shape[-1]].astype(q.dtype)
