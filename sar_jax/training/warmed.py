"""Score and gradient compiled for all columns of a micro-batch, before a step needs them."""

import jax
import numpy as np

from sar_jax.parallel import sharding
from sar_jax.rl import packing
from sar_jax.structs import Batch, Packed, ValueBatch
from sar_jax.training.learner import States
from sar_jax.training.setup import Run


def warm(run: Run, states: States) -> None:
    """Calls them on padding that is as wide as a micro-batch may be, where there are several."""
    tools, options = run.tools, run.config.packing
    parts = [
        _padding(options.rows_per_microbatch, columns)
        for columns in packing.widths(options.row_tokens, options.narrowest)
    ]
    if len(parts) == 1:  # the first step compiles it
        return
    place = lambda part: sharding.place(part, sharding.by_rows(tools.mesh))
    weights = tools.scoring_weights(states.policy.params)
    jax.block_until_ready([tools.score(weights, place(part)) for part in parts])
    del weights  # gone before the gradient needs room
    for part in parts:
        grid = np.zeros(part.tokens.shape, np.float32)
        sampling = grid if run.config.loss.importance_cap else None
        batch = place(Batch(part, grid, grid, grid, sampling))
        run.assembly.update.warm(states.policy.params, batch, run.frozen)
        if states.critic is not None:
            critic = states.critic.params
            jax.block_until_ready(tools.values(critic, batch.packed))
            run.assembly.critic.update.warm(critic, place(ValueBatch(part, grid, grid)))


def _padding(rows: int, columns: int) -> Packed:
    """A micro-batch without a token."""
    dtypes = (np.int32, np.int32, np.int32, np.bool_)
    return Packed(*(np.zeros((rows, columns), dtype) for dtype in dtypes))
