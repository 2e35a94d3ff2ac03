"""The one scoring function: logprobs and entropy of the answer tokens of packed rows.

Policy and reference, with and without the question, pretraining, the update's gradient and `sar_jax.explain` all go
through `score_rows`. Logits exist for one chunk of each row at a time, forward and backward: no array
[tokens, vocabulary] does.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sar_jax import model, parameters
from sar_jax.sharding import BATCH, constrain
from sar_jax.structs import Packed, Scores


def token_scores(graphdef: model.GraphDef, params: parameters.Params, hidden: Float[Array, "R T D"],
                 targets: Int[Array, "R T"], chunk: int) -> Scores:
    """logps and entropy of `targets` under the logits of `hidden`, in chunks of `chunk` columns, in float32."""
    R, T, D = hidden.shape
    chunks = T // chunk

    def body(_, xs):
        h, target = xs
        logits = model.unembed(graphdef, params, h)
        lse = jax.nn.logsumexp(logits, axis=-1)
        logps = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0] - lse
        entropy = lse - jnp.sum(jnp.exp(logits - lse[..., None]) * logits, axis=-1)
        return None, Scores(logps, jax.lax.stop_gradient(entropy))

    split = lambda x: jnp.moveaxis(x.reshape(R, chunks, chunk, *x.shape[2:]), 1, 0)
    _, scores = jax.lax.scan(jax.checkpoint(body), None, (split(hidden), split(targets)))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(R, T), scores)


def score_rows(graphdef: model.GraphDef, params: parameters.Params, packed: Packed, chunk: int) -> Scores:
    """Scores of the masked tokens of packed rows, 0 elsewhere. Differentiable in `params` (the logps).

    The token in column t is predicted from column t - 1, which is in the same segment: a prompt is never empty.
    """
    hidden = model.forward(graphdef, params, packed.tokens, packed.positions, packed.segment_ids)
    previous = jnp.pad(hidden, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    scores = token_scores(graphdef, params, constrain(previous, BATCH, None, None), packed.tokens, chunk)
    return jax.tree.map(lambda x: jnp.where(packed.mask, x, 0.0), scores)


def make_score(graphdef: model.GraphDef, chunk: int):
    """The jitted `score(params, packed) -> Scores`, the same executable for policy and reference."""
    return jax.jit(functools.partial(score_rows, graphdef, chunk=chunk))
