"""A step's answers on packed rows, and their scores.

    answers --pack--> one grid a mini-batch, after their questions; one grid of all, standalone
            --start--> the policy on all grids, reference and critic on those with the question
            --fetch--> an array of values an answer, on the host

The rows with the question serve scoring and the update alike. Answers are token ids throughout: the
standalone pass reuses the very ids that were sampled.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sar_jax import config as config_lib
from sar_jax.model.parameters import Params
from sar_jax.parallel import multihost, sharding
from sar_jax.rl import packing
from sar_jax.structs import Layout, Packed, Rollouts, Scores
from sar_jax.text.prompts import Question
from sar_jax.training import derived
from sar_jax.training.rollouts import Tools

PerAnswer = Sequence[np.ndarray]  # one number a token, for each of the B answers


class Grid(NamedTuple):
    """Packed rows of one kind; answers: which of the B answers they hold."""

    packed: Packed
    layout: Layout
    answers: range


class Grids(NamedTuple):
    """asked: after the question, one grid a mini-batch; alone: standalone, at most one grid."""

    asked: list[Grid]
    alone: list[Grid]


class Scored(NamedTuple):
    """Values on the tokens of each answer, given its question unless said otherwise.

    logps, entropy   of the policy that sampled, in nats
    alone            logps in the standalone context; () where nobody asks for them
    ref_logps        of the initial policy; () without a reference
    values           the critic's; () without one
    """

    logps: PerAnswer
    entropy: PerAnswer
    alone: PerAnswer
    ref_logps: PerAnswer
    values: PerAnswer


def pack(
    config: config_lib.TrainConfig,
    standalone: Sequence[int],
    rows: Sequence[Question],
    rollouts: Rollouts,
) -> Grids:
    """The answers' rows. standalone: token ids of the context that replaces the question."""
    M = config.rollout.samples
    ids = [tokens[:n] for tokens, n in zip(rollouts.tokens, rollouts.lengths)]
    width, multiple = config.packing.row_tokens, config.packing.rows_per_microbatch
    step = config.loss.minibatch_questions * M
    asked = []
    for start in range(0, len(ids), step):
        part = range(start, start + step)
        contexts = [rows[b // M].prompt for b in part]
        packed, layout = packing.pack(contexts, [ids[b] for b in part], width, multiple)
        asked.append(Grid(packed, layout, part))
    alone = []
    if derived.needs_standalone(config):
        packed, layout = packing.pack([standalone] * len(ids), ids, width, multiple)
        alone.append(Grid(packed, layout, range(len(ids))))
    return Grids(asked, alone)


class Pending(NamedTuple):
    """Scores that the devices are at work on: for each grid, a result a micro-batch."""

    grids: Grids
    asked: list[list[Scores]]
    alone: list[list[Scores]]
    reference: list[list[Scores]]
    values: list[list[Any]]


def start(
    tools: Tools,
    grids: Grids,
    params: Params,
    reference: Params | None,
    critic: Params | None,
) -> Pending:
    """Starts scoring every micro-batch, without waiting.

    params      the policy's, for scoring
    reference   of the initial policy; None: nothing is compared with it
    critic      its float32 parameters; None without one
    """
    place = lambda part: sharding.place(part, sharding.by_rows(tools.mesh))
    cut = lambda grid: packing.microbatches(grid.packed, tools.config.packing.rows_per_microbatch)
    asked = [[place(part) for part in cut(grid)] for grid in grids.asked]
    policy = [[tools.score(params, part) for part in parts] for parts in asked]
    alone = [[tools.score(params, place(part)) for part in cut(grid)] for grid in grids.alone]
    compared, values = [], []
    if reference is not None:
        reference = tools.fetch_reference(reference)
        compared = [[tools.score(reference, part) for part in parts] for parts in asked]
    if critic is not None:
        values = [[tools.values(critic, part) for part in parts] for parts in asked]
    return Pending(grids, policy, alone, compared, values)


def fetch(pending: Pending) -> Scored:
    """Waits for the scores; the critic's values are left to `fetch_values`."""
    asked, alone = pending.grids
    policy = [_joined(parts) for parts in pending.asked]
    reference = [_joined(parts) for parts in pending.reference]
    standalone = [_joined(parts) for parts in pending.alone]
    return Scored(
        logps=_on_answers([s.logps for s in policy], asked),
        entropy=_on_answers([s.entropy for s in policy], asked),
        alone=_on_answers([s.logps for s in standalone], alone),
        ref_logps=_on_answers([s.logps for s in reference], asked),
        values=(),
    )


def fetch_values(pending: Pending) -> PerAnswer:
    """Waits for the critic's values."""
    values = [np.concatenate(multihost.fetch(parts)) for parts in pending.values]
    return _on_answers(values, pending.grids.asked)


def _joined(parts: list[Scores]) -> Scores:
    """Micro-batches' scores, fetched, as one grid."""
    fetched = multihost.fetch(parts)
    return Scores(*(np.concatenate(field) for field in zip(*fetched)))


def _on_answers(values: Sequence[np.ndarray], grids: Sequence[Grid]) -> list[np.ndarray]:
    """Values on grids, as an array for each of their answers; [] without values."""
    return [x for grid, value in zip(grids, values) for x in packing.from_grid(value, grid.layout)]
