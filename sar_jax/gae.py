"""Generalised advantage estimation (Schulman et al., arXiv 1506.02438): an answer's reward and its values -> an advantage
for each of its tokens. Pure numpy; letters: B answers, A their greatest length.

    delta_t = r_t + gamma V_{t+1} - V_t                  V after the last token is 0, also where the limit cut the answer
    A_t     = delta_t + gamma lam A_{t+1}                eq. 16
    return  = A_t + V_t                                  what the critic learns

r is the answer's reward on its last token, less what each token is charged (`penalties`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_EPS = 1e-8   # added to the variance


class Credit(NamedTuple):
    """One array an answer, of its length."""
    advantages: list[np.ndarray]
    returns: list[np.ndarray]


def credit(rewards: Sequence[float], values: Sequence[np.ndarray], penalties: Sequence[np.ndarray] | None, gamma: float,
           lam: float) -> Credit:
    """Advantages and returns of B answers. values[b]: V before each token of answer b; penalties[b]: taken off each token's
    reward."""
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
        running = np.where(t < lengths, reward[:, t] + gamma * grid[:, t + 1] - grid[:, t] + gamma * lam * running, 0.0)
        advantages[:, t] = running
    returns = advantages + grid[:, :A]
    return Credit(*([x[b, :n] for b, n in enumerate(lengths)] for x in (advantages, returns)))


def whitened(advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mean 0 and variance 1 over all tokens of all answers (with the sample variance, as the reference trainer has it)."""
    every = np.concatenate(advantages)
    mean, variance = every.mean(), every.var(ddof=1) if len(every) > 1 else 0.0
    return [(a - mean) / np.sqrt(variance + _EPS) for a in advantages]


def explained_variance(values: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> float | None:
    """1 - Var(return - V) / Var(return) over all tokens: 1 for a perfect critic, 0 for one that says the mean; None where
    the returns are all the same."""
    v, r = np.concatenate(values), np.concatenate(returns)
    return float(1 - (r - v).var() / r.var()) if r.var() > 0 else None
