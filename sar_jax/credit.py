"""Rewards of answers -> advantages of their tokens, and how much of them each reward carries. Pure numpy.

    group, leave_one_out    one number an answer: its reward against its group's          (`losses.ADVANTAGES`)
    critic                  one number a token: what its reward is against the values      (`sar_jax.gae`)

Letters: Q questions, M samples a question, B = Q * M answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sar_jax import config as config_lib
from sar_jax import gae, losses


class Credit(NamedTuple):
    """advantages: a number, or an array of one a token, for each of the B answers; returns: arrays, with a critic."""
    advantages: Sequence[Any]
    returns: Sequence[np.ndarray]
    metrics: dict[str, float]


def penalties(coefficient: float, logps: Sequence[np.ndarray], ref_logps: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """What each token of each answer is charged for leaving the initial policy: coefficient * log(policy / initial)."""
    return [coefficient * (own - other) for own, other in zip(logps, ref_logps, strict=True)] if coefficient else None


def assign(cfg: config_lib.Advantage, rewards: Mapping[str, np.ndarray], charges: Sequence[np.ndarray] | None,
           values: Sequence[np.ndarray], correct: np.ndarray) -> Credit:
    """The answers' rewards as advantages of their tokens.

    rewards: name -> its weighted values [Q, M]; charges: see `penalties`; values: the critic's, an array an answer; correct:
    [Q, M].
    """
    total = sum(rewards.values())
    if cfg.estimator == "critic":
        found = gae.credit(total.reshape(-1), values, charges, cfg.gamma, cfg.lam)
        metrics = {"value/mean": float(np.concatenate(values).mean())}
        explained = gae.explained_variance(values, found.returns)
        if explained is not None:
            metrics["value/explained_variance"] = explained
        # where a critic is what the group would be, a reward counts against its mean in the step
        parts = {name: np.abs(r - r.mean()) for name, r in rewards.items()}
        advantages = gae.whitened(found.advantages) if cfg.whiten else found.advantages
        return Credit(advantages, found.returns, metrics | shares(parts, correct))
    if charges is not None:
        total = total - np.array([c.sum() for c in charges]).reshape(total.shape)
    estimate = losses.ADVANTAGES[cfg.estimator]
    divisors = losses.group_deviations(total) if cfg.divide_by_std else 1.0
    parts = {name: np.abs(estimate(r) / divisors) for name, r in rewards.items()}
    return Credit((estimate(total) / divisors).reshape(-1), [], shares(parts, correct))


def shares(parts: Mapping[str, np.ndarray], correct: np.ndarray) -> dict[str, float]:
    """Of the step's advantage, how much each reward carries: mean |its part of it|, as shares that sum to 1.

    And how much of it lies in groups whose answers are all right, or all wrong, where the verifiable reward says nothing;
    where there are such groups. parts: name -> |its weighted, centred part| [Q, M]; correct: [Q, M].
    """
    whole = sum(p.mean() for p in parts.values())
    kinds = {"": np.ones(len(correct), bool)}
    if correct.shape[1] > 1:
        kinds |= {"_all_right": correct.all(axis=1), "_all_wrong": ~correct.any(axis=1)}
    return {f"advantage_share{kind}/{name}": float(np.where(groups[:, None], p, 0.0).mean() / whole) if whole else 0.0
            for kind, groups in kinds.items() if groups.any() for name, p in parts.items()}
