"""Which rows given answers are packed into."""

import numpy as np
import pytest

from sar_jax.training import explained


@pytest.mark.parametrize("seed", range(20))
def test_each_sequence_is_in_one_width_that_holds_it(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, rng.choice([100, 700, 5000]), rng.integers(1, 400))
    found = explained.widths(lengths, rows=4)
    assert sorted(i for members in found.values() for i in members) == list(range(len(lengths)))
    for width, members in found.items():
        assert width % 128 == 0 and lengths[members].max() <= width
    assert max(found) == -(-lengths.max() // 128) * 128
    for width in sorted(found)[:-1]:  # what is compiled for fills a call
        assert lengths[found[width]].sum() >= 4 * width


def test_one_long_answer_does_not_widen_the_others():
    lengths = np.array([90] * 1000 + [4000])
    found = explained.widths(lengths, rows=4)
    assert sorted(found) == [128, 4096] and found[4096] == [1000]
    assert explained.widths(np.array([90] * 5 + [200]), rows=4) == {256: [0, 1, 2, 3, 4, 5]}
