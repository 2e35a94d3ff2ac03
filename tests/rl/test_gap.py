"""Which steps score what was sampled."""

from sar_jax.rl.gap import LIMIT, Gap

NAME = "sampling/logp_difference/mean"


def test_without_the_option_every_step_scores():
    gap = Gap("scored", 5)
    assert not gap.learn({NAME: 9.0})
    assert all(gap.scores(step) for step in range(1, 12))


def test_the_first_step_of_every_few_measures_the_gap():
    gap = Gap("sampled", 5)
    assert [step for step in range(1, 13) if gap.scores(step)] == [1, 6, 11]
    assert not gap.learn({NAME: 0.9 * LIMIT}) and not gap.learn({})
    assert not gap.scores(2)


def test_a_gap_that_is_too_large_ends_it_for_good_and_is_told_once():
    gap = Gap("sampled", 5)
    assert gap.learn({NAME: 1.1 * LIMIT}) and not gap.learn({NAME: 1.1 * LIMIT})
    assert not gap.learn({NAME: 0.0})
    assert all(gap.scores(step) for step in range(1, 12))


def test_a_restart_remembers_it():
    small, large = {"step": 1, NAME: 0.1 * LIMIT}, {"step": 6, NAME: 2 * LIMIT}
    for lines, scores in (([], False), ([small, {"step": 2}], False), ([small, large], True)):
        gap = Gap("sampled", 5)
        gap.remember(lines)
        assert gap.scores(3) == scores
