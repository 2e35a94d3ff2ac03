"""Questions -> sampled answers and what the verifier says of them.

draw() --gather--> rows of all processes --sample--> token ids --own share--> text --> verifier
start(...)      returns while the verifier still works; settle(...) waits, and shares what each process found
refilled(...)   draws again for groups that tell the verifiable reward nothing, up to a number of rounds
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import judged
from sar_jax.parallel import multihost
from sar_jax.rollout import sampler
from sar_jax.rollout import texts as texts_lib
from sar_jax.structs import Packed, Rollouts, Scores
from sar_jax.text.answers.verifier import ErrorShare, Handle, Outcome, Verifier
from sar_jax.text.prompts import Prompter, Question

Draw = Callable[[], Sequence[Question]]  # this process's next questions


class Tools(NamedTuple):
    """What a step needs beside its own inputs. `cast` and `hand_over` make the weights of `score`
    and `sample` (`sar_jax.training.handover`); `fetch_reference` brings the reference to the
    devices; `values` is the critic's; `errors` stops the run when too many answers cannot be
    verified."""

    sample: sampler.Sample
    score: Callable[[Any, Packed], Scores]
    prompter: Prompter
    mesh: Mesh
    config: config_lib.TrainConfig
    verifier: Verifier
    errors: ErrorShare
    cast: Callable[[Any], Any]
    hand_over: Callable[[Any], Any]
    fetch_reference: Callable[[Any], Any]
    values: Callable[[Any, Packed], Any] | None = None


class Pending(NamedTuple):
    """Answers that are being verified. rows: Q questions; own: which of the Q * M answers this
    process verifies."""

    rows: list[Question]
    rollouts: Rollouts
    own: list[int]
    own_texts: list[str]
    verdicts: Handle


class Answered(NamedTuple):
    """Q questions, their Q * M answers, what the verifier says of each, and its text."""

    rows: list[Question]
    rollouts: Rollouts
    outcomes: list[Outcome]
    texts: list[str]


def start(tools: Tools, own_rows: Sequence[Question], weights: Any, key: jax.Array) -> Pending:
    """Samples M answers to each question, and submits this process's share of them. own_rows: its
    share of the questions."""
    shares = multihost.gather(list(own_rows))
    rows = [
        row for turn in zip(*shares) for row in turn
    ]  # process i's j-th question is the step's j * processes + i-th
    rollouts = _sample(tools, rows, weights, key)
    M = tools.config.rollout.samples
    own = [b for b in range(len(rows) * M) if b // M % len(shares) == jax.process_index()]
    texts = texts_lib.decode_texts(tools.prompter.tokenizer, rollouts, own)
    verdicts = tools.verifier.submit(
        [judged.item(rows[b // M], text) for b, text in zip(own, texts)]
    )
    return Pending(rows, rollouts, own, texts, verdicts)


def settle(tools: Tools, pending: Pending) -> Answered:
    """Waits for the verdicts, also those of other processes. Raises `UserError`, on every process,
    where too many answers could not be judged."""
    outcomes, problem = pending.verdicts.result(), None
    try:
        tools.errors.add(pending.verdicts)
    except UserError as error:
        problem = str(error)
    count = len(pending.rollouts.lengths)
    everyone: list[Any] = [None] * count
    texts, problems = [""] * count, []
    for own, found, own_texts, their_problem in multihost.gather(
        (pending.own, outcomes, pending.own_texts, problem)
    ):
        for b, outcome, text in zip(own, found, own_texts):
            everyone[b], texts[b] = outcome, text
        problems += [their_problem] if their_problem else []
    if problems:
        raise UserError(problems[0])
    return Answered(pending.rows, pending.rollouts, everyone, texts)


def refilled(
    tools: Tools, draw: Draw, weights: Any, key: jax.Array
) -> tuple[Answered, dict[str, float]]:
    """Q groups from at most 1 + `rollout.refill_rounds` rounds, those first whose answers are not
    all right nor all wrong.

    Groups that are left over are not trained on; where even the last round does not bring enough,
    groups without a verifiable signal fill the step, so that its shape stays. Also how many rounds
    it took, the share of groups without a signal among all that were sampled, and the decoder's
    metrics over all rounds."""
    rollout = tools.config.rollout
    telling: list[Answered] = []
    rest: list[Answered] = []
    rounds: list[sampler.Stats] = []
    for round_ in range(1 + rollout.refill_rounds):
        found = settle(
            tools, start(tools, draw(), weights, jax.random.fold_in(key, round_) if round_ else key)
        )
        rounds.append(tools.sample.stats)
        for q in range(len(found.rows)):
            group = _group(found, q, rollout.samples)
            right = sum(outcome is Outcome.RIGHT for outcome in group.outcomes)
            (telling if 0 < right < rollout.samples else rest).append(group)
        if len(telling) >= rollout.questions:
            break
    metrics = {
        "rollout/rounds": round_ + 1.0,
        "rollout/frac_without_signal": len(rest) / (len(rest) + len(telling)),
        **sampler.Stats(*map(sum, zip(*rounds))).metrics,
    }
    return _join((telling + rest)[: rollout.questions]), metrics


def _group(found: Answered, q: int, samples: int) -> Answered:
    """One question with its answers."""
    part = slice(q * samples, (q + 1) * samples)
    return Answered(
        [found.rows[q]],
        Rollouts(*(x[part] for x in found.rollouts)),
        found.outcomes[part],
        found.texts[part],
    )


def _join(groups: list[Answered]) -> Answered:
    return Answered(
        [row for g in groups for row in g.rows],
        Rollouts(*(np.concatenate(x) for x in zip(*(g.rollouts for g in groups)))),
        [o for g in groups for o in g.outcomes],
        [t for g in groups for t in g.texts],
    )


def _sample(tools: Tools, rows: Sequence[Question], params: Any, key: jax.Array) -> Rollouts:
    """All answers. What one draws follows its question's number, not which others are decoded
    beside it."""
    tokens, lengths = texts_lib.pad_prompts(
        [r.prompt for r in rows], tools.config.data.max_prompt_tokens, len(rows)
    )
    return tools.sample(params, tokens, lengths, np.arange(len(rows), dtype=np.int32), key)
