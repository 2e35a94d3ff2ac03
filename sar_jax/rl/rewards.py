"""The rewards: pure numpy on one number an answer, laid out [question, sample]. No model, no I/O.

    R = sum of weight * reward(signals)

The weights come from `config.Rewards`, and a reward whose weight is 0 is not computed.
Perplexities come as mean logprobs over the answer's tokens (its first EOS included), because the
stable form of the self-aligned reward needs their difference only. Formulas: Han et al.,
"Self-Aligned Reward: Towards Effective and Efficient Reasoners", arXiv 2509.05489, and the rewards
that it compares with. Letters: Q questions, M samples a question.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Signals(NamedTuple):
    """What is known of each answer.

    Mean logprobs are in nats a token, of the policy that sampled, at temperature 1.

    correct            the verifier's verdict
    lengths            tokens, EOS included
    mean_logp          of the answer given the question:  ppl(a|q) = exp(-mean_logp)
    mean_logp_alone    of the answer in the standalone context:  ppl(a) = exp(-mean_logp_alone)
    max_length         the answer limit
    mean_logp_own      as mean_logp, copies of the question counting as standalone (`copies`); None
                       where nobody asks for it
    """

    correct: Bool[np.ndarray, "Q M"]
    lengths: Int[np.ndarray, "Q M"]
    mean_logp: Float[np.ndarray, "Q M"]
    mean_logp_alone: Float[np.ndarray, "Q M"]
    max_length: int
    mean_logp_own: Float[np.ndarray, "Q M"] | None = None


Reward = Float[np.ndarray, "Q M"]
Registry = Mapping[str, Callable[[Signals], Reward]]


def verifiable(s: Signals) -> Reward:
    """1 if the final answer is right, else 0."""
    return s.correct.astype(np.float64)


def self_aligned(s: Signals) -> Reward:
    """clip((ppl(a) - ppl(a|q)) / ppl(a), -1, 1) = clip(1 - exp(-mean_j v(a_j)), -1, 1).

    From arXiv 2509.05489.
    """
    # ppl(a|q) / ppl(a) = exp(mean_logp_alone - mean_logp); beyond 2 the clip decides, so exp need
    # not overflow
    log_ratio = np.minimum(s.mean_logp_alone - s.mean_logp, 1.0)
    return np.clip(1 - np.exp(log_ratio), -1, 1)


def self_aligned_log(s: Signals) -> Reward:
    """The same with ln ppl in place of ppl: clip((ln ppl(a) - ln ppl(a|q)) / ln ppl(a), -1, 1).

    An answer that is certain without the question (ln ppl(a) = 0) earns 0 if it is certain with the
    question too, else -1.
    """
    surprise, alone = -s.mean_logp, -s.mean_logp_alone
    return np.clip((alone - surprise) / np.maximum(alone, 1e-12), -1, 1)


def self_aligned_difference(s: Signals) -> Reward:
    """ppl(a) - ppl(a|q), neither divided nor clipped.

    It can be as large as a perplexity, so it needs a cap (see `capped`).
    """
    ppl = lambda mean_logp: np.exp(np.minimum(-mean_logp, 80.0))  # 5e34 is enough; no overflow
    return ppl(s.mean_logp_alone) - ppl(s.mean_logp)


def capped(s: Signals, cap: float) -> Signals:
    """The signals with both perplexities at most `cap` (> 1)."""
    least = -np.log(cap)
    return s._replace(
        mean_logp=np.maximum(s.mean_logp, least),
        mean_logp_alone=np.maximum(s.mean_logp_alone, least),
    )


def without_copies(s: Signals) -> Signals:
    """The signals in which copies of the question count as standalone, where they are known."""
    return s if s.mean_logp_own is None else s._replace(mean_logp=s.mean_logp_own)


def entropy_min(s: Signals) -> Reward:
    """-ln ppl(a|q): confidence."""
    return s.mean_logp


def o1_pruner(s: Signals) -> Reward:
    """clip(mean length of the group / own length - 1, -1, 1), right or wrong."""
    return np.clip(s.lengths.mean(axis=1, keepdims=True) / s.lengths - 1, -1, 1)


def efficient_reasoner(s: Signals) -> Reward:
    """-(2 sigmoid((L - mu) / (sd + 1e-5)) - 1) for right answers, else 0.

    mu and sd are those of the lengths of the group's right answers. Where a group has fewer than
    two of these, the reward is 0.
    """
    count = s.correct.sum(axis=1, keepdims=True)
    mean = np.where(s.correct, s.lengths, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    deviation = np.where(s.correct, s.lengths - mean, 0)
    sd = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / np.maximum(count, 1))
    # 2 sigmoid(x) - 1 = tanh(x / 2)
    shorter = -np.tanh((s.lengths - mean) / (sd + 1e-5) / 2)
    return np.where(s.correct & (count >= 2), shorter, 0.0)


def length(s: Signals) -> Reward:
    """-L / L_max."""
    return -s.lengths / s.max_length


def total(
    weights: Mapping[str, float],
    signals: Signals,
    registry: Registry | None = None,
    own: Mapping[str, Reward] | None = None,
) -> tuple[Reward, dict[str, Reward]]:
    """The weighted sum, and each reward that has a weight, unweighted.

    weights    by name
    registry   `REWARDS`, or one of its `variant`s
    own        rewards that are computed already, by name

    Raises ValueError that names the reward and the answer where a value is not finite: a NaN is
    never a silent 0.
    """
    registry, own = registry or REWARDS, own or {}
    parts = {
        name: own[name] if name in own else registry[name](signals)
        for name, weight in weights.items()
        if weight != 0
    }
    for name, values in parts.items():
        if not np.isfinite(values).all():
            question, sample = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"reward {name!r} is {values[question, sample]} for question {question}, "
                f"sample {sample} (length {signals.lengths[question, sample]})"
            )
    weighted = (weights[name] * values for name, values in parts.items())
    return sum(weighted, np.zeros(signals.correct.shape)), parts


REWARDS: Registry = {
    "verifiable": verifiable,
    "self_aligned": self_aligned,
    "entropy_min": entropy_min,
    "o1_pruner": o1_pruner,
    "efficient_reasoner": efficient_reasoner,
    "length": length,
}
SELF_ALIGNED: Registry = {
    "relative": self_aligned,
    "log": self_aligned_log,
    "difference": self_aligned_difference,
}


def variant(form: str, cap: float) -> Registry:
    """The rewards with the self-aligned one in another form.

    form   a name in `SELF_ALIGNED`
    cap    larger perplexities count as this one; 0 means no cap
    """
    chosen = SELF_ALIGNED[form]
    if not cap:
        return {**REWARDS, "self_aligned": lambda s: chosen(without_copies(s))}
    return {**REWARDS, "self_aligned": lambda s: chosen(capped(without_copies(s), cap))}
