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
from sar_jax.training.rollouts import Tools
from sar_jax.training.settings import derived

PerAnswer = Sequence[np.ndarray]  # one number a token, for each of the B answers


class Grid(NamedTuple):
    """Packed rows of one kind.

    answers   which of the B answers they hold
    cuts      of its micro-batches
    """

    packed: Packed
    layout: Layout
    answers: range
    cuts: list[packing.Cut]

    def microbatches(self) -> list[Packed]:
        return [Packed(*(field[cut] for field in self.packed)) for cut in self.cuts]


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
    are_sampled      logps are those of the sampler, and entropy their negative
    """

    logps: PerAnswer
    entropy: PerAnswer
    alone: PerAnswer
    ref_logps: PerAnswer
    values: PerAnswer
    are_sampled: bool = False


def pack(
    config: config_lib.TrainConfig,
    standalone: Sequence[int],
    rows: Sequence[Question],
    rollouts: Rollouts,
) -> Grids:
    """The answers' rows. standalone: token ids of the context that replaces the question."""
    M = config.rollout.samples
    ids = [tokens[:n] for tokens, n in zip(rollouts.tokens, rollouts.lengths)]
    step = config.loss.minibatch_questions * M
    asked = []
    for start in range(0, len(ids), step):
        part = range(start, start + step)
        contexts = [rows[b // M].prompt for b in part]
        asked.append(pack_one(config.packing, contexts, [ids[b] for b in part], part))
    alone = []
    if derived.needs_standalone(config):
        contexts = [standalone] * len(ids)
        alone.append(pack_one(config.packing, contexts, ids, range(len(ids))))
    return Grids(asked, alone)


def pack_one(
    options: config_lib.Packing,
    contexts: Sequence[Sequence[int]],
    ids: Sequence[Sequence[int] | np.ndarray],
    answers: range,
) -> Grid:
    """The rows of some answers. contexts, ids: token ids of each; answers: which of them."""
    rows, narrowest = options.rows_per_microbatch, options.narrowest
    packed, layout = packing.pack(contexts, ids, options.row_tokens, rows, narrowest)
    return Grid(packed, layout, answers, packing.cuts(packed, rows, narrowest))


def filled(grids: Grids) -> float:
    """Tokens of sequences, as a share of what the micro-batches compute."""
    parts = [part for grid in (*grids.asked, *grids.alone) for part in grid.microbatches()]
    return sum(int((part.segment_ids > 0).sum()) for part in parts) / sum(
        part.tokens.size for part in parts
    )


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
    asked_too: bool = True,
) -> Pending:
    """Starts scoring every micro-batch, without waiting.

    params      the policy's, for scoring
    reference   of the initial policy; None: nothing is compared with it
    critic      its float32 parameters; None without one
    asked_too   whether the policy scores answers with their question, or standalone ones alone
    """
    place = lambda part: sharding.place(part, sharding.by_rows(tools.mesh))
    asked = [[place(part) for part in grid.microbatches()] for grid in grids.asked]
    policy = [[tools.score(params, part) for part in parts] for parts in asked if asked_too]
    alone = [
        [tools.score(params, place(part)) for part in grid.microbatches()] for grid in grids.alone
    ]
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
    policy = _joined(pending.asked, asked)
    reference = _joined(pending.reference, asked)
    standalone = _joined(pending.alone, alone)
    return Scored(
        logps=_on_answers([s.logps for s in policy], asked),
        entropy=_on_answers([s.entropy for s in policy], asked),
        alone=_on_answers([s.logps for s in standalone], alone),
        ref_logps=_on_answers([s.logps for s in reference], asked),
        values=(),
    )


def fetch_values(pending: Pending) -> PerAnswer:
    """Waits for the critic's values."""
    grids = pending.grids.asked
    values = [
        packing.joined(multihost.fetch(parts), grid.packed.tokens.shape[1])
        for grid, parts in zip(grids, pending.values)
    ]
    return _on_answers(values, grids)


def _joined(scores: list[list[Scores]], grids: Sequence[Grid]) -> list[Scores]:
    """Micro-batches' scores, fetched, as one grid each; [] without scores."""
    found = []
    for parts, grid in zip(scores, grids):
        width = grid.packed.tokens.shape[1]
        fields = zip(*multihost.fetch(parts))
        found.append(Scores(*(packing.joined(field, width) for field in fields)))
    return found


def _on_answers(values: Sequence[np.ndarray], grids: Sequence[Grid]) -> list[np.ndarray]:
    """Values on grids, as an array for each of their answers; [] without values."""
    return [x for grid, value in zip(grids, values) for x in packing.from_grid(value, grid.layout)]
