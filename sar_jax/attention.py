"""Scaled dot-product attention with grouped queries.

`attend` serves packed rows: a token sees the earlier tokens of its own segment. `attend_cached` serves decoding: one
query a sequence, over the cache of its group's question and over its own answer so far.

Scores and softmax are float32. Each einsum has two operands: three-operand ones ran several times slower on CPUs.
Left out: fused TPU and GPU kernels, sliding windows.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_QUERY_BLOCK = 512   # queries whose scores [block, T] exist at once
_NEGATIVE = -1e30    # finite, so that a row without any visible key (padding) stays free of NaN


def attend(
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    segment_ids: Int[Array, "R T"],
) -> Float[Array, "R T N H"]:
    """Causal attention within segments of a packed row. Padding has segment 0; its output has no meaning."""
    width = q.shape[1]
    if width <= _QUERY_BLOCK or width % _QUERY_BLOCK:
        return _attend_block(q, k, v, segment_ids, segment_ids, 0)
    blocks = width // _QUERY_BLOCK

    def body(_, block):
        q_block, ids, start = block
        return None, _attend_block(q_block, k, v, ids, segment_ids, start)

    split = lambda x: jnp.moveaxis(x.reshape(x.shape[0], blocks, _QUERY_BLOCK, *x.shape[2:]), 1, 0)
    _, out = jax.lax.scan(jax.checkpoint(body), None,
                          (split(q), split(segment_ids), jnp.arange(blocks) * _QUERY_BLOCK))
    return jnp.moveaxis(out, 0, 1).reshape(q.shape)


def _attend_block(q, k, v, q_ids, k_ids, start):
    """`attend` for the queries that begin at column `start`."""
    R, Tq, N, H = q.shape
    K = k.shape[2]
    q = q.reshape(R, Tq, K, N // K, H)
    scores = jnp.einsum("RTKGH,RSKH->RKGTS", q, k, preferred_element_type=jnp.float32) * H**-0.5
    causal = (start + jnp.arange(Tq))[:, None] >= jnp.arange(k.shape[1])[None]
    visible = causal & (q_ids[:, :, None] == k_ids[:, None])
    probs = jax.nn.softmax(jnp.where(visible[:, None, None], scores, _NEGATIVE), axis=-1)
    return jnp.einsum("RKGTS,RSKH->RTKGH", probs.astype(v.dtype), v).reshape(R, Tq, N, H)


def attend_cached(
    q: Float[Array, "Q M N H"],
    question_k: Float[Array, "Q P K H"],
    question_v: Float[Array, "Q P K H"],
    question_visible: Bool[Array, "Q P"],
    answer_k: Float[Array, "Q M A K H"],
    answer_v: Float[Array, "Q M A K H"],
    answer_visible: Bool[Array, " A"],
) -> Float[Array, "Q M N H"]:
    """One query for each of M answers to Q questions; the M answers share their question's cache."""
    Q, M, N, H = q.shape
    K = question_k.shape[2]
    q = q.reshape(Q, M, K, N // K, H)
    to_question = jnp.einsum("QMKGH,QPKH->QMKGP", q, question_k, preferred_element_type=jnp.float32) * H**-0.5
    to_answer = jnp.einsum("QMKGH,QMAKH->QMKGA", q, answer_k, preferred_element_type=jnp.float32) * H**-0.5
    to_question = jnp.where(question_visible[:, None, None, None], to_question, _NEGATIVE)
    to_answer = jnp.where(answer_visible, to_answer, _NEGATIVE)
    probs = jax.nn.softmax(jnp.concatenate([to_question, to_answer], axis=-1), axis=-1).astype(question_v.dtype)
    P = question_k.shape[1]
    out = jnp.einsum("QMKGP,QPKH->QMKGH", probs[..., :P], question_v)
    out = out + jnp.einsum("QMKGA,QMAKH->QMKGH", probs[..., P:], answer_v)
    return out.reshape(Q, M, N, H)
