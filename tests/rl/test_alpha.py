"""The self-aligned reward's weight: its schedule by hand; the adaptive rule finds the target from
any start, in any unit."""

import json

import numpy as np
import pytest

from sar_jax.config import Rewards, TrainConfig
from sar_jax.rl import alpha
from sar_jax.rl.alpha import State


def make(saved=None, **settings) -> alpha.Weight:
    config = TrainConfig(steps=4)
    config.rewards = Rewards(
        verifiable=settings.pop("verifiable", 1.0), self_aligned=settings.pop("start", 0.2)
    )
    config.steps = settings.pop("steps", 4)
    for name, value in settings.items():
        setattr(config.self_aligned, name, value)
    return alpha.Weight(config, saved)


def line(share, accuracy=0.5, error=0.02, **others):
    return {
        "advantage_share/verifiable": 1 - share,
        "advantage_share/self_aligned": share,
        "accuracy": accuracy,
        "accuracy_error": error,
        **others,
    }


def share_of(weight, self_aligned, rest=1.0):
    """The share that a weight gives where the unweighted reward's dispersion within groups is
    `self_aligned`."""
    return weight * self_aligned / (weight * self_aligned + rest)


def test_it_is_constant_by_default_and_nothing_is_saved():
    weight = make()
    assert [weight.of(step) for step in (1, 2, 4)] == [0.2] * 3
    weight.learn(line(0.9))
    assert weight.of(2) == 0.2 and weight.saved == {} and weight.metrics(2) == {"alpha": 0.2}
    assert make(start=0.0).metrics(1) == {}


@pytest.mark.parametrize(
    "steps, peak_at, by_hand",
    [
        (4, 0.5, [0.25, 0.75, 0.75, 0.25]),  # at 1/8, 3/8, 5/8, 7/8 of the run
        (4, 1.0, [0.125, 0.375, 0.625, 0.875]),  # up only
        (5, 0.1, [1.0, 0.7 / 0.9, 0.5 / 0.9, 0.3 / 0.9, 0.1 / 0.9]),
        (1, 0.25, [0.5 / 0.75]),
    ],
)
def test_the_schedule_by_hand(steps, peak_at, by_hand):
    weight = make(steps=steps, peak_at=peak_at, start=0.2)
    np.testing.assert_allclose(
        [weight.of(step) for step in range(1, steps + 1)], 0.2 * np.array(by_hand), rtol=1e-12
    )


def test_the_schedule_is_never_zero_and_never_above_its_peak():
    weight = make(steps=500, peak_at=0.3)
    values = [weight.of(step) for step in range(1, 501)]
    assert min(values) > 0 and max(values) == pytest.approx(0.2, rel=5e-3) and max(values) <= 0.2
    assert np.argmax(values) in (149, 150)


@pytest.mark.parametrize("dispersion", [0.3, 1.0, 8.0])
@pytest.mark.parametrize("start", [0.004, 0.2, 0.45])
def test_the_share_of_the_advantage_reaches_its_target(start, dispersion):
    """Whatever the start and the model's spread of the reward, and stays there."""
    weight = make(start=start, adaptive=True, target_share=0.1)
    assert weight.of(1) == start
    for step in range(1, 80):
        weight.learn(line(share_of(weight.of(step), dispersion)))
    expected = min(0.1 / 0.9 / dispersion, 0.5)
    assert weight.of(80) == pytest.approx(expected, rel=0.01)
    assert share_of(weight.of(80), dispersion) == pytest.approx(0.1, abs=2e-3)


def test_steps_by_hand():
    """Odds 0.2 / 0.8 = 1/4 where 1/9 are asked for: the first step's correction 4/9 counts whole,
    the second's half, from the tenth on a tenth; three rewards are as two."""
    weight = make(adaptive=True, target_share=0.1)
    for step, rate in enumerate(
        [1, 1 / 2, 1 / 3, *(1 / n for n in range(4, 10)), 0.1, 0.1, 0.1], 1
    ):
        before = weight.state.alpha
        weight.learn(line(0.2))
        assert (
            weight.state.alpha == pytest.approx(before * (4 / 9) ** rate, rel=1e-12)
            and weight.state.steps == step
        )
    weight = make(adaptive=True, target_share=0.1)
    weight.learn(line(0.2))
    other = make(adaptive=True, target_share=0.1)
    other.learn(line(0.2) | {"advantage_share/verifiable": 0.5, "advantage_share/length": 0.3})
    assert other.state.alpha == pytest.approx(weight.state.alpha, rel=1e-12)


@pytest.mark.parametrize("share, factor", [(1.0, 4**-0.1), (1 - 1e-9, 4**-0.1), (1e-9, 4**0.1)])
def test_a_step_without_a_signal_moves_it_little(share, factor):
    weight = make({"alpha": 0.2, "steps": 10}, adaptive=True)
    weight.learn(line(share))
    assert weight.state.alpha == pytest.approx(0.2 * factor, rel=1e-9)
    first = make(start=0.1, adaptive=True)
    first.learn(line(share))
    assert first.state.alpha == pytest.approx(0.1 * factor**10, rel=1e-9)  # at most four times


def test_shares_of_nothing_and_of_no_self_aligned_reward():
    weight = make({"alpha": 0.2, "steps": 10}, adaptive=True)
    weight.learn(line(0.0) | {"advantage_share/verifiable": 0.0})
    assert weight.state.alpha == 0.2
    weight.learn(line(0.0))
    assert weight.state.alpha == pytest.approx(0.2 * 4**0.1)


def test_it_stays_below_what_would_put_a_wrong_answer_before_a_right_one():
    cases = [(1.0, "relative", 0.0, 0.5), (3.0, "log", 0.0, 1.5), (1.0, "difference", 11.0, 0.05)]
    for verifiable, form, cap, highest in cases:
        weight = make(verifiable=verifiable, form=form, cap=cap, start=0.04, adaptive=True)
        for _ in range(200):
            weight.learn(line(1e-6))
        assert weight.of(1) == pytest.approx(highest)
    assert make(verifiable=0.1, start=0.2, adaptive=True).of(1) == 0.05  # from the first step on


def test_it_is_never_zero():
    weight = make(adaptive=True)
    for _ in range(400):
        weight.learn(line(1.0, accuracy=0.0))
    assert 0 < weight.of(1) <= 1e-3


def test_a_drop_of_accuracy_halves_it_and_it_comes_back_slowly():
    weight = make(adaptive=True, target_share=0.1)
    # share 0.1 at alpha 0.2
    steady = lambda accuracy: line(share_of(weight.of(1), 5 / 9), accuracy)
    for _ in range(30):
        weight.learn(steady(0.8))
    assert weight.of(1) == pytest.approx(0.2, rel=1e-6) and weight.state.trust == 1
    weight.learn(steady(0.75))  # within three standard errors of 0.02
    assert weight.state.trust == 1
    for halvings in (1, 2, 3):
        weight.learn(steady(0.5))
        # and alpha itself is not moved by it
        assert weight.of(1) == pytest.approx(0.2 / 2**halvings, rel=1e-6)
    back = []
    for _ in range(30):
        weight.learn(steady(0.8))
        back.append(weight.of(1))
    assert back[0] == pytest.approx(0.025 * 1.1, rel=1e-6) and back[-1] == pytest.approx(
        0.2, rel=1e-6
    )
    assert (np.diff(back) >= 0).all()


def test_a_slow_decline_is_a_drop_too():
    weight = make(adaptive=True)
    for accuracy in np.linspace(0.8, 0.4, 100):
        weight.learn(line(0.1, accuracy))
    assert weight.state.trust < 0.01
    rising = make(adaptive=True)
    for accuracy in np.linspace(0.4, 0.8, 100):
        rising.learn(line(0.1, accuracy))
    assert rising.state.trust == 1


def test_noise_alone_is_hardly_taken_for_a_drop(rng):
    weight, trusts = make(adaptive=True), []
    for accuracy in rng.normal(0.6, 0.02, 2000):
        weight.learn(line(0.1, accuracy, 0.02))
        trusts.append(weight.state.trust)
    assert np.mean(trusts) > 0.9


def test_saved_as_json_and_taken_up_again_it_goes_on_bit_for_bit(rng):
    lines = [line(s, a) for s, a in zip(rng.uniform(0.01, 0.9, 40), rng.uniform(0.2, 0.9, 40))]
    whole, first = make(adaptive=True), make(adaptive=True)
    for metrics in lines:
        whole.learn(metrics)
    # before the first step too
    assert make(json.loads(json.dumps(first.saved)), adaptive=True).state == State(0.2)
    for metrics in lines[:17]:
        first.learn(metrics)
    resumed = make(json.loads(json.dumps(first.saved)), adaptive=True)
    for metrics in lines[17:]:
        resumed.learn(metrics)
    assert resumed.state == whole.state and resumed.of(41) == whole.of(41)
    assert whole.metrics(41) == {"alpha": whole.of(41), "alpha_trust": whole.state.trust}
