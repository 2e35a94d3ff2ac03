"""What the updates of a step consume: packed micro-batches with advantages and old logprobs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sar_jax import config as config_lib
from sar_jax.rl import packing
from sar_jax.rl.advantages import Credit
from sar_jax.structs import Batch, Packed, ValueBatch
from sar_jax.training.grids import Grid, PerAnswer, Scored


class Minibatch(NamedTuple):
    """What one update consumes.

    microbatches   host arrays
    answers        how many answers it has
    tokens         how many answer tokens are trained on
    values         the critic's micro-batches, [] without one
    """

    microbatches: list[Batch]
    answers: int
    tokens: int
    values: list[ValueBatch]


def make(
    config: config_lib.TrainConfig,
    grid: Grid,
    scored: Scored,
    credit: Credit,
    trained: np.ndarray,
    sampling_logps: PerAnswer,
) -> Minibatch:
    """The mini-batch of one grid's answers.

    trained          [B] which answers the losses see; the others still count as answers
    sampling_logps   of the distribution that was drawn from, for each of the B answers
    """

    def place(values: Sequence[float | np.ndarray] | np.ndarray) -> np.ndarray:
        own = [values[b] for b in grid.answers]
        return packing.to_grid(own, grid.layout, grid.packed.tokens.shape)

    whole = grid.packed._replace(mask=grid.packed.mask & (place(trained) > 0))
    empty = np.zeros(grid.packed.tokens.shape, np.float32)
    fields = [
        place(credit.advantages),
        place(scored.logps),
        place(scored.ref_logps) if scored.ref_logps else empty,
    ]
    if config.loss.importance_cap:
        fields.append(place(sampling_logps))
    values = []
    if scored.values:
        fields_of_values = [place(credit.returns), place(scored.values)]
        values = [ValueBatch(*part) for part in _cut(whole, fields_of_values, grid.cuts)]
    return Minibatch(
        [Batch(*part) for part in _cut(whole, fields, grid.cuts)],
        len(grid.answers),
        int(whole.mask.sum()),
        values,
    )


def _cut(packed: Packed, fields: list[np.ndarray], cuts: list[packing.Cut]) -> list[tuple]:
    """(packed, *fields) of each micro-batch."""
    return [(Packed(*(grid[cut] for grid in packed)), *(f[cut] for f in fields)) for cut in cuts]
