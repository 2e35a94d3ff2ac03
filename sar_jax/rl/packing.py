"""Sequences -> packed rows of one fixed width, and back. Host code, numpy only.

First-fit decreasing: the longest sequence first, each into the first row with room. A worked
example, width 8, sequences of lengths 5 (a), 4 (b), 3 (c), scored answers being the last 2, 2 and 1
tokens:

    row 0   a a a A A c c C        segment_ids 1 1 1 1 1 2 2 2    positions 0 1 2 3 4 0 1 2
    row 1   b b B B . . . .        segment_ids 1 1 1 1 0 0 0 0    positions 0 1 2 3 0 0 0 0

The cost of scoring follows the real tokens, not the longest answer, and there is one shape: rows
come in multiples of the micro-batch, and rows of nothing but padding fill the last one.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from sar_jax.structs import Layout, Packed


def pack(
    prompts: Sequence[Sequence[int] | np.ndarray],
    answers: Sequence[Sequence[int] | np.ndarray],
    width: int,
    rows_multiple: int,
) -> tuple[Packed, Layout]:
    """Packs pairs of a prompt and an answer into rows of one width.

    prompts, answers   token ids of each sequence's two parts
    width              tokens of a row
    rows_multiple      the number of rows is a multiple of this

    Raises ValueError where a sequence is longer than `width`, or its prompt or answer is empty.
    """
    sizes = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    lengths = np.array(sizes, dtype=np.int64)
    if len(lengths) and lengths.max() > width:
        raise ValueError(f"a sequence of {lengths.max()} tokens does not fit a row of {width}")
    if any(len(p) == 0 or len(a) == 0 for p, a in zip(prompts, answers)):
        raise ValueError(
            "a prompt or an answer is empty: the first answer token needs a token before it"
        )
    # of each row that is open; there are at most as many as sequences
    used, segments = (np.zeros(len(lengths), np.int64) for _ in range(2))
    # of each sequence
    row, offset, segment = (np.zeros(len(lengths), np.int64) for _ in range(3))
    rows = 0
    for i in np.argsort(-lengths, kind="stable"):
        fits = used[:rows] + lengths[i] <= width
        r = int(np.argmax(fits)) if fits.any() else rows
        rows = max(rows, r + 1)
        row[i], offset[i], segment[i] = r, used[r], segments[r] + 1
        used[r] += lengths[i]
        segments[r] += 1
    rows = max(-(-rows // rows_multiple), 1) * rows_multiple
    dtypes = (np.int32, np.int32, np.int32, np.bool_)
    packed = Packed(*(np.zeros((rows, width), dtype) for dtype in dtypes))
    for i, (prompt, answer) in enumerate(zip(prompts, answers)):
        here = (row[i], slice(offset[i], offset[i] + lengths[i]))
        packed.tokens[here] = np.concatenate([prompt, answer])
        packed.positions[here] = np.arange(lengths[i])
        packed.segment_ids[here] = segment[i]
        packed.mask[row[i], offset[i] + len(prompt) : offset[i] + lengths[i]] = True
    prompt_lengths = np.array([len(p) for p in prompts], np.int64)
    return packed, Layout(row, offset + prompt_lengths, lengths - prompt_lengths)


def from_grid(grid: np.ndarray, layout: Layout) -> list[np.ndarray]:
    """Each sequence's values on its answer, from a packed grid [R, T]: arrays of their lengths."""
    return [grid[r, s : s + n] for r, s, n in zip(layout.row, layout.start, layout.length)]


def to_grid(
    values: Iterable[float | np.generic | np.ndarray], layout: Layout, shape: tuple[int, int]
) -> np.ndarray:
    """The inverse of `from_grid`: values on a float32 grid of zeros.

    values   for each answer a number, or an array of its length
    shape    of the grid, [R, T]
    """
    grid = np.zeros(shape, np.float32)
    for value, r, s, n in zip(values, layout.row, layout.start, layout.length, strict=True):
        grid[r, s : s + n] = value
    return grid


def microbatches(packed: Packed, rows: int) -> list[Packed]:
    """The packed rows in pieces of `rows` rows, which divides their number."""
    return [
        Packed(*(grid[i : i + rows] for grid in packed)) for i in range(0, len(packed.tokens), rows)
    ]
