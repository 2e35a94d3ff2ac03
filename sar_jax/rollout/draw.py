"""Logits -> the next token of every slot, and the logprobs of what was drawn.

    logits --/ temperature--> --top-k--> --top-p--> --min-p--> the distribution that is drawn from

A draw needs few random bits, not one for each entry of the vocabulary: the entries are in blocks,
and the largest of a block's logits plus Gumbel noise is distributed like the block's log-sum-exp
plus Gumbel noise, so a block is drawn first and then an entry of it. The sums of the blocks give
the logprob, too, and nothing of the vocabulary's size has to leave a device where the vocabulary is
spread over several. Nothing is sorted while the filters are off.

Letters: S slots, V vocabulary, n blocks of v entries.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sar_jax.parallel.sharding import dividing
from sar_jax.structs import Sampling

_BLOCKS = 128  # of the vocabulary: with 150,000 entries a draw takes 128 + 1,187 random numbers


class Picked(NamedTuple):
    """A token of every slot.

    sampling_logp   of the distribution that it was drawn from
    logp            of the softmax of all logits, without temperature
    """

    token: Int[Array, " S"]
    sampling_logp: Float[Array, " S"]
    logp: Float[Array, " S"]


def kept(logits: Float[Array, "S V"], sampling: Sampling) -> Bool[Array, "S V"]:
    """Which entries the filters leave, one after the other as `transformers` applies them.

    A filter is a threshold: top-p's is that of the last entry before which less than top_p has been
    collected. The most probable entry always stays.
    """
    threshold = jnp.full(logits.shape[:1], -jnp.inf)
    top_k = sampling.top_k if 0 < sampling.top_k < logits.shape[-1] else 0
    if top_k or sampling.top_p < 1:
        ordered = jax.lax.top_k(logits, top_k or logits.shape[-1])[0]
        threshold = ordered[:, -1]
        if sampling.top_p < 1:
            probs = jax.nn.softmax(ordered, axis=-1)
            before = jnp.cumsum(probs, axis=-1) - probs
            last = jnp.maximum((before < sampling.top_p).sum(axis=-1), 1) - 1
            threshold = jnp.take_along_axis(ordered, last[:, None], axis=-1)[:, 0]
    if sampling.min_p > 0:
        threshold = jnp.maximum(threshold, logits.max(axis=-1) + jnp.log(sampling.min_p))
    return logits >= threshold[:, None]


def pick(
    logits: Float[Array, "S V"], keys: Array, greedy: Bool[Array, ""], sampling: Sampling
) -> Picked:
    """A token of every slot.

    keys     one random key a slot
    greedy   the most probable token instead of a draw; then both logprobs are that of all logits
    """
    policy = _blocks(logits)
    policy_total = policy.largest + jnp.log(policy.sums.sum(axis=-1))

    def take_best() -> Picked:
        logp = policy.largest - policy_total
        return Picked(jnp.argmax(logits, axis=-1).astype(jnp.int32), logp, logp)

    def draw() -> Picked:
        if sampling == Sampling():  # the softmax of the logits themselves
            token, chosen = _draw(policy, keys)
            return Picked(token, chosen - policy_total, chosen - policy_total)
        scaled = logits / sampling.temperature
        filtered = _blocks(jnp.where(kept(scaled, sampling), scaled, -jnp.inf))
        token, chosen = _draw(filtered, keys)
        sampling_logp = chosen - filtered.largest - jnp.log(filtered.sums.sum(axis=-1))
        return Picked(token, sampling_logp, chosen * sampling.temperature - policy_total)

    return jax.lax.cond(greedy, take_best, draw)


class _Blocks(NamedTuple):
    """The vocabulary in blocks.

    largest   the largest logit
    sums      of exp(logit - largest), of each block
    logits    in blocks, -inf beyond the last entry
    """

    largest: Float[Array, " S"]
    sums: Float[Array, "S n"]
    logits: Float[Array, "S n v"]


def _blocks(logits: Float[Array, "S V"]) -> _Blocks:
    V = logits.shape[-1]
    size = -(-V // _BLOCKS)
    padded = logits
    if size * _BLOCKS != V:
        padding = ((0, 0), (0, size * _BLOCKS - V))
        padded = jnp.pad(logits, padding, constant_values=-jnp.inf)
    blocks, largest = padded.reshape(len(logits), _BLOCKS, size), logits.max(axis=-1)
    return _Blocks(largest, jnp.exp(blocks - largest[:, None, None]).sum(axis=-1), blocks)


def _draw(blocks: _Blocks, keys: Array) -> tuple[Int[Array, " S"], Float[Array, " S"]]:
    """A token of every slot and its logit: first its block, then its place there."""
    size = blocks.logits.shape[-1]
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (_BLOCKS + size,)))(keys)
    block = jnp.argmax(jnp.log(blocks.sums) + noise[:, :_BLOCKS], axis=-1)
    if _spread():
        # a reduction: only the block's logits travel
        here = jnp.arange(_BLOCKS)[:, None] == block[:, None, None]
        inside = jnp.where(here, blocks.logits, -jnp.inf).max(axis=1)
    else:
        inside = jnp.take_along_axis(blocks.logits, block[:, None, None], axis=1)[:, 0]
    place = jnp.argmax(inside + noise[:, _BLOCKS:], axis=-1)
    chosen = jnp.take_along_axis(inside, place[:, None], axis=-1)[:, 0]
    return (block * size + place).astype(jnp.int32), chosen


def _spread() -> bool:
    """Is the vocabulary spread over several devices?"""
    mesh = jax.sharding.get_abstract_mesh()
    return bool(dividing("tensor", _BLOCKS)) and mesh.shape["tensor"] > 1
