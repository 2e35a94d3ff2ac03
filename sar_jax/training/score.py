"""The one scoring function: logprobs and entropy of the answer tokens of packed rows.

Policy and reference, with and without the question, pretraining, the update's gradient and
`sar_jax.explain` all go through `score_rows`. Logits exist for one chunk of the vocabulary at a
time, forward and backward: there is no array [tokens, vocabulary].

Letters: R packed rows, T tokens a row, D embed.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sar_jax.model import network as network_lib
from sar_jax.model.network import Network
from sar_jax.model.parameters import Params
from sar_jax.parallel.sharding import BATCH, constrain
from sar_jax.structs import Packed, Scores

Score = Callable[[Params, Packed], Scores]


def token_scores(
    network: Network,
    params: Params,
    hidden: Float[Array, "R T D"],
    targets: Int[Array, "R T"],
    chunk: int,
) -> Scores:
    """logps and entropy of `targets` under the logits of `hidden`, in float32.

    chunk   about this many vocabulary entries at a time

    A softmax over chunks: the largest logit m so far, s = sum exp(l - m), u = sum exp(l - m) l.
    Then log sum exp is m + log s, and the entropy m + log s - u / s. Cut along the vocabulary and
    not along the tokens, each chunk of the head is gathered once, and its gradient summed over the
    devices once, however many tokens there are.
    """
    pieces = network_lib.head_chunks(network, params, chunk)
    vocab_size = params["embedding"].shape[0]
    logps, entropy = _chunked(pieces.logits, vocab_size, hidden, pieces.head, pieces.ids, targets)
    return Scores(logps, jax.lax.stop_gradient(entropy))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chunked(
    logits_of: Callable[[Array, Array], Array],
    vocab_size: int,
    hidden: Float[Array, "R T D"],
    head: Float[Array, "C v D"],
    ids: Int[Array, "C v"],
    targets: Int[Array, "R T"],
) -> tuple[Float[Array, "R T"], Float[Array, "R T"]]:
    """The targets' logps, and the entropies, through which no gradient flows.

    logits_of, head, ids   as in `HeadChunks`

    A softmax over chunks: the largest logit m so far, s = sum exp(l - m), u = sum exp(l - m) l.
    Then log sum exp is m + log s, and the entropy m + log s - u / s.

    The derivative of a logp with respect to the logits is onehot(target) - softmax. Its rule is
    written out, so that the backward pass needs the log sum exp alone, and makes each chunk's
    logits once more, but no maximum or sum over them.
    """
    return _forward(logits_of, vocab_size, hidden, head, ids, targets)[0]


def _forward(logits_of, vocab_size: int, hidden: Array, head: Array, ids: Array, targets: Array):

    def body(carry, xs):
        m, s, u, target = carry
        piece, own = xs
        logits = logits_of(hidden, piece)
        here = jnp.where(own < vocab_size, logits, -jnp.inf)
        largest = jnp.maximum(m, here.max(axis=-1))
        weights, shrink = jnp.exp(here - largest[..., None]), jnp.exp(m - largest)
        u = u * shrink + (weights * logits).sum(axis=-1)
        target = target + jnp.where(own == targets[..., None], logits, 0).sum(axis=-1)
        return (largest, s * shrink + weights.sum(axis=-1), u, target), None

    zero = jnp.zeros(targets.shape, jnp.float32)
    (m, s, u, target), _ = jax.lax.scan(body, (zero - jnp.inf, zero, zero, zero), (head, ids))
    lse = m + jnp.log(s)
    return (target - lse, lse - u / s), (hidden, head, ids, targets, lse)


def _backward(logits_of, vocab_size: int, kept: tuple[Array, ...], cotangents: tuple[Array, Array]):
    hidden, head, ids, targets, lse = kept
    weight = cotangents[0][..., None]

    def body(total, xs):
        piece, own = xs
        logits, pull = jax.vjp(logits_of, hidden, piece)
        here = jnp.where(own < vocab_size, logits, -jnp.inf)
        onehot = (own == targets[..., None]).astype(jnp.float32)
        to_hidden, to_piece = pull(weight * (onehot - jnp.exp(here - lse[..., None])))
        return total + to_hidden, to_piece  # in float32 over the chunks

    total, to_head = jax.lax.scan(body, jnp.zeros(hidden.shape, jnp.float32), (head, ids))
    return total.astype(hidden.dtype), to_head, None, None


_chunked.defvjp(_forward, _backward)


def score_rows(network: Network, params: Params, packed: Packed, chunk: int) -> Scores:
    """Scores of the masked tokens of packed rows, 0 elsewhere; the logps are differentiable.

    chunk   vocabulary entries whose logits exist at once, about

    The token in column t is predicted from column t - 1, which is in the same segment: a prompt is
    never empty.
    """
    hidden = network_lib.forward(
        network, params, packed.tokens, packed.positions, packed.segment_ids
    )
    previous = jnp.pad(hidden, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    previous = constrain(previous, BATCH, None, None)
    scores = token_scores(network, params, previous, packed.tokens, chunk)
    return jax.tree.map(lambda x: jnp.where(packed.mask, x, 0.0), scores)


def make_score(network: Network, chunk: int) -> Score:
    """The jitted `score(params, packed)`, the same executable for policy and reference."""
    return jax.jit(functools.partial(score_rows, network, chunk=chunk))
