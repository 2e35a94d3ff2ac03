"""Which tokens repeat the prompt, against a definition that compares all runs with all others."""

import numpy as np
import pytest

from sar_jax.rl import copies


def by_definition(prompt, answer, run) -> list[bool]:
    """Token i is copied if some run of the answer that holds it is somewhere in the prompt."""
    prompt, answer = list(prompt), list(answer)
    starts = range(len(answer) - run + 1)
    in_prompt = lambda part: any(prompt[j : j + run] == part for j in range(len(prompt) - run + 1))
    held = [s for s in starts if in_prompt(answer[s : s + run])]
    return [any(s <= i < s + run for s in held) for i in range(len(answer))]


@pytest.mark.parametrize("seed", range(60))
def test_copied_tokens_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, 4, rng.integers(0, 30))
    answer = rng.integers(0, 4, rng.integers(1, 40))
    for run in (1, 2, 3, 5):
        found = copies.copied(prompt.tolist(), answer, run)
        assert found.tolist() == by_definition(prompt, answer, run)


def test_the_example_of_the_docstring():
    found = copies.copied([1, 2, 3, 4, 5, 6], [9, 2, 3, 4, 5, 7, 5, 6], 3)
    assert found.tolist() == [c == "x" for c in ".xxxx..."]


def test_a_copy_neither_adds_to_the_gain_nor_leaves_the_mean():
    given, alone = np.array([-0.1, -0.2, -3.0, -4.0]), np.array([-5.0, -6.0, -3.5, -4.0])
    own = copies.as_standalone(given, alone, np.array([True, True, False, False]))
    gains = own - alone
    assert gains.tolist() == [0, 0, 0.5, 0] and gains.mean() == 0.125
    np.testing.assert_array_equal(copies.as_standalone(given, alone, np.zeros(4, bool)), given)


@pytest.mark.parametrize("length", [500, 8000])
def test_the_work_grows_as_the_lengths_do(length):
    """Every token is looked at once a run: a prompt and an answer of one repeated token too."""
    seen = []

    class Counted(int):
        def __int__(self):
            seen.append(1)
            return 7

    ids = [Counted(7)] * length
    assert copies.copied(ids, ids, 8).all()
    assert len(seen) == 2 * length
