"""The arithmetic of an evaluation, in pure numpy: no model, no files.

Accuracy and its interval, lengths, AES, pass@k, majorities, the Pareto front. Q questions have n
samples each. Shares are in [0, 1], lengths are tokens.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from sar_jax.evaluation.records import Answer, Result

AES_GAMMA = 5.0
_ROWS_AT_ONCE = 100  # resamples drawn at once: 100 x 5,000 questions are 4 MB


@runtime_checkable
class Point(Protocol):
    """Share of right answers and mean tokens."""

    accuracy: float
    length: float


def summarise(answers: Sequence[Answer]) -> Result:
    """Means over all answers; at least one is needed."""
    lengths = np.array([a.length for a in answers])
    correct = np.array([a.correct for a in answers], bool)
    clipped = np.array([a.clipped for a in answers], bool)
    mean = lambda kept: float(lengths[kept].mean()) if kept.any() else None
    return Result(
        accuracy=float(correct.mean()),
        length=float(lengths.mean()),
        length_correct=mean(correct),
        length_unclipped=mean(~clipped),
        clipped=float(clipped.mean()),
        questions=len({a.number for a in answers}),
        errors=float(np.mean([a.verdict == "error" for a in answers])),
    )


def aes(result: Point, reference: Point) -> float:
    """Accuracy-efficiency score: relative shortening + 5 * relative gain in accuracy.

    Both are over the reference; NaN where that has nothing right.
    """
    shorter = (reference.length - result.length) / reference.length
    gain = float("nan")
    if reference.accuracy:
        gain = (result.accuracy - reference.accuracy) / reference.accuracy
    return shorter + AES_GAMMA * gain


def grouped(answers: Iterable[Answer]) -> list[list[Answer]]:
    """The answers question by question, in the order of their numbers."""
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.number, []).append(answer)
    return [groups[number] for number in sorted(groups)]


def correct_shares(answers: Iterable[Answer]) -> Float[np.ndarray, " Q"]:
    """The share of right answers among each question's."""
    return np.array([np.mean([a.correct for a in group]) for group in grouped(answers)])


def mean_lengths(answers: Iterable[Answer]) -> Float[np.ndarray, " Q"]:
    """The mean tokens of each question's answers."""
    return np.array([np.mean([a.length for a in group]) for group in grouped(answers)])


def interval(
    sets: Sequence[np.ndarray],
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over sets of each set's mean.

    sets        each has one number a question
    seed        the same one gives the same interval
    resamples   how many times questions are drawn
    level       the share of the resampled means that the interval holds

    Questions are drawn with replacement within their set, so that each set keeps its size; all
    samples of a question stay together.
    """
    rng, means = np.random.default_rng(seed), np.zeros(resamples)
    for values in sets:
        for start in range(0, resamples, _ROWS_AT_ONCE):
            rows = min(_ROWS_AT_ONCE, resamples - start)
            drawn = rng.integers(len(values), size=(rows, len(values)))
            means[start : start + rows] += values[drawn].mean(axis=1) / len(sets)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The chance that k of a question's samples, drawn without replacement, hold a right one.

    right, samples   how many are right, of how many

    The unbiased estimator 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1).
    Raises ValueError where k > samples.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} of {right} right among {samples} samples")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def majority(group: Sequence[Answer]) -> float:
    """Is the final answer that most of a question's samples give right?

    Samples without one have no vote. Where m answers share the first place, each counts one m-th:
    the order of the samples decides nothing. 0 without votes.
    """
    votes = collections.Counter(a.final for a in group if a.final is not None)
    if not votes:
        return 0.0
    first = [final for final, count in votes.items() if count == max(votes.values())]
    right = [np.mean([a.correct for a in group if a.final == final]) for final in first]
    return float(np.mean(right))


def several(answers: Sequence[Answer], ks: Sequence[int]) -> dict[str, float]:
    """avg@n, maj@n, and pass@k for each k of n > 1 samples a question; pass@1 equals avg@n."""
    groups = grouped(answers)
    n = len(groups[0])
    found = {
        f"avg@{n}": float(correct_shares(answers).mean()),
        f"maj@{n}": float(np.mean([majority(group) for group in groups])),
    }
    for k in ks:
        chances = [pass_at_k(sum(a.correct for a in group), n, k) for group in groups]
        found[f"pass@{k}"] = float(np.mean(chances))
    return found


def mean_result(results: Sequence[Result]) -> Result:
    """The plain average over benchmarks, whatever their sizes.

    A length that some benchmark lacks is None.
    """
    mean = lambda values: None if None in values else float(np.mean(values))
    names = [field.name for field in dataclasses.fields(Result)]
    fields = {name: mean([getattr(r, name) for r in results]) for name in names}
    return Result(**fields | {"questions": sum(r.questions for r in results)})


def pareto(points: Sequence[Point]) -> list[int]:
    """Which points no other one beats, from short to long.

    A point beats one that is as accurate and longer, or as long and less accurate.
    """
    beaten = lambda p: any(
        (q.accuracy >= p.accuracy and q.length < p.length)
        or (q.accuracy > p.accuracy and q.length <= p.length)
        for q in points
    )
    return sorted(
        (i for i, p in enumerate(points) if not beaten(p)), key=lambda i: points[i].length
    )
