"""Questions -> sampled answers and what the verifier says of them.

    draw() --gather--> rows of all processes --sample--> token ids --own share--> text --> verifier

    ask(...)          samples a step's answers, and returns while the verifier still works
    asked.verdicts()  waits for it, and shares what each process found

Where `rollout.refill_rounds` allows it, `ask` draws again for groups that tell the verifiable
reward nothing; then the verdicts are there when it returns.

Letters: Q questions a step, M samples a question, B = Q * M answers.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import judged
from sar_jax.model.parameters import Params
from sar_jax.parallel import multihost
from sar_jax.rollout import sampler
from sar_jax.rollout import texts as texts_lib
from sar_jax.structs import Rollouts
from sar_jax.text.answers.verifier import ErrorShare, Handle, Outcome, Verifier
from sar_jax.text.prompts import Prompter, Question
from sar_jax.training.critic import Values
from sar_jax.training.score import Score

Draw = Callable[[], Sequence[Question]]  # this process's next questions


class Tools(NamedTuple):
    """What a step needs besides its own inputs.

    errors             stops the run when too many answers cannot be verified
    values             the critic's; None without one
    rewards            of one's own
    meter              metrics of what a judge took since the last step
    scoring_weights    masters -> what `score` takes
    decoding_weights   masters -> what `sample` takes
    fetch_reference    brings the reference to the devices
    """

    config: config_lib.TrainConfig
    prompter: Prompter
    sample: sampler.Sample
    verifier: Verifier
    errors: ErrorShare
    mesh: Mesh
    score: Score
    values: Values | None
    scoring_weights: Callable[[Params], Params]
    decoding_weights: Callable[[Params], Params]
    fetch_reference: Callable[[Params], Params]
    rewards: Sequence[Any] = ()  # of `own.rewards.OwnReward`, which imports this file
    meter: Callable[[], dict[str, float]] = dict


class Verdicts(NamedTuple):
    """What the verifier says of each of B answers, and their texts."""

    outcomes: list[Outcome]
    texts: list[str]


class Lengths(NamedTuple):
    """Tokens of everything that was sampled: of the questions, and of M answers to each."""

    prompts: Int[np.ndarray, " Q"]
    answers: Int[np.ndarray, " B"]


class Asked(NamedTuple):
    """A step's questions and answers.

    rows       Q questions
    rollouts   their B answers
    sampled    all that was sampled for them, groups that were left over included
    metrics    of the decoder
    verdicts   waits for the verifier. Raises `UserError`, on every process, where too many answers
               could not be judged
    """

    rows: list[Question]
    rollouts: Rollouts
    sampled: Lengths
    metrics: dict[str, float]
    verdicts: Callable[[], Verdicts]


def ask(tools: Tools, draw: Draw, weights: Params, key: jax.Array) -> Asked:
    """M answers to each of Q questions.

    draw      gives this process's next questions
    weights   for decoding
    key       the step's
    """
    if tools.config.rollout.refill_rounds:
        return _refilled(tools, draw, weights, key)
    pending = _start(tools, draw(), weights, key)
    return Asked(
        pending.rows,
        pending.rollouts,
        _lengths([pending]),
        tools.sample.stats.metrics,
        functools.partial(_settle, tools, pending),
    )


class _Pending(NamedTuple):
    """Answers that are being verified; own: which of them this process verifies."""

    rows: list[Question]
    rollouts: Rollouts
    own: list[int]
    own_texts: list[str]
    verdicts: Handle


def _start(tools: Tools, own_rows: Sequence[Question], weights: Params, key: jax.Array) -> _Pending:
    """Samples M answers to each question, and submits this process's share of them.

    own_rows   its share of the questions
    """
    gathered = multihost.gather([row.to_json() for row in own_rows])
    shares = [[Question.from_json(row) for row in share] for share in gathered]
    # process i's j-th question is the step's j * processes + i-th
    rows = [row for turn in zip(*shares) for row in turn]
    rollouts = _sample(tools, rows, weights, key)
    M = tools.config.rollout.samples
    own = [b for b in range(len(rows) * M) if b // M % len(shares) == jax.process_index()]
    texts = texts_lib.decode_texts(tools.prompter.tokenizer, rollouts, own)
    prefix = tools.config.prompt.assistant_prefix
    items = [judged.item(rows[b // M], text, prefix) for b, text in zip(own, texts)]
    return _Pending(rows, rollouts, own, texts, tools.verifier.submit(items))


def _sample(tools: Tools, rows: Sequence[Question], params: Params, key: jax.Array) -> Rollouts:
    """All answers.

    What one draws depends on its question's number, not on the others that are decoded with it.
    """
    tokens, lengths = texts_lib.pad_prompts(
        [r.prompt for r in rows], tools.config.data.max_prompt_tokens, len(rows)
    )
    return tools.sample(params, tokens, lengths, np.arange(len(rows), dtype=np.int32), key)


def _settle(tools: Tools, pending: _Pending) -> Verdicts:
    """Waits for the verdicts, also those of other processes."""
    outcomes, problem = pending.verdicts.result(), None
    try:
        tools.errors.add(pending.verdicts)
    except UserError as error:
        problem = str(error)
    count = len(pending.rollouts.lengths)
    everyone: list[Any] = [None] * count
    texts, problems = [""] * count, []
    found = [outcome.value for outcome in outcomes]
    shares = multihost.gather([pending.own, found, pending.own_texts, problem])
    for own, found, own_texts, their_problem in shares:
        for b, outcome, text in zip(own, found, own_texts):
            everyone[b], texts[b] = Outcome(outcome), text
        problems += [their_problem] if their_problem else []
    if problems:
        raise UserError(problems[0])
    return Verdicts(everyone, texts)


class _Group(NamedTuple):
    """One question with its answers and their verdicts."""

    row: Question
    rollouts: Rollouts
    verdicts: Verdicts

    def tells(self) -> bool:
        """Are its answers neither all right nor all wrong?"""
        right = sum(outcome is Outcome.RIGHT for outcome in self.verdicts.outcomes)
        return 0 < right < len(self.verdicts.outcomes)


def _refilled(tools: Tools, draw: Draw, weights: Params, key: jax.Array) -> Asked:
    """Q groups from at most 1 + `rollout.refill_rounds` rounds, telling ones first.

    Groups that are left over are not trained on; where even the last round does not bring enough,
    groups without a verifiable signal fill the step, so that its shape stays.
    """
    rollout = tools.config.rollout
    telling: list[_Group] = []
    rest: list[_Group] = []
    rounds: list[_Pending] = []
    stats: list[sampler.Stats] = []
    for number in range(1 + rollout.refill_rounds):
        own_key = jax.random.fold_in(key, number) if number else key
        rounds.append(_start(tools, draw(), weights, own_key))
        stats.append(tools.sample.stats)
        for group in _groups(rounds[-1], _settle(tools, rounds[-1]), rollout.samples):
            (telling if group.tells() else rest).append(group)
        if len(telling) >= rollout.questions:
            break
    metrics = {
        **sampler.Stats(*map(sum, zip(*stats))).metrics,
        "rollout/rounds": float(len(rounds)),
        "rollout/frac_without_signal": len(rest) / (len(rest) + len(telling)),
    }
    kept = (telling + rest)[: rollout.questions]
    verdicts = Verdicts(
        [outcome for g in kept for outcome in g.verdicts.outcomes],
        [text for g in kept for text in g.verdicts.texts],
    )
    rollouts = Rollouts(*(np.concatenate(x) for x in zip(*(g.rollouts for g in kept))))
    return Asked([g.row for g in kept], rollouts, _lengths(rounds), metrics, lambda: verdicts)


def _groups(pending: _Pending, verdicts: Verdicts, samples: int) -> list[_Group]:
    found = []
    for q, row in enumerate(pending.rows):
        part = slice(q * samples, (q + 1) * samples)
        rollouts = Rollouts(*(x[part] for x in pending.rollouts))
        own = Verdicts(verdicts.outcomes[part], verdicts.texts[part])
        found.append(_Group(row, rollouts, own))
    return found


def _lengths(rounds: Sequence[_Pending]) -> Lengths:
    prompts = [len(row.prompt) for pending in rounds for row in pending.rows]
    return Lengths(np.array(prompts), np.concatenate([p.rollouts.lengths for p in rounds]))
