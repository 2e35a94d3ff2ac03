"""Packing loses, repeats and mixes nothing: every sequence stands whole in one row, and its answer
alone is scored."""

import numpy as np
import pytest
from hypothesis import strategies as st
from support.drawn import holds_for

from sar_jax.rl import packing
from sar_jax.structs import Packed

TOKENS = st.integers(0, 7)  # few ids, so that 0 (padding's) and repeats are common


def problem_of(lengths, width, rows_multiple, token=lambda i: i % 8):
    """As `problems` draws them, of sequences of (prompt, answer) lengths."""
    ids = iter(token(i) for i in range(1000))
    take = lambda n: [next(ids) for _ in range(n)]
    pairs = [(take(prompt), take(answer)) for prompt, answer in lengths]
    return [p for p, _ in pairs], [a for _, a in pairs], width, rows_multiple


PROBLEMS = [
    problem_of([], 2, 3),  # no sequence: rows of padding
    problem_of([(1, 1)], 2, 1),
    problem_of([(1, 1)] * 5, 2, 2),
    problem_of([(1, 3), (3, 1), (2, 2)], 4, 1),  # every sequence fills its row
    problem_of([(1, 1)] * 12, 24, 4),  # all in one row
    problem_of([(5, 7), (1, 2), (3, 9), (2, 2), (8, 1)], 12, 1),
    problem_of([(5, 7), (1, 2), (3, 9), (2, 2), (8, 1), (1, 1)], 13, 3),
    problem_of([(2, 3), (2, 3), (2, 3), (2, 3), (1, 1)], 12, 2, lambda i: 0),  # padding's id alone
    problem_of([(9, 15), (1, 1), (23, 1), (1, 23), (6, 6), (4, 8), (11, 2)], 24, 2),
]


@st.composite
def problems(draw):
    """(prompts, answers, width, rows_multiple) where every sequence fits."""
    width = draw(st.integers(2, 24))
    prompts, answers = [], []
    for _ in range(draw(st.integers(0, 12))):
        length = draw(st.integers(2, width))
        prompt = draw(st.integers(1, length - 1))
        ids = draw(st.lists(TOKENS, min_size=length, max_size=length))
        prompts.append(ids[:prompt])
        answers.append(ids[prompt:])
    return prompts, answers, width, draw(st.integers(1, 4))


def test_worked_example():
    """The example of the module's docstring; a, b, c have ids 1, 2, 3, and answers 11, 12, 13."""
    packed, layout = packing.pack([[1] * 3, [2] * 2, [3] * 2], [[11] * 2, [12] * 2, [13]], 8, 1)
    np.testing.assert_array_equal(
        packed.tokens, [[1, 1, 1, 11, 11, 3, 3, 13], [2, 2, 12, 12, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        packed.segment_ids, [[1, 1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        packed.positions, [[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 2, 3, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(packed.mask, [[0, 0, 0, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(layout, [[0, 1, 0], [3, 2, 7], [2, 2, 1]])
    assert [a.dtype for a in packed] == [np.int32, np.int32, np.int32, np.bool_]


@holds_for(PROBLEMS, problem=problems())
def test_every_sequence_stands_whole_exactly_once(problem):
    for narrowest in (1, 2, 8):
        check_every_sequence(*problem, narrowest)


def check_every_sequence(prompts, answers, width, multiple, narrowest):
    packed, layout = packing.pack(prompts, answers, width, multiple, narrowest)
    rows = packed.tokens.shape[0]
    assert all(grid.shape == (rows, width) for grid in packed)
    assert rows % multiple == 0 and rows >= multiple
    free = np.ones((rows, width), bool)  # columns that no sequence has claimed yet
    segments = set()
    for i, (prompt, answer) in enumerate(zip(prompts, answers)):
        row, end = layout.row[i], layout.start[i] + layout.length[i]
        n = len(prompt) + len(answer)
        here = (row, slice(end - n, end))
        assert end - n >= 0 and layout.length[i] == len(answer)
        assert free[here].all()
        free[here] = False
        assert packed.tokens[here].tolist() == prompt + answer
        assert packed.positions[here].tolist() == list(range(n))
        assert packed.mask[here].tolist() == [False] * len(prompt) + [True] * len(answer)
        (segment,) = set(packed.segment_ids[here].tolist())
        assert segment > 0 and (row, segment) not in segments
        segments.add((row, segment))
    for grid in packed:  # what is left is padding
        assert not grid[free].any()
    needed = {r for r, _ in segments}  # no more rows than are used, rounded up
    assert needed == set(range(len(needed))) and rows - len(needed) < max(multiple, 1) + (
        not needed
    )


@holds_for(PROBLEMS, problem=problems())
def test_micro_batches_hold_everything_in_as_few_columns_as_there_are(problem):
    *_, width, rows = problem
    whole, _ = packing.pack(*problem)
    for narrowest in (1, 2, 4):
        packed, _ = packing.pack(*problem, narrowest)
        cuts = packing.cuts(packed, rows, narrowest)
        parts = [packed.segment_ids[cut] for cut in cuts]
        np.testing.assert_array_equal(packing.joined(parts, width), packed.segment_ids)
        assert [part.shape for part in parts[:-1]] == [(rows, width)] * (len(parts) - 1)
        last, allowed = parts[-1], packing.widths(width, narrowest)
        assert last.shape[0] == rows and last.shape[1] in allowed
        smaller = [columns for columns in allowed if columns < last.shape[1]]
        assert not smaller or last[:, smaller[-1] :].any()
        assert sum(part.size for part in parts) <= whole.tokens.size
        assert packed.tokens.shape == whole.tokens.shape


def test_the_last_micro_batch_is_as_narrow_as_its_sequences_allow():
    """Rows of 8, two at once: two of 8 fill the first ones, and three of 2 are left. They need one
    row of 8, two of 4, or three of 2."""
    prompts, answers = [[1]] * 5, [[2] * 7] * 2 + [[2]] * 3
    assert packing.widths(8, 4) == [2, 4, 8] and packing.widths(5, 4) == [2, 3, 5]
    for narrowest, columns in ((1, 8), (2, 4), (4, 4)):
        packed, layout = packing.pack(prompts, answers, 8, 2, narrowest)
        assert packing.cuts(packed, 2, narrowest) == [
            (slice(0, 2), slice(8)),
            (slice(2, 4), slice(columns)),
        ]
        assert layout.row.tolist() == [0, 1, 2, 2, 2 if columns == 8 else 3]


@holds_for(PROBLEMS, problem=problems())
def test_no_two_rows_would_fit_into_one(problem):
    """First fit: a row was opened only because the earlier ones were full."""
    packed, _ = packing.pack(*problem)
    used = sorted(n for n in (packed.segment_ids > 0).sum(axis=1) if n)
    assert len(used) < 2 or used[0] + used[1] > problem[2]


@holds_for(
    [(problem, seed) for seed, problem in enumerate(PROBLEMS)],
    problem=problems(),
    seed=st.integers(0, 2**32 - 1),
)
def test_gather_inverts_scatter(problem, seed):
    packed, layout = packing.pack(*problem)
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=len(answer)).astype(np.float32) for answer in problem[1]]
    grid = packing.to_grid(values, layout, packed.tokens.shape)
    assert grid.dtype == np.float32 and not grid[~packed.mask].any()
    for value, back in zip(values, packing.from_grid(grid, layout), strict=True):
        np.testing.assert_array_equal(value, back)
    again = packing.to_grid(packing.from_grid(grid, layout), layout, packed.tokens.shape)
    np.testing.assert_array_equal(grid, again)


def test_the_longest_sequence_goes_first():
    """In the order given, 3 + 3 would leave no room for either 5: three rows of 8 instead of
    two."""
    packed, layout = packing.pack([[1] * 2, [1] * 2, [1] * 4, [1] * 4], [[2]] * 4, 8, 1)
    assert (
        packed.tokens.shape == (2, 8)
        and layout.row.tolist() == [0, 1, 0, 1]
        and packed.segment_ids.all()
    )
    assert layout.start.tolist() == [7, 7, 4, 4]
    # ... and among equals the first given, so that packing is a function of its arguments
    assert packing.pack([[1], [1], [1]], [[2], [2], [2]], 2, 1)[1].row.tolist() == [0, 1, 2]


def test_gather_finds_the_answers_tokens_and_scatter_spreads_a_scalar():
    prompts, answers = [[1], [2, 3], [4]], [[5, 6], [7], [8, 9, 10]]
    packed, layout = packing.pack(prompts, answers, 5, 2)
    assert [found.tolist() for found in packing.from_grid(packed.tokens, layout)] == answers
    grid = packing.to_grid([0.5, -1.0, 2.0], layout, packed.tokens.shape)
    assert [found.tolist() for found in packing.from_grid(grid, layout)] == [
        [0.5, 0.5],
        [-1.0],
        [2.0, 2.0, 2.0],
    ]
    assert grid.sum() == 6.0


@holds_for(
    [(problem, i % 8) for i, problem in enumerate(PROBLEMS)],
    problem=problems(),
    token=st.integers(0, 7),
)
def test_the_mask_does_not_see_token_values(problem, token):
    """Padding's id, or an end of sequence as an answer's first, inner and last token: the same
    rows, the same mask."""
    prompts, answers, width, multiple = problem
    plain, layout = packing.pack(prompts, answers, width, multiple)
    same = lambda sequences: [[token] * len(ids) for ids in sequences]
    packed, other = packing.pack(same(prompts), same(answers), width, multiple)
    for name in ("positions", "segment_ids", "mask"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(packed, name))
    np.testing.assert_array_equal(layout, other)
    assert packed.mask.sum() == sum(map(len, answers))


def test_numpy_ids_are_packed_like_lists():
    prompts, answers = [[1, 2], [3]], [[4], [5, 6]]
    as_lists, layout = packing.pack(prompts, answers, 4, 1)
    as_arrays, same = packing.pack(
        [np.array(p) for p in prompts], [np.array(a, np.int32) for a in answers], 4, 1
    )
    for a, b in zip((*as_lists, *layout), (*as_arrays, *same)):
        np.testing.assert_array_equal(a, b)


@holds_for(PROBLEMS, problem=problems())
def test_microbatches_are_the_rows_in_order(problem):
    packed, _ = packing.pack(*problem)
    pieces = packing.microbatches(packed, problem[3])
    assert all(isinstance(p, Packed) and len(p.tokens) == problem[3] for p in pieces)
    for grid, *parts in zip(packed, *pieces):
        np.testing.assert_array_equal(grid, np.concatenate(parts))


@pytest.mark.parametrize(
    "prompts, answers, message",
    [
        ([[1] * 5], [[2] * 4], "9 tokens does not fit a row of 8"),
        ([[1], [1] * 8], [[2], [2]], "9 tokens"),
        ([[]], [[2]], "empty"),
        ([[1], [1]], [[2], []], "empty"),
        ([[1], [1]], [[2]], "zip"),
    ],
)
def test_what_cannot_be_packed_raises(prompts, answers, message):
    with pytest.raises(ValueError, match=message):
        packing.pack(prompts, answers, 8, 1)


def test_scatter_refuses_another_number_of_values():
    packed, layout = packing.pack([[1], [1]], [[2], [2]], 8, 1)
    with pytest.raises(ValueError):
        packing.to_grid([1.0], layout, packed.tokens.shape)
