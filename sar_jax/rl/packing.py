"""Sequences -> packed rows of one fixed width, and back. Host code, numpy only.

First-fit decreasing: the longest sequence first, each into the first row with room. A worked
example, width 8, sequences of lengths 5 (a), 4 (b), 3 (c), scored answers being the last 2, 2 and 1
tokens:

    row 0   a a a A A c c C        segment_ids 1 1 1 1 1 2 2 2    positions 0 1 2 3 4 0 1 2
    row 1   b b B B . . . .        segment_ids 1 1 1 1 0 0 0 0    positions 0 1 2 3 0 0 0 0

The cost of scoring follows the real tokens, not the longest answer, and there are few shapes: rows
come in multiples of the micro-batch. The last one, whose sequences are the shortest, may have fewer
columns (`widths`); what is left of it is rows of nothing but padding.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from sar_jax.structs import Layout, Packed

Cut = tuple[slice, slice]  # rows and columns of a micro-batch


def widths(width: int, narrowest: int) -> list[int]:
    """Columns that a micro-batch may have, rising: a row's, half of them, down to 1 / narrowest.

    narrowest   a power of 2
    """
    parts = [2**i for i in range(narrowest.bit_length() - 1, 0, -1)]
    return sorted({*(-(-width // part) for part in parts), width})


def pack(
    prompts: Sequence[Sequence[int] | np.ndarray],
    answers: Sequence[Sequence[int] | np.ndarray],
    width: int,
    rows_multiple: int,
    narrowest: int = 1,
) -> tuple[Packed, Layout]:
    """Packs pairs of a prompt and an answer into rows of one width.

    prompts, answers   token ids of each sequence's two parts
    width              tokens of a row
    rows_multiple      the number of rows is a multiple of this: the rows of a micro-batch
    narrowest          of `widths`: the last micro-batch's sequences are in as few columns as fit

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
    row, offset, segment = _first_fit(lengths, width)
    rows = int(row.max(initial=0)) + 1
    first = (rows - 1) // rows_multiple * rows_multiple  # of the last micro-batch
    last = np.flatnonzero(row >= first)
    for columns in widths(width, narrowest)[:-1]:
        fitted = _first_fit(lengths[last], columns)
        if fitted[0].max(initial=0) < rows_multiple:
            row[last], offset[last], segment[last] = fitted[0] + first, *fitted[1:]
            break
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


def _first_fit(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each sequence: its row, its first column, and which of its row's segments it is, from 1.

    lengths   [B]; a sequence that is longer than `width` is alone in its row
    """
    # of each row that is open; there are at most as many as sequences
    used, segments = (np.zeros(len(lengths), np.int64) for _ in range(2))
    row, offset, segment = (np.zeros(len(lengths), np.int64) for _ in range(3))
    rows = 0
    for i in np.argsort(-lengths, kind="stable"):
        fits = used[:rows] + lengths[i] <= width
        r = int(np.argmax(fits)) if fits.any() else rows
        rows = max(rows, r + 1)
        row[i], offset[i], segment[i] = r, used[r], segments[r] + 1
        used[r] += lengths[i]
        segments[r] += 1
    return row, offset, segment


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


def cuts(packed: Packed, rows: int, narrowest: int = 1) -> list[Cut]:
    """(rows, columns) of each micro-batch: `rows` rows, which divides their number.

    narrowest   of `widths`: the last one has as few columns as hold its tokens
    """
    count, width = packed.tokens.shape
    found = [(slice(i, i + rows), slice(width)) for i in range(0, count, rows)]
    used = np.flatnonzero((packed.segment_ids[found[-1][0]] > 0).any(axis=0)).max(initial=-1) + 1
    columns = next(columns for columns in widths(width, narrowest) if columns >= used)
    return [*found[:-1], (found[-1][0], slice(columns))]


def microbatches(packed: Packed, rows: int, narrowest: int = 1) -> list[Packed]:
    """The packed rows in pieces; see `cuts`."""
    return [Packed(*(grid[cut] for grid in packed)) for cut in cuts(packed, rows, narrowest)]


def joined(parts: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Micro-batches' values [rows, columns] as one grid [R, width]; 0 where columns were left
    out."""
    wide = lambda part: np.pad(part, ((0, 0), (0, width - part.shape[1])))
    return np.concatenate([wide(part) for part in parts])
