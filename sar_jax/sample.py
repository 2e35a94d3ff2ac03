"""The jitted decoder: question prompts -> sampled answers with the logprobs that they were sampled from.

    prefill    each question is read once; its M answers share that cache
    decode     one token of every answer a step, until all have stopped or the limit is reached (lax.while_loop)

Reproducible: the random bits of a token depend on (key, row, position) alone, so the same row draws the same answer whatever
stands beside it. One compilation for each (questions, samples, widths): pad the questions to a fixed count.
Left out: refilling the slots of finished answers; filters (top-k, top-p) and temperatures other than 1 and 0.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sar_jax import model, parameters
from sar_jax.structs import Rollouts


def make_sample(graphdef: model.GraphDef, stop_ids: tuple[int, ...], samples: int, max_answer_tokens: int,
                greedy: bool = False) -> Callable[..., Rollouts]:
    """The jitted `sample(params, tokens [Q, P], lengths [Q], rows [Q], key) -> Rollouts` of `samples` answers a question.

    `rows` are the questions' numbers: answer m of the question numbered r draws from fold_in(key, r * samples + m).
    Questions of length 0 are padding: their answers stop at once. `greedy` takes the most probable token instead.
    """
    return jax.jit(functools.partial(_sample, graphdef, stop_ids=stop_ids, samples=samples,
                                     max_answer_tokens=max_answer_tokens, greedy=greedy))


def pick(logits: Float[Array, "Q M V"], keys: Array, t: Array, greedy: bool) -> tuple[Int[Array, "Q M"], Array]:
    """Token t of every answer, and its log-softmax: drawn from softmax(logits), or the most probable one."""
    if greedy:
        token = jnp.argmax(logits, axis=-1)
    else:
        draw = lambda key, row: jax.random.categorical(jax.random.fold_in(key, t), row)
        token = jax.vmap(jax.vmap(draw))(keys, logits)
    chosen = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
    return token.astype(jnp.int32), chosen - jax.nn.logsumexp(logits, axis=-1)


def _sample(graphdef: model.GraphDef, params: parameters.Params, tokens: Int[Array, "Q P"], lengths: Int[Array, " Q"],
            rows: Int[Array, " Q"], key: Array, *, stop_ids: tuple[int, ...], samples: int, max_answer_tokens: int,
            greedy: bool) -> Rollouts:
    Q, A = tokens.shape[0], max_answer_tokens
    keys = jax.vmap(jax.vmap(lambda row: jax.random.fold_in(key, row)))(
        rows[:, None] * samples + jnp.arange(samples))
    stops = jnp.array(stop_ids)
    hidden, cache = model.prefill(graphdef, params, tokens, jnp.maximum(lengths, 1), samples, A)
    logits = jnp.broadcast_to(model.unembed(graphdef, params, hidden)[:, None], (Q, samples, params["embedding"].shape[0]))

    def write(buffers, t, logits, done):
        """Draws token t where the answer goes on."""
        answer, logps, lengths = buffers
        token, logp = pick(logits, keys, t, greedy)
        answer = answer.at[:, :, t].set(jnp.where(done, 0, token))
        logps = logps.at[:, :, t].set(jnp.where(done, 0.0, logp))
        lengths = lengths + ~done
        return (answer, logps, lengths), token, done | (token[..., None] == stops).any(-1)

    def more(carry):
        t, _, _, done, _ = carry
        return (t < A) & ~done.all()

    def step(carry):
        t, buffers, token, done, cache = carry
        hidden, cache = model.decode(graphdef, params, token, t - 1, cache)
        buffers, token, done = write(buffers, t, model.unembed(graphdef, params, hidden), done)
        return t + 1, buffers, token, done, cache

    empty = jnp.broadcast_to((lengths == 0)[:, None], (Q, samples))
    buffers = (jnp.zeros((Q, samples, A), jnp.int32), jnp.zeros((Q, samples, A)), jnp.zeros((Q, samples), jnp.int32))
    buffers, token, done = write(buffers, 0, logits, empty)
    _, (answer, logps, count), _, done, _ = jax.lax.while_loop(more, step, (jnp.int32(1), buffers, token, done, cache))
    flat = lambda x: x.reshape(Q * samples, *x.shape[2:])
    return Rollouts(flat(answer), flat(count), flat(logps), flat(done))
