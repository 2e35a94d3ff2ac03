"""The paper's comparisons as overrides of the rewards' weights: from answers to advantages, numbers
worked out by hand.

One question, four answers:        A      B      C      D
    right                          yes    yes    no     no
    tokens                         10     30     20     40
    ppl(a|q)                       2      4      2      5
    ppl(a)                         8      8      2      4
    R_SA                          .75    .5      0    -.25      1 - ppl(a|q) / ppl(a)
    R_EM = -ln ppl(a|q)           -ln 2  -ln 4  -ln 2  -ln 5
    O1: 25 / L - 1, clipped        1     -1/6   .25   -.375
    ER: mu 20, sd 10              tanh(.5) -tanh(.5)  0  0      -(2 sigmoid(-+1) - 1)
"""

import numpy as np
import pytest

from sar_jax.config import Rewards, TrainConfig
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import rewards
from sar_jax.training.settings import derived

LN2, LN5, T = np.log(2), np.log(5), np.tanh(0.5)

SIGNALS = rewards.Signals(
    correct=np.array([[True, True, False, False]]),
    lengths=np.array([[10, 30, 20, 40]]),
    mean_logp=-np.log([[2.0, 4, 2, 5]]),
    mean_logp_alone=-np.log([[8.0, 8, 2, 4]]),
    max_length=64,
)

BASELINES = {
    "GRPO": (Rewards(self_aligned=0), [0.5, 0.5, -0.5, -0.5]),
    # total 1.15, 1.1, 0, -.05; mean .55
    "SA-GRPO": (Rewards(), [0.6, 0.55, -0.55, -0.6]),
    # total 1.05, 1 - .05 / 6, .0125, -.01875; mean of the second term .05 * (1 - 1/6 + .25 - .375)
    # / 4
    "GRPO-O1": (
        Rewards(self_aligned=0, o1_pruner=0.05),
        np.array([0.5, 0.5, -0.5, -0.5])
        + 0.05 * np.array([1 - 17 / 96, -1 / 6 - 17 / 96, 1 / 4 - 17 / 96, -3 / 8 - 17 / 96]),
    ),
    "GRPO-ER": (
        Rewards(self_aligned=0, efficient_reasoner=0.05),
        [0.5 + 0.05 * T, 0.5 - 0.05 * T, -0.5, -0.5],
    ),
    # mean -(4 ln 2 + ln 5) / 4 = -ln 2 - ln 5 / 4
    "R_EM": (
        Rewards(verifiable=0, self_aligned=0, entropy_min=1),
        [LN5 / 4, LN5 / 4 - LN2, LN5 / 4, LN2 - 3 * LN5 / 4],
    ),
    "R_SA": (Rewards(verifiable=0, self_aligned=1), [0.5, 0.25, -0.25, -0.5]),
    "R_VR + R_EM": (
        Rewards(self_aligned=0, entropy_min=1),
        [0.5 + LN5 / 4, 0.5 + LN5 / 4 - LN2, -0.5 + LN5 / 4, -0.5 + LN2 - 3 * LN5 / 4],
    ),
}


def weights_of(own: Rewards) -> dict[str, float]:
    return derived.reward_weights(TrainConfig(rewards=own))


@pytest.mark.parametrize("name", BASELINES)
def test_from_answers_to_advantages(name):
    weights, by_hand = BASELINES[name]
    total, parts = rewards.total(weights_of(weights), SIGNALS)
    # ER's own epsilon is 1e-5
    np.testing.assert_allclose(advantages_lib.group_advantages(total), [by_hand], atol=2e-6)
    assert set(parts) == {n for n, w in weights_of(weights).items() if w}


@pytest.mark.parametrize("name", BASELINES)
def test_other_estimators_of_the_same(name):
    """Four samples: leave-one-out is 4/3 of it; GRPO's own is divided by sqrt(sum of squares / 3) +
    1e-4."""
    weights, by_hand = BASELINES[name]
    total, _ = rewards.total(weights_of(weights), SIGNALS)
    np.testing.assert_allclose(
        advantages_lib.leave_one_out_advantages(total), [np.array(by_hand) * 4 / 3], atol=3e-6
    )
    deviation = np.sqrt(np.sum(np.square(by_hand)) / 3) + 1e-4
    np.testing.assert_allclose(
        advantages_lib.group_advantages(total) / advantages_lib.group_deviations(total),
        [np.array(by_hand) / deviation],
        atol=1e-5,
    )
