"""A step's signals, metrics and records, from arrays that are written down, without a model."""

import numpy as np
import pytest

from sar_jax.config import TrainConfig
from sar_jax.rl import advantages, packing, rewards
from sar_jax.structs import Rollouts
from sar_jax.text.answers.verifier import Outcome
from sar_jax.text.prompts import Question
from sar_jax.text.tasks.example import Example
from sar_jax.training import records
from sar_jax.training.grids import Grid, Grids, Scored
from sar_jax.training.rollouts import Verdicts

# Two questions, two answers each; the limit of 4 tokens cut the last one off.
LENGTHS = np.array([2, 3, 1, 4])
ROWS = [
    Question(Example("a", "1 + 1?", "2", extra={"level": 3}), [5, 6, 7, 8]),
    Question(Example("b", "2 + 2?", "4"), [9, 9]),
]
TOKENS = np.array([[5, 6, 0, 0], [5, 6, 7, 0], [1, 0, 0, 0], [9, 9, 9, 9]])
LOGPS = [np.array(x) for x in ([-1.0, -3.0], [-1.0, -1.0, -1.0], [-0.5], [-2.0] * 4)]
ALONE = [x - 1 for x in LOGPS]
VERDICTS = Verdicts(
    [Outcome.RIGHT, Outcome.WRONG, Outcome.ERROR, Outcome.WRONG], ["2", "3", "?", "9 9 9"]
)


def rollouts(gap: float = 0.0, drawn: float = 0.0) -> Rollouts:
    """The sampler's logprobs are `gap` beside the scorer's; what was drawn from, `drawn` more."""
    logps = np.full((4, 4), 99.0)  # beyond an answer's end, without meaning
    for b, own in enumerate(LOGPS):
        logps[b, : len(own)] = own + gap
    stopped = np.array([True, True, True, False])
    return Rollouts(TOKENS, LENGTHS, logps + drawn, stopped, logps)


def scored(alone=ALONE) -> Scored:
    entropy = [np.full(n, float(n)) for n in LENGTHS]
    return Scored(LOGPS, entropy, alone, (), ())


def signals(alone=ALONE, run=0):
    config = TrainConfig()
    config.rollout.samples, config.rollout.max_answer_tokens = 2, 4
    config.self_aligned.copied_run = run
    return records.make_signals(ROWS, rollouts(), VERDICTS, scored(alone), config)


def test_signals_are_laid_out_question_by_question():
    found = signals()
    assert found.correct.tolist() == [[True, False], [False, False]]  # an error is wrong
    assert found.lengths.tolist() == [[2, 3], [1, 4]]
    np.testing.assert_allclose(found.mean_logp, [[-2, -1], [-0.5, -2]])
    np.testing.assert_allclose(found.mean_logp_alone, [[-3, -2], [-1.5, -3]])
    assert found.max_length == 4
    assert np.isnan(signals(alone=()).mean_logp_alone).all()


def test_metrics_of_answers_by_hand():
    found = records.answer_metrics(signals(), rollouts().stopped)
    assert found["accuracy"] == 0.25 and found["frac_reward_zero_std"] == 0.5
    # of two questions with shares .5 and 0: sd .25, one degree of freedom
    assert found["accuracy_error"] == pytest.approx(0.25)
    lengths = [found[f"completions/{name}_length"] for name in ("min", "mean", "max")]
    assert lengths == [1, 2.5, 4] and found["completions/clipped_ratio"] == 0.25
    by_hand = np.mean([np.exp(2), np.exp(1), np.exp(0.5), np.exp(2)])
    assert found["perplexity/conditional"] == pytest.approx(by_hand)
    assert found["perplexity/standalone"] == pytest.approx(by_hand * np.e)
    assert found["perplexity/ratio"] == pytest.approx(np.exp(-1))
    without = records.answer_metrics(signals(alone=()), rollouts().stopped)
    assert set(found) - set(without) == {"perplexity/standalone", "perplexity/ratio"}


def test_the_samplers_gap_is_over_tokens_and_ignores_what_is_beyond_an_answer():
    found = records.sampling_metrics(rollouts(gap=0.25, drawn=0.5), LOGPS)
    assert found["sampling/logp_difference/mean"] == pytest.approx(0.25)
    assert found["sampling/logp_difference/max"] == pytest.approx(0.25)
    assert found["sampling/off_policy"] == pytest.approx(0.75)


def test_copies_count_as_standalone_for_the_self_aligned_reward_alone():
    plain, found = signals(), signals(run=2)
    assert plain.mean_logp_own is None and signals(alone=(), run=2).mean_logp_own is None
    # 5 6 and 5 6 7 are in the first question, and 9 9 9 9 is made of the second's 9 9
    np.testing.assert_allclose(found.mean_logp_own, [[-3, -2], [-0.5, -3]])
    np.testing.assert_array_equal(found.mean_logp, plain.mean_logp)
    weights = {"self_aligned": 1.0, "entropy_min": 1.0}
    registry = rewards.variant("relative", 0.0)
    _, parts = rewards.total(weights, found, registry)
    _, without = rewards.total(weights, plain, registry)
    np.testing.assert_allclose(parts["self_aligned"], [[0, 0], [1 - np.exp(-1), 0]], atol=1e-12)
    np.testing.assert_allclose(without["self_aligned"], 1 - np.exp(-1))
    np.testing.assert_array_equal(parts["entropy_min"], without["entropy_min"])
    for form, cap in (("log", 0.0), ("difference", 0.0), ("relative", 50.0)):
        value = rewards.variant(form, cap)["self_aligned"](found)
        assert (value > 1e-9).tolist() == [[False, False], [True, False]]


def whole():
    """The step's rewards with weights 1 and -0.5 per share of the limit."""
    total, parts = rewards.total({"verifiable": 1.0, "length": 0.5}, signals())
    return records.Rewarded(total, parts)


def test_all_metrics_of_a_step():
    packed, layout = packing.pack([[1]] * 4, [t[:n] for t, n in zip(TOKENS, LENGTHS)], 8, 2)
    grids = Grids([Grid(packed, layout, range(4), packing.cuts(packed, 2))], [])
    found = records.metrics(ROWS, rollouts(), grids, scored(), VERDICTS, signals(), whole())
    assert found["reward/verifiable/mean"] == 0.25
    assert found["reward/length/mean"] == pytest.approx(-2.5 / 4)
    assert found["reward/mean"] == pytest.approx(0.25 - 0.5 * 2.5 / 4)
    assert found["verifier/error_share"] == 0.25
    assert found["entropy"] == pytest.approx((2 * 2 + 3 * 3 + 1 + 4 * 4) / 10)  # over tokens
    assert found["packing/filled"] == pytest.approx((10 + 4) / packed.tokens.size)
    assert found["completions/question_overlap"] == 0  # no answer has eight tokens


def test_the_overlap_is_the_share_of_tokens_in_long_runs_of_the_prompt():
    rows = [Question(Example("a", "?", "1"), range(20))]
    answers = np.array([[*range(3, 13), 50, 51, 52, 53, 54, 0], [*range(7), 60, *range(8)]])
    logps = np.zeros(answers.shape)
    lengths = np.array([15, 16])
    made = Rollouts(answers, lengths, logps, np.array([True, True]), logps)
    first, second = records.copied(rows, made, 8)
    assert first.tolist() == [True] * 10 + [False] * 5  # what is beyond an answer does not count
    assert second.tolist() == [False] * 8 + [True] * 8


def test_one_record_an_answer_with_its_own_figures():
    credit = advantages.Credit([0.5, -0.5, np.array([1.0, 3.0]), 0.0], [], {})
    found = records.records(ROWS, rollouts(), VERDICTS, scored(), signals(), whole(), credit)
    assert [r["question"] for r in found] == ["1 + 1?"] * 2 + ["2 + 2?"] * 2
    assert [r["truth"] for r in found] == ["2", "2", "4", "4"]
    assert [r["verdict"] for r in found] == ["right", "wrong", "error", "wrong"]
    assert [r["clipped"] for r in found] == [False, False, False, True]
    assert [r["advantage"] for r in found] == [0.5, -0.5, 2.0, 0.0]  # the mean over tokens
    assert [r["length"] for r in found] == [2, 3, 1, 4]
    assert [r["extra"] for r in found] == ['{"level": 3}'] * 2 + [""] * 2
    third = found[2]
    assert third["ppl_conditional"] == pytest.approx(np.exp(0.5))
    assert third["ppl_standalone"] == pytest.approx(np.exp(1.5))
    assert third["reward"] == pytest.approx(-0.5 / 4) and third["reward/length"] == -0.25
    assert third["answer"] == "?" and third["correct"] is False
