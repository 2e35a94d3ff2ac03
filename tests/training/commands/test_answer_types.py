"""What each kind of answer earns, from logprobs that are written down."""

import numpy as np
import pytest

from sar_jax.training.commands import answer_types


def row(kind, correct, given, alone, copied=()):
    values = np.subtract(given, alone)
    return {
        "kind": kind,
        "correct": correct,
        "token_logps": list(given),
        "token_logps_standalone": list(alone),
        "token_values": values.tolist(),
        "token_copied": [i in copied for i in range(len(given))],
    }


ROWS = [
    row("good", True, [-1.0, -1.0], [-2.0, -2.0]),
    row("echo", False, [-0.5] * 4, [-4.5] * 4, copied=(0, 1, 2)),
    row("good", True, [-2.0], [-2.5]),
    row("echo", False, [-1.0] * 2, [-1.0] * 2),
]


def r_sa(gain):
    return 1 - np.exp(-gain)


def test_rewards_and_advantages_by_hand():
    good, echo = answer_types.summarise(ROWS)
    assert [good.name, echo.name] == ["good", "echo"]
    assert [good.right, good.tokens, good.copied] == [1, 1.5, 0]
    assert [echo.right, echo.tokens, echo.copied] == [0, 3, 0.375]
    assert good.reward.value == pytest.approx((r_sa(1) + r_sa(0.5)) / 2)
    assert echo.reward.value == pytest.approx(r_sa(4) / 2)
    assert echo.without_copies.value == pytest.approx(r_sa(1) / 2)
    assert good.without_copies.value == pytest.approx(good.reward.value)
    assert good.advantages["verifiable"] == 0.5 and echo.advantages["verifiable"] == -0.5
    half = (good.reward.value - echo.reward.value) / 2  # the mean of a group of two is between
    assert good.advantages["self_aligned"] == pytest.approx(half)
    assert good.advantages["verifiable + 0.2 self_aligned"] == pytest.approx(0.5 + 0.2 * half)
    half = (good.reward.value - echo.without_copies.value) / 2
    assert good.advantages["the same without copies"] == pytest.approx(0.5 + 0.2 * half)
    assert good.advantages["entropy_min"] == pytest.approx(-(0.25 + 0.5) / 2)
    for design in answer_types.DESIGNS:
        assert good.advantages[design] + echo.advantages[design] == pytest.approx(0)


def test_an_interval_holds_the_mean_of_questions():
    for kind in answer_types.summarise(ROWS):
        for mean in (kind.reward, kind.without_copies):
            assert mean.low <= mean.value <= mean.high


def test_a_profile_is_of_relative_positions_and_skips_parts_without_tokens():
    assert answer_types.profile([[1.0, 3.0], [2.0]], bins=2) == [1.5, 3.0]
    assert answer_types.profile([[1.0, 2.0, 3.0, 4.0]], bins=2) == [1.5, 3.5]
    assert answer_types.profile([[1.0, 2.0]], bins=4) == [1.0, None, 2.0, None]
    # each answer counts the same in a part, however many tokens it has there
    assert answer_types.profile([[0.0] * 8, [8.0]], bins=1) == [4.0]


def test_the_tables_have_every_kind_and_design():
    text = answer_types.to_markdown(answer_types.summarise(ROWS))
    assert all(f"| {design} " in text for design in answer_types.DESIGNS)
    assert text.count("good") == text.count("echo") == 3
