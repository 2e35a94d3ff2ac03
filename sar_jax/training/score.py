"""The one scoring function: logprobs and entropy of the answer tokens of packed rows.

Policy and reference, with and without the question, pretraining, the update's gradient and
`sar_jax.explain` all go through `score_rows`. Logits exist for answers' tokens alone, and for one
chunk of the vocabulary at a time, forward and backward: there is no array [tokens, vocabulary].

Letters: R packed rows, T tokens a row, K tokens a row that have logits, D embed, C chunks of v
vocabulary entries.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sar_jax.model import network as network_lib
from sar_jax.model.attention import portable
from sar_jax.model.network import Network
from sar_jax.model.parameters import Params
from sar_jax.parallel.sharding import BATCH, constrain, dividing
from sar_jax.structs import Packed, Scores

Score = Callable[[Params, Packed], Scores]

_TILE = 128  # tokens: fewer of a row save nothing


def answer_widths(row_tokens: int) -> list[int]:
    """Tokens of a row that may have logits, rising: half of a row, three quarters, all of it.

    In multiples of 128, but for a whole row. Each is compiled, so there are few.
    """
    quarters = (-(-row_tokens * part // (4 * _TILE)) * _TILE for part in (2, 3, 4))
    return sorted({min(width, row_tokens) for width in quarters})


def width_of(mask: Bool[np.ndarray, "R T"]) -> int:
    """Which of `answer_widths` rows with this mask have."""
    longest = mask.sum(axis=1).max(initial=0)
    return next(width for width in answer_widths(mask.shape[1]) if width >= longest)


class _Places(NamedTuple):
    """Where each row's answer tokens are, to bring them together at its beginning and back.

    columns   of the row's first, second, ... answer token; T after the last
    ranks     of each column's token among these, from 0; T where it is not an answer's
    width     which of `answer_widths`: the least that holds the tokens of every row

    A worked example, one row of 6 with the mask 0 0 1 1 0 1: columns 2 3 5 6 6 6, and ranks
    6 6 0 1 6 2.
    """

    columns: Int[Array, "R T"]
    ranks: Int[Array, "R T"]
    width: Int[Array, ""]


def _places(mask: Bool[Array, "R T"]) -> _Places:
    T = mask.shape[1]
    count = jnp.cumsum(mask, axis=1, dtype=jnp.int32)
    # the columns that have k answer tokens at most up to them; without a scatter or a sort
    columns = (count[:, None, :] <= jnp.arange(T)[:, None]).sum(axis=2, dtype=jnp.int32)
    longest = count[:, -1].max()
    narrower = [(longest > width).astype(jnp.int32) for width in answer_widths(T)[:-1]]
    return _Places(columns, jnp.where(mask, count - 1, T), sum(narrower, jnp.int32(0)))


def _take(x: Array, indices: Int[Array, "R k"]) -> Array:
    """x[r, indices[r, k]] of an array [R, n, ...]; 0 where the index is not below n."""
    wide = indices.reshape(*indices.shape, *(1 for _ in x.shape[2:]))
    found = jnp.take_along_axis(x, wide, axis=1, mode="fill", fill_value=0)
    return constrain(found, BATCH, *(None for _ in found.shape[1:]))


def _by_width(at: Callable, places: _Places, *args: Array | None) -> tuple[Any, ...]:
    """at(columns [R, K], *args) with the K that holds every row's answers."""
    widths = answer_widths(places.columns.shape[1])
    branches = [lambda columns, *args, K=K: at(columns[:, :K], *args) for K in widths]
    return network_lib.choose(places.width, branches, places.columns, *args)


class _Logits(NamedTuple):
    """How logits come about, for all chunks: static.

    product   as in `HeadChunks`
    softcap   what bends the products into logits; None: nothing does
    entries   of the vocabulary
    keep      does the backward pass keep them?
    """

    product: Callable[[Array, Array], Array]
    softcap: float | None
    entries: int
    keep: bool


def token_scores(
    network: Network, params: Params, hidden: Float[Array, "R T D"], packed: Packed, chunk: int
) -> Scores:
    """logps and entropy of the masked tokens under the logits of `hidden`, in float32; 0 elsewhere.

    chunk   about this many vocabulary entries at a time

    The token in column t is predicted from column t - 1, which is in the same segment: a prompt is
    never empty. The rows' answers are brought together, so that the head multiplies little else.
    """
    pieces = network_lib.head_chunks(network, params, chunk)
    cfg = network.cfg
    logits = _Logits(pieces.product, cfg.final_softcap, cfg.vocab_size, network.keep_logits)
    args = (hidden, pieces.head, pieces.ids, packed.tokens, packed.mask)
    logps, entropy = _chunked(logits, *args)
    return Scores(logps, jax.lax.stop_gradient(entropy))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(
    how: _Logits,
    hidden: Float[Array, "R T D"],
    head: Float[Array, "C v D"],
    ids: Int[Array, "C v"],
    tokens: Int[Array, "R T"],
    mask: Bool[Array, "R T"],
) -> tuple[Float[Array, "R T"], Float[Array, "R T"]]:
    """The masked tokens' logps, and the entropies, through which no gradient flows.

    head, ids   as in `HeadChunks`

    A softmax over chunks: the largest logit m so far, s = sum exp(l - m), u = sum exp(l - m) l.
    Then log sum exp is m + log s, and the entropy m + log s - u / s. Cut along the vocabulary and
    not along the tokens, each chunk of the head is gathered once, and its gradient summed over the
    devices once, however many tokens there are.

    The derivative of a logp with respect to the logits is onehot(target) - softmax. Its rule is
    written out, so that the backward pass needs the log sum exp alone: it makes each chunk's logits
    once more, if they are not kept, but no maximum or sum over them.
    """
    return _forward(how._replace(keep=False), hidden, head, ids, tokens, mask)[0]


def _forward(how: _Logits, hidden: Array, head: Array, ids: Array, tokens: Array, mask: Array):
    places, (R, T) = _places(mask), mask.shape

    def at(columns, hidden, head, ids, tokens):
        known, targets = _take(hidden, columns - 1), _take(tokens, columns)

        def body(carry, xs):
            m, s, u, target, kept = carry
            c, piece, own = xs
            logits = portable.softcapped(how.product(known, piece), how.softcap)
            here = jnp.where(own < how.entries, logits, -jnp.inf)
            largest = jnp.maximum(m, here.max(axis=-1))
            weights, shrink = jnp.exp(here - largest[..., None]), jnp.exp(m - largest)
            u = u * shrink + (weights * logits).sum(axis=-1)
            target = target + jnp.where(own == targets[..., None], logits, 0).sum(axis=-1)
            if how.keep:
                kept = jax.lax.dynamic_update_slice(kept, logits[None], (c, 0, 0, 0))
            return (largest, s * shrink + weights.sum(axis=-1), u, target, kept), None

        C, v = ids.shape
        zero = jnp.zeros(targets.shape, jnp.float32)
        kept = None
        if how.keep:
            kept = jnp.zeros((C, R, T, v), jnp.float32)
            kept = constrain(kept, None, BATCH, None, dividing("tensor", how.entries))
        carry = (zero - jnp.inf, zero, zero, zero, kept)
        (m, s, u, target, kept), _ = jax.lax.scan(body, carry, (jnp.arange(C), head, ids))
        lse = m + jnp.log(s)
        rest = ((0, 0), (0, T - columns.shape[1]))
        return tuple(jnp.pad(x, rest) for x in (target - lse, lse - u / s, lse)), kept

    (*scores, lse), kept = _by_width(at, places, hidden, head, ids, tokens)
    logps, entropy = (_take(x, places.ranks) for x in scores)
    return (logps, entropy), (hidden, head, ids, tokens, mask, lse, kept)


def _backward(how: _Logits, saved: tuple[Array | None, ...], cotangents: tuple[Array, Array]):
    hidden, head, ids, tokens, mask, lse, kept = saved
    places, T = _places(mask), mask.shape[1]
    # the state in column t predicts the token of column t + 1
    predicted = jnp.pad(places.ranks[:, 1:], ((0, 0), (0, 1)), constant_values=T)

    def at(columns, hidden, head, ids, tokens, lse, kept, cotangent):
        known, targets = _take(hidden, columns - 1), _take(tokens, columns)
        K = columns.shape[1]
        weight, lse = _take(cotangent, columns)[..., None], lse[:, :K, None]

        def body(total, xs):
            piece, own, logits = xs
            found, pull = jax.vjp(how.product, known, piece)
            if logits is None:
                logits = portable.softcapped(found, how.softcap)
            else:
                logits = logits[:, :K]
            here = jnp.where(own < how.entries, logits, -jnp.inf)
            onehot = (own == targets[..., None]).astype(jnp.float32)
            gradient = weight * (onehot - jnp.exp(here - lse))
            if how.softcap is not None:
                gradient = gradient * (1 - (logits / how.softcap) ** 2)
            to_hidden, to_piece = pull(gradient)
            return total + to_hidden, to_piece  # in float32 over the chunks

        total = jnp.zeros(known.shape, jnp.float32)
        total, to_head = jax.lax.scan(body, total, (head, ids, kept))
        return _take(total.astype(hidden.dtype), predicted), to_head

    args = (hidden, head, ids, tokens, lse, kept, cotangents[0])
    to_hidden, to_head = _by_width(at, places, *args)
    return to_hidden, to_head, None, None, None


_chunked.defvjp(_forward, _backward)


def score_rows(network: Network, params: Params, packed: Packed, chunk: int) -> Scores:
    """Scores of the masked tokens of packed rows, 0 elsewhere; the logps are differentiable.

    chunk   vocabulary entries whose logits exist at once, about
    """
    hidden = network_lib.forward(
        network, params, packed.tokens, packed.positions, packed.segment_ids
    )
    return token_scores(network, params, hidden, packed, chunk)


def make_score(network: Network, chunk: int) -> Score:
    """The jitted `score(params, packed)`, the same executable for policy and reference."""
    return jax.jit(functools.partial(score_rows, network, chunk=chunk))
