"""Scaled dot-product attention with grouped queries.

`attend` serves packed rows: a token sees the earlier tokens of its own segment. `attend_cached`
serves decoding: one query a sequence, over what the cache holds of it.

Scores and softmax are float32. Each einsum has two operands: three-operand ones ran several times
slower on CPUs. `sar_jax.model.attention.splash` and `sar_jax.model.attention.cudnn` are `attend` as
fused kernels for TPUs and for NVIDIA's GPUs; `on_each_device` runs those.

    scale     factor on the scores
    softcap   c: scores become c * tanh(scores / c)
    window    w: a token sees itself and the w - 1 before it (the positions of a segment are
              contiguous, so columns count)

Letters: R rows, T tokens a row, N heads, K kv heads, G = N / K, H head dim; S slots and C columns
of a cache, in a block S keys and t queries.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Num

from sar_jax.parallel.sharding import BATCH

_MIN_BLOCK = 96  # queries of a block, at least
_MAX_BLOCKS = 8  # blocks of a row, at most
_NEGATIVE = -1e30  # finite, so that a masked score stays free of NaN
_LONG_ROW = 1024  # from here on the backward pass recomputes the scores instead of keeping them


def attend(
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    segment_ids: Int[Array, "R T"],
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
) -> Float[Array, "R T N H"]:
    """Causal attention within the segments of packed rows.

    segment_ids              0 is padding, whose output has no meaning
    scale, softcap, window   see above

    Queries go in blocks, each over the keys from the first that one of them can see up to its own
    end: half of the scores, and those outside a window, never exist.
    """
    R, T, N, H = q.shape
    K = k.shape[2]
    # Heads first, the queries of a kv head side by side: each product is one plain batched matrix
    # product.
    q = jnp.einsum("RTKGH->RKGTH", q.reshape(R, T, K, N // K, H))
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    block = max(_MIN_BLOCK, -(-T // _MAX_BLOCKS))
    step = functools.partial(_attend_block, scale=scale, softcap=softcap, window=window)
    step = jax.checkpoint(step) if T > _LONG_ROW else step
    out = []
    for start in range(0, T, block):
        end = min(start + block, T)
        first = 0 if window is None else max(0, start - window + 1)
        own, seen = slice(start, end), slice(first, end)
        packed = q[:, :, :, own], k[:, :, seen], v[:, :, seen]
        out.append(step(*packed, segment_ids[:, own], segment_ids[:, seen]))
    return jnp.einsum("RKGTH->RTKGH", jnp.concatenate(out, axis=3)).reshape(R, T, N, H)


def on_each_device(
    kernel: Callable[[Array, Array, Array, Array], Array],
    tile: int,
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    segment_ids: Int[Array, "R T"],
) -> Float[Array, "R T N H"]:
    """A kernel on every device's own rows (data, fsdp) and heads (tensor).

    kernel   of q, k, v and segment_ids
    tile     columns are padded to a multiple of this

    Inside `shard_map`, since XLA cannot partition a kernel.
    """
    mesh, T = jax.sharding.get_abstract_mesh(), q.shape[1]
    pad = -T % tile
    widen = lambda x: jnp.pad(x, ((0, 0), (0, pad)) + ((0, 0),) * (x.ndim - 2))
    if not mesh.empty:
        heads = "tensor" if _spread(q.shape[2], k.shape[2], mesh.shape["tensor"]) else None
        kv_heads = heads if k.shape[2] % mesh.shape["tensor"] == 0 else None
        spec = lambda heads: P(BATCH, None, heads, None)
        kernel = jax.shard_map(
            kernel,
            mesh=mesh,
            in_specs=(spec(heads), spec(kv_heads), spec(kv_heads), P(BATCH, None)),
            out_specs=spec(heads),
            check_vma=False,
        )
    return kernel(widen(q), widen(k), widen(v), widen(segment_ids))[:, :T]


def _spread(num_heads: int, num_kv_heads: int, devices: int) -> bool:
    """Can the heads be divided so that each device holds the kv heads of its queries?

    One kv head is copied to all.
    """
    return num_heads % devices == 0 and (num_kv_heads % devices == 0 or num_kv_heads == 1)


def softcapped(x: Array, cap: float | None) -> Array:
    """x bent into (-cap, cap)."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def _attend_block(
    q: Float[Array, "R K G t H"],
    k: Float[Array, "R K S H"],
    v: Float[Array, "R K S H"],
    q_ids: Int[Array, "R t"],
    k_ids: Int[Array, "R S"],
    *,
    scale: float,
    softcap: float | None,
    window: int | None,
) -> Float[Array, "R K G t H"]:
    """The last t of S tokens attend over all S.

    Exponentials are summed first and divided last, on H numbers instead of S; every token sees
    itself, so no sum is 0.
    """
    R, K, G, t, H = q.shape
    S = k.shape[2]
    age = jnp.arange(S - t, S)[:, None] - jnp.arange(S)
    seen = age >= 0 if window is None else (age >= 0) & (age < window)
    bias = jnp.where(seen & (q_ids[:, :, None] == k_ids[:, None]), 0.0, _NEGATIVE)
    scores = jnp.einsum(
        "RKQH,RKSH->RKQS", q.reshape(R, K, G * t, H), k, preferred_element_type=jnp.float32
    )
    scores = softcapped(scores.reshape(R, K, G, t, S) * scale, softcap) + bias[:, None, None]
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1)[..., None]
    out = jnp.einsum("RKQS,RKSH->RKQH", weights.astype(v.dtype).reshape(R, K, G * t, S), v)
    return (out.reshape(R, K, G, t, H) / total).astype(v.dtype)


def attend_cached(
    q: Float[Array, "S N H"],
    k: Num[Array, "K S C H"],
    v: Num[Array, "K S C H"],
    k_scale: Float[Array, "K S C 1"] | None = None,
    v_scale: Float[Array, "K S C 1"] | None = None,
    *,
    lengths: Int[Array, " S"],
    scale: float,
    softcap: float | None = None,
) -> Float[Array, "S N H"]:
    """One query for each of S slots, over the slot's live columns.

    k_scale, v_scale   factors on each column's keys and values, of a cache of eight bits
    lengths            live columns of each slot, the first ones, in any order
    scale, softcap     see above
    """
    S, N, H = q.shape
    K, C = k.shape[0], k.shape[2]
    q = q.reshape(S, K, N // K, H).swapaxes(0, 1)
    scores = jnp.einsum("KSGH,KSCH->KSGC", q, k.astype(q.dtype), preferred_element_type=jnp.float32)
    scores = scores if k_scale is None else scores * k_scale.swapaxes(2, 3)
    bias = jnp.where(jnp.arange(C) < lengths[:, None], 0.0, _NEGATIVE)
    scores = softcapped(scores * scale, softcap) + bias[:, None]
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1)[..., None]
    weights = weights if v_scale is None else weights * v_scale.swapaxes(2, 3)
    out = jnp.einsum("KSGC,KSCH->KSGH", weights.astype(q.dtype), v.astype(q.dtype))
    out = (out / total).astype(q.dtype)
    return out.swapaxes(0, 1).reshape(S, N, H)
