"""The losses, per token and pure. Sums over tokens and their divisors belong to the caller.

Keeping numerator and divisor apart is what makes the value independent of micro-batches, packing
and devices: every loss here is a plain sum over scored tokens, divided once by a number of the
whole mini-batch. Where a formula sees whole answers (a ratio of sequences, a mean over each
answer), their sums are taken on the packed grid, where an answer is a segment.

    LOG_RATIOS       `loss.ratio` -> function
    KL_ESTIMATORS    `loss.kl_estimator` -> function
    TOKEN_WEIGHTS    `loss.average` -> function
    DIVISORS         `loss.average` -> function

Letters: R packed rows, T tokens a row.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_LOG_RATIO_LIMIT = 20.0
_KL_LIMIT = 10.0


def answer_sums(
    values: Float[Array, "R T"],
    segment_ids: Int[Array, "R T"],
    mask: Bool[Array, "R T"],
) -> Float[Array, "R T"]:
    """On each token the sum of `values` over the scored tokens of its own answer.

    Rows are summed apart, so each can be on any device.
    """

    def row(values: Array, ids: Array) -> Array:
        # the ids of a row: 0, and at most one for each token
        sums = jax.ops.segment_sum(values, ids, num_segments=len(ids) + 1)
        return sums[ids]

    return jax.vmap(row)(jnp.where(mask, values, 0.0), segment_ids)


def token_log_ratio(
    differences: Float[Array, "R T"],
    segment_ids: Int[Array, "R T"],
    mask: Bool[Array, "R T"],
) -> Float[Array, "R T"]:
    """Each token's own log pi - log pi_old: the `differences`."""
    return differences


def sequence_log_ratio(
    differences: Float[Array, "R T"],
    segment_ids: Int[Array, "R T"],
    mask: Bool[Array, "R T"],
) -> Float[Array, "R T"]:
    """On each token of an answer the mean of its `differences` (GSPO, arXiv 2507.18071, eq. 7).

    That is the log of (pi(a) / pi_old(a))^(1 / |a|). Its gradient is the mean of the tokens'
    gradients, so that the loss's is eq. 10 there.
    """
    counts = answer_sums(jnp.ones_like(differences), segment_ids, mask)
    return answer_sums(differences, segment_ids, mask) / jnp.maximum(counts, 1.0)


def clipped_policy_loss(
    log_ratio: Float[Array, "R T"],
    advantages: Float[Array, "R T"],
    clip_low: float,
    clip_high: float,
    dual_clip: float,
) -> tuple[Float[Array, "R T"], Bool[Array, "R T"]]:
    """Each token's -min(r A, clip(r) A), with r = pi / pi_old (arXiv 1707.06347, eq. 7).

    log_ratio              log r, of which one function in LOG_RATIOS is the form
    advantages             A
    clip_low, clip_high    r is clipped to [1 - clip_low, 1 + clip_high]; a wider upper side is
                           DAPO's clip-higher (arXiv 2503.14476, section 3.1)
    dual_clip              where A < 0, the loss is at most -dual_clip * A (arXiv 1912.09729, eq. 5)

    Returns the losses, and True where the clip cut them.
    """
    ratio = jnp.exp(jnp.clip(log_ratio, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT))
    plain = -advantages * ratio
    clipped = -advantages * jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
    loss = jnp.maximum(plain, clipped)
    capped = jnp.minimum(loss, -advantages * dual_clip)
    return jnp.where(advantages < 0, capped, loss), clipped > plain


def importance_weights(
    old_logps: Float[Array, "R T"],
    sampling_logps: Float[Array, "R T"],
    cap: float,
) -> Float[Array, "R T"]:
    """min(pi_old / pi_sampler, cap): each token's weight in the policy loss.

    It corrects for a sampler whose probabilities are not quite the scorer's: truncated importance
    sampling between the two programs that hold the same weights (Yao et al. 2025, "Your efficient
    RL framework secretly brings you off-policy RL training"). No gradient flows through it: neither
    logprob depends on the parameters.
    """
    log_ratio = jnp.minimum(old_logps - sampling_logps, _LOG_RATIO_LIMIT)
    return jnp.minimum(jnp.exp(log_ratio), cap)


# Estimators of KL(policy || reference) at tokens that the policy drew
# (joschu.net/blog/kl-approx.html), with d = ref - policy. All are clamped alike: d to +-20, the
# result to +-10. What counts in a loss is the gradient's expectation (arXiv 2506.09477), which is
# not that of the value:
#   k1  value unbiased; gradient 0 on average: it measures the policy and does not hold it
#   k2  value biased; gradient that of KL(policy || reference)
#   k3  value unbiased, never negative; gradient that of KL(reference || policy), equal to k2's near
#       d = 0
# All of that is about one token's distribution, given the tokens before it; no estimator's gradient
# has how the tokens before it came about.


def _log_gap(logps: Float[Array, "R T"], ref_logps: Float[Array, "R T"]) -> Float[Array, "R T"]:
    return jnp.clip(ref_logps - logps, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)


def kl_k1(logps: Float[Array, "R T"], ref_logps: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """Each token's -d."""
    return jnp.clip(-_log_gap(logps, ref_logps), -_KL_LIMIT, _KL_LIMIT)


def kl_k2(logps: Float[Array, "R T"], ref_logps: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """Each token's d^2 / 2."""
    d = _log_gap(logps, ref_logps)
    return jnp.minimum(d * d / 2, _KL_LIMIT)


def kl_k3(logps: Float[Array, "R T"], ref_logps: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """Each token's exp(d) - d - 1, as the reference trainer has it."""
    d = _log_gap(logps, ref_logps)
    return jnp.clip(jnp.exp(d) - d - 1, -_KL_LIMIT, _KL_LIMIT)


def clipped_value_loss(
    values: Float[Array, "R T"],
    old_values: Float[Array, "R T"],
    returns: Float[Array, "R T"],
    clip: float,
) -> tuple[Float[Array, "R T"], Bool[Array, "R T"]]:
    """Each token's half squared error to the return, and True where the clip decided it.

    The error is the larger one of that of V and that of V kept within `clip` of what it was before
    the step (PPO's value clipping; Huang et al., "The 37 implementation details of PPO", no. 9).
    """
    kept = old_values + jnp.clip(values - old_values, -clip, clip)
    plain, clipped = (values - returns) ** 2, (kept - returns) ** 2
    return 0.5 * jnp.maximum(plain, clipped), clipped > plain


def whole_tokens(
    losses: Float[Array, "R T"],
    segment_ids: Int[Array, "R T"],
    mask: Bool[Array, "R T"],
) -> Float[Array, "R T"]:
    """Each token counts once: the `losses`."""
    return losses


def shares_of_answers(
    losses: Float[Array, "R T"],
    segment_ids: Int[Array, "R T"],
    mask: Bool[Array, "R T"],
) -> Float[Array, "R T"]:
    """Each token counts 1 / |a|: the sum over tokens is the sum over answers of their means."""
    counts = answer_sums(jnp.ones_like(losses), segment_ids, mask)
    return losses / jnp.maximum(counts, 1.0)


LOG_RATIOS = {"token": token_log_ratio, "sequence": sequence_log_ratio}
KL_ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}

# What the sum over a mini-batch's tokens is weighted by, and what it is divided by: a function of
# the number of answers, the number of trained tokens and the answer limit.
#   limit      Dr.GRPO, arXiv 2503.20783: sum / (answers * limit)
#   tokens     DAPO, arXiv 2503.14476, section 3.3: the mean over all tokens
#   sequences  GRPO, arXiv 2402.03300, eq. 3: the mean over answers of the mean over their tokens
# Answers that are left out of the loss have no tokens, and still count as answers.
TOKEN_WEIGHTS = {"limit": whole_tokens, "tokens": whole_tokens, "sequences": shares_of_answers}
DIVISORS = {
    "limit": lambda answers, tokens, limit: answers * limit,
    "tokens": lambda answers, tokens, limit: max(tokens, 1),
    "sequences": lambda answers, tokens, limit: answers,
}
