"""The arithmetic of evaluation, against definitions worked out by hand or by counting."""

import dataclasses
import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from support.commands import ROOT

from sar_jax.evaluation import measures
from sar_jax.evaluation.records import Answer, Result

PUBLISHED = json.loads((ROOT / "sar_jax/assets/published.json").read_text())


def answers(*groups, **fields):
    """Answers of questions 0, 1, ...: each group a list of (final, correct)."""
    return [
        Answer(
            **{
                **dict(number=q, sample=m, id="", question="", truth="", answer=""),
                **dict(length=10, clipped=False, final=final, correct=correct),
                "verdict": "right" if correct else "wrong",
                **fields,
            }
        )
        for q, group in enumerate(groups)
        for m, (final, correct) in enumerate(group)
    ]


def test_summary_counts_each_kind_of_answer():
    found = answers([("1", True)], [("2", False)], [(None, False)], [("4", True)])
    verdicts = ("right", "wrong", "error", "right")
    found = [
        dataclasses.replace(answer, length=length, clipped=bool(clipped), verdict=verdict)
        for answer, length, clipped, verdict in zip(found, (10, 20, 60, 30), (0, 0, 1, 0), verdicts)
    ]
    assert measures.summarise(found) == Result(
        accuracy=0.5,
        length=30,
        length_correct=20,
        length_unclipped=20,
        clipped=0.25,
        questions=4,
        errors=0.25,
    )
    none = measures.summarise(answers([("1", False)], clipped=True))
    assert none.length_correct is None and none.length_unclipped is None and none.clipped == 1


def test_aes_by_hand():
    point = lambda accuracy, length: SimpleNamespace(accuracy=accuracy, length=length)
    assert measures.aes(point(0.6, 300), point(0.5, 400)) == pytest.approx(0.25 + 5 * 0.2)
    assert measures.aes(point(0.5, 500), point(0.5, 400)) == pytest.approx(-0.25)
    assert math.isnan(measures.aes(point(0.6, 300), point(0, 400)))


@pytest.mark.parametrize(
    "row", PUBLISHED["results"], ids=lambda row: f"{row['model']} {row['method']}"
)
def test_aes_reproduces_the_published_values(row):
    """As far as the printed figures allow: accuracies are rounded to 0.01 %, lengths to one token,
    AES to 0.001. Some unrounded accuracies and lengths within these bounds give an AES that is
    printed as published."""
    base = next(
        r for r in PUBLISHED["results"] if r["model"] == row["model"] and r["method"] == "base"
    )
    if row is base:  # the measure's origin; the paper prints none for it
        assert row["aes"] is None
        assert measures.aes(SimpleNamespace(**row), SimpleNamespace(**row)) == 0
        return
    corners = []
    for signs in itertools.product((-1, 1), repeat=4):
        a, n, a0, n0 = (
            value + sign * half
            for value, sign, half in zip(
                (row["accuracy"], row["length"], base["accuracy"], base["length"]),
                signs,
                (0.005, 0.5, 0.005, 0.5),
            )
        )
        corners.append(
            measures.aes(
                SimpleNamespace(accuracy=a, length=n), SimpleNamespace(accuracy=a0, length=n0)
            )
        )
    assert min(corners) <= row["aes"] + 0.0005 and row["aes"] - 0.0005 <= max(corners)
    assert max(corners) - min(corners) < 0.01  # so the test says something


def test_the_published_table_is_complete():
    assert len(PUBLISHED["results"]) == 28 and len(PUBLISHED["ablation"]) == 5
    assert len({(r["model"], r["method"]) for r in PUBLISHED["results"]}) == 28
    assert sum(r["aes"] is not None for r in PUBLISHED["results"]) == 24
    by_name = {
        (r["model"], r["method"]): (r["accuracy"], r["length"], r["aes"])
        for r in PUBLISHED["results"]
    }
    assert by_name["Qwen3-4B", "SA-GRPO"] == (71.41, 894, 1.564) and by_name[
        "Gemma3-1B", "base"
    ] == (22.56, 1097, None)
    assert "2509.05489" in PUBLISHED["source"]


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one(n):
    for right, k in itertools.product(range(n + 1), range(1, n + 1)):
        draws = list(itertools.combinations([True] * right + [False] * (n - right), k))
        assert measures.pass_at_k(right, n, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_of_more_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="pass@5"):
        measures.pass_at_k(2, 4, 5)


@pytest.mark.parametrize(
    "group, expected",
    [
        ([("7", True), ("8", False), ("7", True)], 1),
        ([("7", True), ("8", False), ("8", False)], 0),
        ([("7", True), ("8", False)], 0.5),
        ([("8", False), ("7", True)], 0.5),  # a tie is shared, in any order
        ([("7", True), ("8", False), ("9", False)], 1 / 3),
        ([(None, False), (None, False), ("7", True)], 1),  # without an answer there is no vote
        ([(None, False), (None, False)], 0),
    ],
)
def test_majority(group, expected):
    assert measures.majority(answers(group)) == pytest.approx(expected)


def test_several_samples():
    found = answers(
        [("7", True), ("7", True), ("8", False)], [("1", False), ("2", False), ("3", True)]
    )
    got = measures.several(found[::-1], [1, 2])
    assert got == pytest.approx(
        {"avg@3": 0.5, "maj@3": (1 + 1 / 3) / 2, "pass@1": 0.5, "pass@2": (1 + 2 / 3) / 2}
    )


def test_the_interval_is_that_of_a_binomial():
    """Right or wrong, 0.7 of 400: the bootstrap's ends are near the quantiles of the binomial
    itself."""
    values = np.array([1.0] * 280 + [0.0] * 120)
    low, high = measures.interval([values])
    draws = np.random.default_rng(9).binomial(400, 0.7, 100_000) / 400
    assert [low, high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.004)
    assert measures.interval([values]) == (low, high)  # seeded
    assert measures.interval([np.ones(50)]) == (1, 1)


def test_the_interval_covers_the_truth_nineteen_times_in_twenty(rng):
    inside = []
    for _ in range(300):
        low, high = measures.interval(
            [rng.random(200) < 0.4], seed=int(rng.integers(2**31)), resamples=400
        )
        inside.append(low <= 0.4 <= high)
    assert 0.90 < np.mean(inside) < 0.985


def test_sets_of_an_average_weigh_the_same_whatever_their_size(rng):
    large, small = (rng.random(4000) < 0.5).astype(float), (rng.random(50) < 0.5).astype(float)
    low, high = measures.interval([large, small])
    assert low < (large.mean() + small.mean()) / 2 < high
    expected = 1.96 * np.sqrt(large.var() / 4000 + small.var() / 50) / 2  # normal approximation
    assert (high - low) / 2 == pytest.approx(expected, rel=0.08)


def test_mean_of_benchmarks():
    one = Result(0.5, 100, 90, 80, 0.1, 10, 0.0)
    two = Result(0.9, 300, None, 200, 0.3, 30, 0.2)
    mean = measures.mean_result([one, two])
    assert mean.length_correct is None
    assert (
        mean.accuracy,
        mean.length,
        mean.length_unclipped,
        mean.clipped,
        mean.questions,
        mean.errors,
    ) == pytest.approx((0.7, 200, 140, 0.2, 40, 0.1))


def test_pareto_front():
    points = [
        SimpleNamespace(accuracy=a, length=n)
        for a, n in ((0.5, 100), (0.7, 300), (0.6, 400), (0.4, 50), (0.5, 120), (0.7, 300))
    ]
    assert measures.pareto(points) == [3, 0, 1, 5]
