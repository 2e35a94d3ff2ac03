"""Rewards of answers -> advantages of their tokens. Pure numpy.

Letters: Q questions, M samples a question, B = Q * M answers, A tokens of the longest answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sar_jax import config as config_lib

_DEVIATION_EPSILON = 1e-4
_VARIANCE_EPSILON = 1e-8  # added to the variance


class Credit(NamedTuple):
    """What each of the B answers is credited with.

    advantages   for each answer a number, or an array with one for each token
    returns      for each answer an array with one for each token; empty without a critic
    metrics      of the step, by name
    """

    advantages: Sequence[Any]
    returns: Sequence[np.ndarray]
    metrics: dict[str, float]


def penalties(
    coefficient: float, logps: Sequence[np.ndarray], ref_logps: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """What each token is charged for leaving the initial policy.

    coefficient   factor on log(policy / initial policy)
    logps         of the policy in nats, an array for each answer
    ref_logps     the same of the initial policy

    Returns an array for each answer, or None where the coefficient is 0.
    """
    if not coefficient:
        return None
    return [coefficient * (own - other) for own, other in zip(logps, ref_logps, strict=True)]


def assign(
    cfg: config_lib.Advantage,
    rewards: Mapping[str, Float[np.ndarray, "Q M"]],
    charges: Sequence[np.ndarray] | None,
    values: Sequence[np.ndarray],
    correct: Bool[np.ndarray, "Q M"],
) -> Credit:
    """The answers' rewards as advantages of their tokens.

    rewards   by name, each times its weight
    charges   see `penalties`
    values    the critic's, an array for each answer; not read by the other estimators
    correct   the verifier's verdicts
    """
    if cfg.estimator == "critic":
        return _assign_by_critic(cfg, rewards, charges, values, correct)
    total = sum(rewards.values())
    if charges is not None:
        total = total - np.array([c.sum() for c in charges]).reshape(total.shape)
    estimate = ADVANTAGES[cfg.estimator]
    divisors = group_deviations(total) if cfg.divide_by_std else 1.0
    parts = {name: np.abs(estimate(r) / divisors) for name, r in rewards.items()}
    advantages = (estimate(total) / divisors).reshape(-1)
    return Credit(advantages, [], shares(parts, correct))


def _assign_by_critic(
    cfg: config_lib.Advantage,
    rewards: Mapping[str, np.ndarray],
    charges: Sequence[np.ndarray] | None,
    values: Sequence[np.ndarray],
    correct: np.ndarray,
) -> Credit:
    total = sum(rewards.values())
    estimated = gae(total.reshape(-1), values, charges, cfg.gamma, cfg.lam)
    metrics = {"value/mean": float(np.concatenate(values).mean())}
    explained = explained_variance(values, estimated.returns)
    if explained is not None:
        metrics["value/explained_variance"] = explained
    # the critic takes the place of the group, so a reward counts against its mean in the step
    parts = {name: np.abs(r - r.mean()) for name, r in rewards.items()}
    advantages = whitened(estimated.advantages) if cfg.whiten else estimated.advantages
    return Credit(advantages, estimated.returns, metrics | shares(parts, correct))


def shares(
    parts: Mapping[str, Float[np.ndarray, "Q M"]], correct: Bool[np.ndarray, "Q M"]
) -> dict[str, float]:
    """How much of the step's advantage each reward carries, as shares that sum to 1.

    parts     by reward: |its weighted, centred part|, whose means are compared
    correct   the verifier's verdicts

    Where there are groups whose answers are all right, or all wrong, their part of each share is
    given too: there the verifiable reward says nothing.
    """
    whole = sum(p.mean() for p in parts.values())
    kinds = {"": np.ones(len(correct), bool)}
    if correct.shape[1] > 1:
        kinds |= {"_all_right": correct.all(axis=1), "_all_wrong": ~correct.any(axis=1)}
    found = {}
    for kind, groups in kinds.items():
        if groups.any():
            for name, part in parts.items():
                own = np.where(groups[:, None], part, 0.0).mean()
                found[f"advantage_share{kind}/{name}"] = float(own / whole) if whole else 0.0
    return found


def group_advantages(rewards: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
    """Reward minus its group's mean, not divided by the deviation (Dr.GRPO, arXiv 2503.20783)."""
    return rewards - rewards.mean(axis=1, keepdims=True)


def leave_one_out_advantages(rewards: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
    """Reward minus the mean of the group's other rewards (RLOO, arXiv 2402.14740, section 2.2).

    M must be greater than 1. This is M / (M - 1) times `group_advantages`: a baseline that does not
    depend on its own answer is not biased.
    """
    samples = rewards.shape[1]
    return (rewards - rewards.mean(axis=1, keepdims=True)) * (samples / (samples - 1))


def group_deviations(rewards: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q 1"]:
    """What GRPO divides a group's advantages by: its standard deviation + 1e-4.

    M must be greater than 1. The paper (arXiv 2402.03300, section 4.1.2) writes std(r) and no more.
    This is the sample deviation (divisor M - 1) and the epsilon of TRL's trainer.
    """
    return rewards.std(axis=1, ddof=1, keepdims=True) + _DEVIATION_EPSILON


def gae(
    rewards: Sequence[float] | np.ndarray,
    values: Sequence[np.ndarray],
    penalties: Sequence[np.ndarray] | None,
    gamma: float,
    lam: float,
) -> Credit:
    """Generalised advantage estimates of B answers, and their returns (arXiv 1506.02438).

    rewards     one for each answer, at its last token
    values      for each answer an array: V before each of its tokens
    penalties   for each answer an array that is taken off its tokens' rewards, or None
    """
    lengths = np.array([len(v) for v in values])
    B, A = len(lengths), lengths.max()
    grid = np.zeros((B, A + 1))
    reward = np.zeros((B, A))
    for b, n in enumerate(lengths):
        grid[b, :n] = values[b]
        reward[b, n - 1] = rewards[b]
        if penalties is not None:
            reward[b, :n] -= penalties[b]
    advantages, running = np.zeros((B, A)), np.zeros(B)
    for t in reversed(range(A)):
        surprise = reward[:, t] + gamma * grid[:, t + 1] - grid[:, t]
        running = np.where(t < lengths, surprise + gamma * lam * running, 0.0)
        advantages[:, t] = running
    returns = advantages + grid[:, :A]
    cut = lambda grid: [grid[b, :n] for b, n in enumerate(lengths)]
    return Credit(cut(advantages), cut(returns), {})


def whitened(advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mean 0 and variance 1 over all tokens of all answers.

    The variance is the sample's, as in the reference trainer.
    """
    every = np.concatenate(advantages)
    mean = every.mean()
    variance = every.var(ddof=1) if len(every) > 1 else 0.0
    return [(a - mean) / np.sqrt(variance + _VARIANCE_EPSILON) for a in advantages]


def explained_variance(values: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> float | None:
    """1 - Var(return - V) / Var(return) over all tokens.

    It is 1 for a perfect critic, 0 for one that always gives the mean, and None where all returns
    are the same.
    """
    v, r = np.concatenate(values), np.concatenate(returns)
    return float(1 - (r - v).var() / r.var()) if r.var() > 0 else None


ADVANTAGES = {"group": group_advantages, "leave_one_out": leave_one_out_advantages}
