"""Advantages of tokens: against the definition as a sum over later tokens, and by hand."""

import numpy as np
import pytest
from hypothesis import strategies as st
from support.drawn import holds_for

from sar_jax.rl import advantages as advantages_lib


def by_definition(reward, values, penalties, gamma, lam):
    """A_t = sum_k (gamma lam)^k delta_{t+k}, term by term."""
    n = len(values)
    r = [
        -(penalties[t] if penalties is not None else 0) + (reward if t == n - 1 else 0)
        for t in range(n)
    ]
    v = [*values, 0.0]
    delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(n)]
    return np.array(
        [sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)]
    )


NUMBER = st.floats(-3, 3)


@holds_for(
    [  # rewards and values of each answer; is each token charged; gamma, lambda
        ([(1.0, [0.5])], False, 1.0, 1.0),
        ([(0.0, [0.5, -0.25, 2.0])], False, 0.9, 0.95),
        ([(1.0, [0.3, 0.1]), (-2.5, [1.5])], True, 1.0, 0.0),
        ([(1.0, [0.3, 0.1]), (-2.5, [1.5])], True, 0.0, 1.0),
        ([(0.7, [1.0, -1.0, 0.5, 3.0, -3.0, 0.0, 0.2]), (0.0, [2.0, 1.0])], True, 0.99, 0.5),
        ([(2.0, [0.1] * 9), (1.0, [0.2]), (0.0, [-0.3] * 4), (3.0, [0.0])], True, 0.5, 0.9),
        ([(-1.0, [0.4, 0.6, 0.8]), (1.5, [0.9, 0.1, 0.2, 0.4])], False, 0.3, 0.3),
    ],
    answers=st.lists(
        st.tuples(NUMBER, st.lists(NUMBER, min_size=1, max_size=9)), min_size=1, max_size=5
    ),
    charged=st.booleans(),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
def test_ragged_answers_follow_the_definition(answers, charged, gamma, lam):
    rewards = [reward for reward, _ in answers]
    values = [np.array(value) for _, value in answers]
    penalties = [v[::-1] * 0.3 for v in values] if charged else None
    found = advantages_lib.gae(rewards, values, penalties, gamma, lam)
    for b in range(len(answers)):
        expected = by_definition(
            rewards[b], values[b], None if penalties is None else penalties[b], gamma, lam
        )
        np.testing.assert_allclose(found.advantages[b], expected, atol=1e-9)
        np.testing.assert_allclose(found.returns[b], expected + values[b], atol=1e-9)


def test_by_hand():
    """gamma = lam = 1: the return is the reward, on every token."""
    found = advantages_lib.gae([1.0, 0.0], [np.array([0.5, 0.25]), np.array([0.5])], None, 1.0, 1.0)
    np.testing.assert_allclose(found.advantages[0], [0.5, 0.75])
    np.testing.assert_allclose(found.advantages[1], [-0.5])
    np.testing.assert_allclose(np.concatenate(found.returns), [1, 1, 0])
    # gamma .5, lam .5: last 1 - .25 = .75; first .5 * .25 - .5 + .25 * .75 = -.1875
    np.testing.assert_allclose(
        advantages_lib.gae([1.0], [np.array([0.5, 0.25])], None, 0.5, 0.5).advantages[0],
        [-0.1875, 0.75],
    )
    # a charge of .1 on the first token is not seen by the second
    found = advantages_lib.gae([1.0], [np.zeros(2)], [np.array([0.1, 0.0])], 1.0, 1.0)
    np.testing.assert_allclose(found.advantages[0], [0.9, 1.0])


def test_whitening_is_over_all_tokens_of_all_answers(rng):
    """Not answer by answer: a long answer's mean may differ from 0."""
    parts = [rng.normal(3, 2, n) for n in (1, 7, 30)]
    white = advantages_lib.whitened(parts)
    every = np.concatenate(white)
    assert every.mean() == pytest.approx(0, abs=1e-9) and every.std(ddof=1) == pytest.approx(
        1, abs=1e-6
    )
    assert abs(white[2].mean()) > 1e-3
    np.testing.assert_allclose(np.corrcoef(every, np.concatenate(parts))[0, 1], 1)
    assert advantages_lib.whitened([np.array([2.0])])[0].tolist() == [0.0]


def test_explained_variance():
    returns = [np.array([0.0, 1.0]), np.array([1.0, 0.0])]
    assert advantages_lib.explained_variance(returns, returns) == 1
    assert advantages_lib.explained_variance([np.full(2, 0.5)] * 2, returns) == 0
    assert advantages_lib.explained_variance([-r for r in returns], returns) == pytest.approx(-3)
    assert advantages_lib.explained_variance(returns, [np.ones(2)] * 2) is None
