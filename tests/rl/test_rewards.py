"""Each reward equals its published formula, computed here answer by answer; nothing overflows or
hides a NaN."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st
from support.drawn import holds_for

from sar_jax import config
from sar_jax.rl import rewards
from sar_jax.rl.rewards import REWARDS, Signals
from sar_jax.training.settings import derived

# Three questions, four answers each: mixed, all wrong, one right.
CORRECT = [[True, False, True, True], [False] * 4, [False, True, False, False]]
LENGTHS = [[10, 40, 30, 20], [1, 8, 64, 27], [5, 5, 5, 5]]
GIVEN = [[-0.1, -2.0, -0.5, -0.3], [-1e-3, -4.0, -0.7, -0.2], [-1.0, -1.0, -3.0, -1.5]]
ALONE = [[-1.1, -1.9, -0.5, -0.9], [-5.0, -0.5, -0.9, -0.1], [-1.0, -2.0, -1.0, -60.0]]
LIMIT = 64


def signals(**changes) -> Signals:
    return Signals(
        np.array(CORRECT), np.array(LENGTHS), np.array(GIVEN), np.array(ALONE), LIMIT
    )._replace(**changes)


def of_one(mean_logp, mean_logp_alone) -> float:
    """R_SA of a single answer."""
    s = Signals(
        np.array([[True]]),
        np.array([[3]]),
        np.array([[mean_logp]]),
        np.array([[mean_logp_alone]]),
        8,
    )
    return float(rewards.self_aligned(s)[0, 0])


def expected(name: str, q: int, m: int) -> float:
    """The formulas in the paper's notation, with perplexities and plain loops."""
    ppl_given, ppl_alone, L = math.exp(-GIVEN[q][m]), math.exp(-ALONE[q][m]), LENGTHS[q][m]
    if name == "verifiable":
        return 1.0 if CORRECT[q][m] else 0.0
    if name == "self_aligned":
        return max(-1.0, min(1.0, (ppl_alone - ppl_given) / ppl_alone))
    if name == "entropy_min":
        return -math.log(ppl_given)
    if name == "o1_pruner":
        return max(-1.0, min(1.0, sum(LENGTHS[q]) / 4 / L - 1))
    if name == "length":
        return -L / LIMIT
    right = [n for n, ok in zip(LENGTHS[q], CORRECT[q]) if ok]
    if not CORRECT[q][m] or len(right) < 2:
        return 0.0
    mu = sum(right) / len(right)
    sd = math.sqrt(sum((n - mu) ** 2 for n in right) / len(right))
    return -(2 / (1 + math.exp(-(L - mu) / (sd + 1e-5))) - 1)


NAMES = ["verifiable", "self_aligned", "entropy_min", "o1_pruner", "efficient_reasoner", "length"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula(name):
    found = REWARDS[name](signals())
    assert found.shape == (3, 4)
    by_hand = [[expected(name, q, m) for m in range(4)] for q in range(3)]
    np.testing.assert_allclose(found, by_hand, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "name, question, values",
    [
        ("verifiable", 0, [1, 0, 1, 1]),
        ("self_aligned", 0, [1 - math.exp(-1), 1 - math.exp(0.1), 0, 1 - math.exp(-0.6)]),
        ("self_aligned", 1, [1 - math.exp(-4.999), -1, 1 - math.exp(-0.2), 1 - math.exp(0.1)]),
        ("entropy_min", 2, [-1, -1, -3, -1.5]),
        ("o1_pruner", 0, [1, -0.375, 25 / 30 - 1, 0.25]),  # 25 / 10 - 1 is clipped
        ("o1_pruner", 1, [1, 1, 25 / 64 - 1, 25 / 27 - 1]),  # wrong answers too
        ("efficient_reasoner", 1, [0, 0, 0, 0]),
        ("efficient_reasoner", 2, [0, 0, 0, 0]),  # fewer than two are right
        ("length", 1, [-1 / 64, -1 / 8, -1, -27 / 64]),
    ],
)
def test_hand_computed_values(name, question, values):
    np.testing.assert_allclose(REWARDS[name](signals())[question], values, rtol=1e-9, atol=1e-12)


def test_efficient_reasoner_by_hand():
    """Right answers of 10, 20, 30 tokens: mu 20, population deviation sqrt(200 / 3)."""
    x = 10 / (math.sqrt(200 / 3) + 1e-5)
    sigmoid = 1 / (1 + math.exp(-x))
    found = rewards.efficient_reasoner(signals())[0]
    np.testing.assert_allclose(found, [2 * sigmoid - 1, 0, -(2 * sigmoid - 1), 0], rtol=1e-12)


def test_the_registry_holds_the_six_rewards_that_have_weights():
    assert set(REWARDS) == set(derived.reward_weights(config.TrainConfig())) == set(NAMES)


@pytest.mark.parametrize("name", ["o1_pruner", "efficient_reasoner"])
def test_groups_do_not_see_each_other(name):
    whole = REWARDS[name](signals())
    for q in range(3):
        alone = Signals(*(x[q : q + 1] for x in signals()[:4]), LIMIT)
        np.testing.assert_array_equal(REWARDS[name](alone), whole[q : q + 1])


@pytest.mark.parametrize("name", list(REWARDS))
def test_an_answer_keeps_its_reward_where_the_group_is_permuted(name):
    order = np.array([2, 0, 3, 1])
    permuted = Signals(*(x[:, order] for x in signals()[:4]), LIMIT)
    np.testing.assert_allclose(
        REWARDS[name](permuted), REWARDS[name](signals())[:, order], rtol=1e-12
    )


@pytest.mark.parametrize("name", list(REWARDS))
def test_equal_answers_have_equal_and_finite_rewards(name):
    same = Signals(
        np.ones((2, 3), bool), np.full((2, 3), 7), np.full((2, 3), -0.5), np.full((2, 3), -0.9), 8
    )
    found = REWARDS[name](same)
    assert np.isfinite(found).all() and np.ptp(found) == 0


LOGP = st.floats(-30, 0)
MEAN_LOGPS = [  # with the question, and alone
    (-0.5, -0.9),
    (-0.9, -0.5),
    (-1.5, -1.5),
    (0.0, -30.0),
    (-30.0, 0.0),
    (0.0, 0.0),
    (-1e-9, -1e-12),
    (-2.0, -1.3),
    (-2.0, -1.4),
    (-29.3, -28.7),
    (-1e-300, 0.0),
]


@holds_for(MEAN_LOGPS, given_=LOGP, alone=LOGP)
def test_self_aligned_equals_the_perplexity_form(given_, alone):
    ppl_given, ppl_alone = math.exp(-given_), math.exp(-alone)
    value = max(-1.0, min(1.0, (ppl_alone - ppl_given) / ppl_alone))
    assert of_one(given_, alone) == pytest.approx(value, rel=1e-9, abs=1e-12)


@holds_for(
    [
        [(-0.5, -0.9)],
        [(0.0, 0.0)],
        [(-20.0, 0.0), (0.0, -20.0)],
        [(-0.1, -1.1), (-2.0, -1.9), (-0.5, -0.5)],
        [(-3.0, -0.2), (-0.7, -0.1), (-1.0, -4.0), (-0.3, -0.9)],
        [(0.0, -20.0)] * 9,
        [(-20.0, 0.0)] * 9,
    ],
    logps=st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1, max_size=9),
)
def test_self_aligned_equals_the_form_by_token_values(logps):
    """v_j = log P(a_j | q) - log P(a_j); R_SA = clip(1 - exp(-mean v), -1, 1)."""
    given_, alone = zip(*logps)
    mean_v = sum(g - a for g, a in logps) / len(logps)
    value = max(-1.0, 1 - math.exp(-mean_v))
    assert of_one(np.mean(given_), np.mean(alone)) == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "given_, alone, value",
    [
        (0.0, -1e5, 1.0),
        (-1e5, 0.0, -1.0),
        (-1e5, -1e5, 0.0),
        (-1e300, 0.0, -1.0),
        (0.0, -1e300, 1.0),
        (0.0, 0.0, 0.0),
        (-math.log(2), 0.0, -1.0),  # the clip begins where the question doubles the perplexity
        (-0.6931, 0.0, 1 - math.exp(0.6931)),
        (-0.6932, 0.0, -1.0),
    ],
)
def test_self_aligned_is_clipped_and_does_not_overflow(given_, alone, value):
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        assert of_one(given_, alone) == pytest.approx(value, abs=1e-9)
        assert of_one(np.float32(given_) if abs(given_) < 1e38 else given_, alone) == pytest.approx(
            value, abs=1e-6
        )


@pytest.mark.parametrize("name", list(REWARDS))
def test_every_reward_is_quiet_on_extreme_answers(name):
    extreme = Signals(
        np.array([[True, True, False]]),
        np.array([[1, 10**6, 10**6]]),
        np.array([[-1e4, -1e-9, -0.0]]),
        np.array([[-1e-9, -1e4, -0.0]]),
        10**6,
    )
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        assert np.isfinite(REWARDS[name](extreme)).all()


def test_total_is_the_weighted_sum():
    weights = dict(zip(REWARDS, (1.0, 0.2, -0.5, 0.05, 0.03, 2.0)))
    total, parts = rewards.total(weights, signals())
    assert set(parts) == set(REWARDS) and total.shape == (3, 4)
    for q in range(3):
        for m in range(4):
            value = sum(weight * expected(name, q, m) for name, weight in weights.items())
            assert total[q, m] == pytest.approx(value, rel=1e-12)
            for name, values in parts.items():  # unweighted
                assert values[q, m] == pytest.approx(expected(name, q, m), abs=1e-12)


def test_total_by_default_is_verifiable_plus_a_fifth_of_self_aligned():
    total, parts = rewards.total(derived.reward_weights(config.TrainConfig()), signals())
    assert set(parts) == {"verifiable", "self_aligned"}
    np.testing.assert_allclose(total, np.array(CORRECT) + 0.2 * rewards.self_aligned(signals()))


def test_a_reward_of_weight_zero_is_not_computed():
    """So plain GRPO needs no standalone scores: NaN stands where they are missing."""
    unknown = signals(mean_logp_alone=np.full((3, 4), np.nan))
    total, parts = rewards.total({"verifiable": 1.0, "self_aligned": 0.0}, unknown)
    assert list(parts) == ["verifiable"]
    np.testing.assert_array_equal(total, np.array(CORRECT, float))


@pytest.mark.parametrize(
    "name, field, bad",
    [
        ("self_aligned", "mean_logp", np.nan),
        ("self_aligned", "mean_logp_alone", np.nan),
        ("entropy_min", "mean_logp", np.nan),
        ("entropy_min", "mean_logp", np.inf),
        ("entropy_min", "mean_logp", -np.inf),
    ],
)
def test_a_value_that_is_not_finite_raises_and_names_reward_and_answer(name, field, bad):
    """A NaN is never a silent number."""
    values = np.array(getattr(signals(), field))
    values[1, 2] = bad
    with pytest.raises(ValueError, match=f"'{name}' is {bad} for question 1, sample 2.*length 64"):
        rewards.total({"verifiable": 1.0, name: 0.1}, signals(**{field: values}))


# The self-aligned reward's other forms


def by_form(form: str, cap: float, given_: float, alone: float) -> float:
    """The formula in perplexities, for one answer."""
    ppl, ppl_alone = (min(math.exp(-x), cap or math.inf) for x in (given_, alone))
    if form == "difference":
        return ppl_alone - ppl
    if form == "log":
        ppl, ppl_alone = math.log(ppl), math.log(ppl_alone)
    return max(-1.0, min(1.0, (ppl_alone - ppl) / ppl_alone))


@pytest.mark.parametrize("form", ["relative", "log", "difference"])
@pytest.mark.parametrize("cap", [0.0, 1.5, 2.5, 1e6])
def test_each_form_equals_its_formula_with_and_without_a_cap(form, cap):
    registry = rewards.variant(form, cap)
    found = registry["self_aligned"](signals())
    by_hand = [[by_form(form, cap, GIVEN[q][m], ALONE[q][m]) for m in range(4)] for q in range(3)]
    np.testing.assert_allclose(found, by_hand, rtol=1e-9, atol=1e-9)
    for name in set(NAMES) - {"self_aligned"}:  # the cap is the self-aligned reward's alone
        assert registry[name] is REWARDS[name]


@pytest.mark.parametrize(
    "form, cap, values",
    [
        ("relative", 0.0, [0.75, 0.0, -1.0]),
        ("relative", 4.0, [0.5, 0.0, -1.0]),
        ("log", 0.0, [2 / 3, 0.0, -1.0]),
        ("log", 4.0, [0.5, 0.0, -1.0]),
        ("difference", 0.0, [6.0, 0.0, -12.0]),
        ("difference", 4.0, [2.0, 0.0, -2.0]),
    ],
)
def test_the_forms_by_hand(form, cap, values):
    """ppl(a|q) 2, 2, 14 and ppl(a) 8, 2, 2."""
    s = Signals(
        np.ones((1, 3), bool),
        np.ones((1, 3), int),
        -np.log([[2.0, 2, 14]]),
        -np.log([[8.0, 2, 2]]),
        8,
    )
    np.testing.assert_allclose(
        rewards.variant(form, cap)["self_aligned"](s), [values], rtol=1e-9, atol=1e-9
    )


def test_the_published_form_is_bit_equal_by_default():
    default = config.SelfAligned()
    weights = derived.reward_weights(config.TrainConfig())
    variant = rewards.total(weights, signals(), rewards.variant(default.form, default.cap))
    plain = rewards.total(weights, signals())
    np.testing.assert_array_equal(variant[0], plain[0])
    np.testing.assert_array_equal(variant[1]["self_aligned"], plain[1]["self_aligned"])
    np.testing.assert_array_equal(
        plain[1]["self_aligned"],
        np.clip(1 - np.exp(np.minimum(np.array(ALONE) - np.array(GIVEN), 1.0)), -1, 1),
    )


@pytest.mark.parametrize("form", ["relative", "log", "difference"])
@pytest.mark.parametrize("cap", [0.0, 20.0])
def test_the_forms_stay_finite_at_the_ends(form, cap):
    """Certain answers (mean logp 0, or above it by a rounding), impossible ones."""
    ends = np.array([[0.0, 1e-7, -1e-9, -1e4]])
    given_, alone = np.repeat(ends, 4, axis=1), np.tile(ends, (1, 4))
    s = Signals(np.ones((1, 16), bool), np.ones((1, 16), int), given_, alone, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rewards.variant(form, cap)["self_aligned"](s)
    assert np.isfinite(found).all()
    if form != "difference":
        assert (np.abs(found) <= 1).all()
    same = given_ == alone
    np.testing.assert_allclose(found[same], 0, atol=1e-12)


@holds_for(MEAN_LOGPS, given_=LOGP, alone=LOGP)
def test_every_form_has_the_sign_of_what_the_question_does(given_, alone):
    s = Signals(np.array([[True]]), np.array([[3]]), np.array([[given_]]), np.array([[alone]]), 8)
    for form in rewards.SELF_ALIGNED:
        value = rewards.variant(form, 0.0)["self_aligned"](s)[0, 0]
        assert value * (given_ - alone) >= 0
