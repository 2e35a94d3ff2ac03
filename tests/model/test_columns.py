"""Where a token is in the cache: the worked examples, and plain loops over every case."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from sar_jax.model import columns


def test_the_worked_example_of_flat_rows():
    rows = columns.flat_rows((2, 3, 2, 4), 1, jnp.array([3, 0]))
    assert rows.tolist() == [11, 12, 35, 36]


@pytest.mark.parametrize("K, l, S, C", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 1, 2, 7)])
def test_flat_rows_are_those_of_an_array_of_row_numbers(K, l, S, C):
    numbers = np.arange(K * l * S * C).reshape(K, l, S, C)
    for layer in range(l):
        column = np.random.default_rng(layer).integers(0, C, S)
        expected = [
            numbers[k, layer, s, column[s]] for k, s in itertools.product(range(K), range(S))
        ]
        found = columns.flat_rows((K, l, S, C), layer, jnp.asarray(column)).tolist()
        assert found == expected
        # sorted and without repetition, as the scatter is told
        assert found == sorted(set(found))
    beyond = columns.flat_rows((K, l, S, C), l + 5, jnp.asarray(column))
    assert beyond.tolist() == expected  # counts as the last layer


def test_the_worked_example_of_a_ring():
    assert columns.newest_positions(jnp.int32(6), 4).tolist() == [4, 5, 2, 3]


@pytest.mark.parametrize("ring", [1, 3, 8])
def test_a_ring_holds_the_newest_positions(ring):
    """Written one after the other, position p into column p mod ring."""
    held = [-1] * ring
    for position in range(20):
        held[position % ring] = position
        found = columns.newest_positions(jnp.int32(position + 1), ring).tolist()
        assert [p if p >= 0 else -1 for p in found] == held


def test_a_window_bounds_the_columns_in_use():
    assert [columns.ring(w, 10) for w in (None, 4, 10, 99)] == [10, 4, 10, 10]
