"""Where a token's keys and values are in a cache: index arithmetic, apart from devices and arrays.

A slot's column is its token's position; a layer with a window w keeps the last w positions in a
ring, position p in column p mod w. Letters: K kv heads, l layers that share an array, S slots,
C columns.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int


def ring(window: int | None, columns: int) -> int:
    """How many of an array's columns are in use: all of them, or as many as the window."""
    return columns if window is None else min(window, columns)


def flat_rows(
    shape: tuple[int, int, int, int],
    layer: int | Int[Array, ""],
    columns: Int[Array, " S"],
) -> Int[Array, " rows"]:
    """Row numbers of one column of every slot, in an array [K, l, S, C, ...] seen as rows.

    shape     (K, l, S, C)
    layer     which of the l layers; a number beyond the last one counts as the last
    columns   the column of each slot

    A worked example: K = 2, l = 3, S = 2, C = 4, layer 1; slot 0 at column 3, slot 1 at column 0.

        head 0   its layer 1 begins at row 1 * 2 * 4 = 8   slot 0: 8 + 3 = 11   slot 1: 8 + 4 = 12
        head 1   24 rows further                           slot 0: 35           slot 1: 36
    """
    K, l, S, C = shape
    slot = jnp.minimum(layer, l - 1) * S + jnp.arange(S)
    return (jnp.arange(K)[:, None] * (l * S * C) + slot * C + columns).reshape(-1)


def newest_positions(length: Int[Array, ""], ring: int) -> Int[Array, " ring"]:
    """For each column of a ring, the last position before `length` that belongs there.

    A worked example: length 6 in a ring of 4.

        column     0  1  2  3
        position   4  5  2  3

    Where a sequence is shorter than the ring, columns beyond it get negative positions.
    """
    column = jnp.arange(ring)
    return length - 1 - (length - 1 - column) % ring
