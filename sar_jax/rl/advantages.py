"""Rewards of answers -> advantages of their tokens. Pure numpy."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sar_jax import config as config_lib

_DEVIATION_EPSILON = 1e-4
_VARIANCE_EPSILON = 1e-8  # added to the variance


class Credit(NamedTuple):
    """advantages: a number, or an array of one a token, for each of the B answers; returns: arrays,
    with a critic."""

    advantages: Sequence[Any]
    returns: Sequence[np.ndarray]
    metrics: dict[str, float]


def penalties(
    coefficient: float, logps: Sequence[np.ndarray], ref_logps: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """What each token of each answer is charged for leaving the initial policy: coefficient *
    log(policy / initial)."""
    return (
        [coefficient * (own - other) for own, other in zip(logps, ref_logps, strict=True)]
        if coefficient
        else None
    )


def assign(
    cfg: config_lib.Advantage,
    rewards: Mapping[str, np.ndarray],
    charges: Sequence[np.ndarray] | None,
    values: Sequence[np.ndarray],
    correct: np.ndarray,
) -> Credit:
    """The answers' rewards as advantages of their tokens.

    rewards: name -> its weighted values [Q, M]; charges: see `penalties`; values: the critic's, an
    array an answer; correct: [Q, M]."""
    total = sum(rewards.values())
    if cfg.estimator == "critic":
        estimated = gae(total.reshape(-1), values, charges, cfg.gamma, cfg.lam)
        metrics = {"value/mean": float(np.concatenate(values).mean())}
        explained = explained_variance(values, estimated.returns)
        if explained is not None:
            metrics["value/explained_variance"] = explained
        # where a critic is what the group would be, a reward counts against its mean in the step
        parts = {name: np.abs(r - r.mean()) for name, r in rewards.items()}
        advantages = whitened(estimated.advantages) if cfg.whiten else estimated.advantages
        return Credit(advantages, estimated.returns, metrics | shares(parts, correct))
    if charges is not None:
        total = total - np.array([c.sum() for c in charges]).reshape(total.shape)
    estimate = ADVANTAGES[cfg.estimator]
    divisors = group_deviations(total) if cfg.divide_by_std else 1.0
    parts = {name: np.abs(estimate(r) / divisors) for name, r in rewards.items()}
    return Credit((estimate(total) / divisors).reshape(-1), [], shares(parts, correct))


def shares(parts: Mapping[str, np.ndarray], correct: np.ndarray) -> dict[str, float]:
    """Of the step's advantage, how much each reward carries: mean |its part of it|, as shares that
    sum to 1.

    And how much of it lies in groups whose answers are all right, or all wrong, where the
    verifiable reward says nothing; where there are such groups. parts: name -> |its weighted,
    centred part| [Q, M]; correct: [Q, M]."""
    whole = sum(p.mean() for p in parts.values())
    kinds = {"": np.ones(len(correct), bool)}
    if correct.shape[1] > 1:
        kinds |= {"_all_right": correct.all(axis=1), "_all_wrong": ~correct.any(axis=1)}
    return {
        f"advantage_share{kind}/{name}": float(np.where(groups[:, None], p, 0.0).mean() / whole)
        if whole
        else 0.0
        for kind, groups in kinds.items()
        if groups.any()
        for name, p in parts.items()
    }


def group_advantages(rewards: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
    """Reward minus the mean of its question's group; no division by the deviation (Dr.GRPO, arXiv
    2503.20783)."""
    return rewards - rewards.mean(axis=1, keepdims=True)


def leave_one_out_advantages(rewards: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
    """Reward minus the mean of the group's other rewards (RLOO, arXiv 2402.14740, section 2.2); M >
    1.

    That is M / (M - 1) times `group_advantages`: a baseline that does not depend on its own answer
    is not biased."""
    samples = rewards.shape[1]
    return (rewards - rewards.mean(axis=1, keepdims=True)) * (samples / (samples - 1))


def group_deviations(rewards: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q 1"]:
    """What GRPO divides a group's advantages by (arXiv 2402.03300, section 4.1.2): its standard
    deviation + 1e-4; M > 1.

    The paper writes std(r) and no more. This is the sample deviation (divisor M - 1) and the
    epsilon of TRL's trainer."""
    return rewards.std(axis=1, ddof=1, keepdims=True) + _DEVIATION_EPSILON


def gae(
    rewards: Sequence[float] | np.ndarray,
    values: Sequence[np.ndarray],
    penalties: Sequence[np.ndarray] | None,
    gamma: float,
    lam: float,
) -> Credit:
    """Advantages and returns of B answers. values[b]: V before each token of answer b;
    penalties[b]: taken off each token's reward."""
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
        running = np.where(
            t < lengths,
            reward[:, t] + gamma * grid[:, t + 1] - grid[:, t] + gamma * lam * running,
            0.0,
        )
        advantages[:, t] = running
    returns = advantages + grid[:, :A]
    cut = lambda grid: [grid[b, :n] for b, n in enumerate(lengths)]
    return Credit(cut(advantages), cut(returns), {})


def whitened(advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mean 0 and variance 1 over all tokens of all answers (with the sample variance, as the
    reference trainer has it)."""
    every = np.concatenate(advantages)
    mean, variance = every.mean(), every.var(ddof=1) if len(every) > 1 else 0.0
    return [(a - mean) / np.sqrt(variance + _VARIANCE_EPSILON) for a in advantages]


def explained_variance(values: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> float | None:
    """1 - Var(return - V) / Var(return) over all tokens: 1 for a perfect critic, 0 for one that
    says the mean; None where the returns are all the same."""
    v, r = np.concatenate(values), np.concatenate(returns)
    return float(1 - (r - v).var() / r.var()) if r.var() > 0 else None


ADVANTAGES = {"group": group_advantages, "leave_one_out": leave_one_out_advantages}
