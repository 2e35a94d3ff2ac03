"""Rewards of one's own, `rewards.custom`: functions of a step's answers (docs/plugins.md).

    def no_wait(answers, word="wait"):                      # no_wait=0.5 in the config
        return [0.0 if word in answer.text.lower() else 1.0 for answer in answers]

    def shortest(group):                                    # once for each question
        least = min(answer.length for answer in group)
        return [float(answer.length == least) for answer in group]

A function whose first parameter is named `group` gets the answers to one question at a time; any
other gets all answers of a step, question by question. Several processes: each rewards the answers
to its share of the questions, and all get what the others found.
"""

import inspect
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.parallel import multihost
from sar_jax.rl.rewards import Reward, Signals
from sar_jax.structs import Rollouts
from sar_jax.text import plugins
from sar_jax.text.plugins import Plugin, Spec
from sar_jax.text.prompts import Question
from sar_jax.training.grids import Scored
from sar_jax.training.rollouts import Verdicts

WHERE = "config.rewards.custom"
_FORM = "give each as FILE.py:NAME=WEIGHT or PACKAGE.MODULE:NAME=WEIGHT, separated by commas"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a reward of one's own sees it; it must not be changed.

    question          as the row has it, without instruction or template
    truth             the row's answer
    extra             the other columns of the row
    text              of the answer, and its token ids
    length            tokens, the one that ends it included
    finished          False where the limit cut it off
    correct           does the verifier say so? verdict: "right", "wrong" or "error"
    mean_logp         mean logprob of its tokens given the question, in nats: -ln ppl(a|q)
    mean_logp_alone   the same in the standalone context: -ln ppl(a)
    values            v of each token, log P(a_j | q, a_<j) - log P(a_j | a_<j), in nats
    """

    question: str
    truth: str
    extra: Mapping[str, Any]
    text: str
    tokens: Sequence[int]
    length: int
    finished: bool
    correct: bool
    verdict: str
    mean_logp: float
    mean_logp_alone: float
    values: Float[np.ndarray, " n"]


class Weighted(NamedTuple):
    """What the config says of one reward."""

    spec: Spec
    weight: float


def parse(text: str) -> list[Weighted]:
    """The parts of `rewards.custom`. Raises `UserError` for one that cannot be read."""
    found: list[Weighted] = []
    for part in plugins.split(text):
        named, equals, number = part.rpartition("=")
        try:
            weight = float(number)
            if not equals or not math.isfinite(weight):
                raise ValueError
        except ValueError:
            raise UserError(f"{WHERE}: {part!r:.100} has no weight: {_FORM}") from None
        found.append(Weighted(plugins.parse(named, WHERE), weight))
    names = [own.spec.name for own in found]
    for name in names:
        if names.count(name) > 1 or hasattr(config_lib.Rewards(), name):
            other = "two of them are" if names.count(name) > 1 else "a reward that comes along is"
            raise UserError(
                f"{WHERE}: {other} named {name!r}, and metrics need a name for each: rename yours, "
                "or import it under another name in a file of yours"
            )
    return found


def weights(text: str) -> dict[str, float]:
    """The weights of `rewards.custom` by name."""
    return {own.spec.name: own.weight for own in parse(text)}


class OwnReward:
    """One function. name: of its metrics; by_group: is it called for each question?"""

    def __init__(self, plugin: Plugin, seconds: float):
        self.plugin, self.seconds = plugins.made(plugin, WHERE, seconds), seconds
        self.name, self.by_group = plugin.spec.name, False
        plugin = self.plugin
        try:
            signature = inspect.signature(plugin.value)
        except (TypeError, ValueError):  # of a function that Python cannot look into
            return
        try:
            signature.bind([], **plugin.spec.params)
        except TypeError as error:
            raise UserError(
                f"{WHERE}: {plugin.spec.text} cannot be called with the answers and its parameters "
                f"({error})"
            ) from None
        self.by_group = next(iter(signature.parameters)) == "group"

    def of(self, groups: Sequence[Sequence[Answer]]) -> list[list[float]]:
        """A number for each answer. Raises `UserError` where it is none, and for any error."""
        if not groups:
            return []
        if self.by_group:
            found = [self._numbers(group) for group in groups]
        else:
            flat = iter(self._numbers([answer for group in groups for answer in group]))
            found = [[next(flat) for _ in group] for group in groups]
        return found

    def _numbers(self, answers: Sequence[Answer]) -> list[float]:
        """Of one call."""
        found = self.plugin.call((list(answers),), self.seconds, WHERE)
        shown = f"{WHERE}: {self.plugin.spec.text}"
        try:
            values = [_number(value) for value in _flat(found)]
        except (TypeError, ValueError, OverflowError):
            said = " ".join(repr(found).split())
            raise UserError(
                f"{shown} returned {said:.80}: it must return a list with one number for each "
                "answer"
            ) from None
        if len(values) != len(answers):
            raise UserError(f"{shown} returned {len(values)} numbers for {len(answers)} answers")
        for value, answer in zip(values, answers):
            if not math.isfinite(value):
                raise UserError(f"{shown} returned {value} for the answer {answer.text[-60:]!r}")
        return values


def _flat(found: Any) -> Any:
    """Numbers one after the other; arrays and tensors may have an axis of one more."""
    if hasattr(found, "detach"):  # a tensor of torch
        found = found.detach().float().cpu().numpy()
    return np.asarray(found).reshape(-1) if hasattr(found, "reshape") else found


def _number(value: Any) -> float:
    """A number of Python, numpy or JAX; not None, which a forgotten return gives, and no text."""
    if isinstance(value, (str, bytes)) or value is None:
        raise TypeError
    return float(value)


def load(config: config_lib.TrainConfig) -> list[OwnReward]:
    """The functions that the config names and gives a weight. Raises `UserError`."""
    seconds = config.rewards.custom_timeout
    return [
        OwnReward(plugins.load(own.spec, WHERE), seconds)
        for own in parse(config.rewards.custom)
        if own.weight
    ]


def rehearse(rewards: Sequence[OwnReward], rows: Sequence[Question]) -> None:
    """Tries each on two made-up answers to the first question, and says how long that took.

    Raises `UserError`.
    """
    for reward in rewards:
        start = time.perf_counter()
        reward.of([_made_up(rows[0])])
        seconds = time.perf_counter() - start
        name = reward.plugin.spec.text
        print(f"reward {name}: 2 made-up answers took {1000 * seconds:.1f} ms", flush=True)


def _made_up(row: Question) -> list[Answer]:
    """A right answer, and a wrong one that was cut off."""
    example = row.example
    made = []
    for text, is_right in ((f"The answer is {example.answer}.", True), ("Wait, I", False)):
        values = np.array([0.5, -0.25, 1.0, 0.0] if is_right else [0.125, 0.0])
        made.append(
            Answer(
                question=example.question,
                truth=example.answer,
                extra=dict(example.extra),
                text=text,
                tokens=list(range(len(values))),
                length=len(values),
                finished=is_right,
                correct=is_right,
                verdict="right" if is_right else "wrong",
                mean_logp=-0.5,
                mean_logp_alone=float(-0.5 - values.mean()),
                values=values,
            )
        )
    return made


def groups(
    rows: Sequence[Question],
    rollouts: Rollouts,
    verdicts: Verdicts,
    scored: Scored,
    signals: Signals,
    which: Sequence[int],
) -> list[list[Answer]]:
    """The answers to some of the questions. which: their numbers."""
    M = signals.correct.shape[1]
    return [
        [_answer(rows[q], q * M + m, rollouts, verdicts, scored, signals) for m in range(M)]
        for q in which
    ]


def _answer(
    row: Question,
    b: int,
    rollouts: Rollouts,
    verdicts: Verdicts,
    scored: Scored,
    signals: Signals,
) -> Answer:
    """b: the answer's number."""
    length = int(rollouts.lengths[b])
    return Answer(
        question=row.example.question,
        truth=row.example.answer,
        extra=dict(row.example.extra),
        text=verdicts.texts[b],
        tokens=rollouts.tokens[b, :length].tolist(),
        length=length,
        finished=bool(rollouts.stopped[b]),
        correct=bool(signals.correct.flat[b]),
        verdict=verdicts.outcomes[b].value,
        mean_logp=float(signals.mean_logp.flat[b]),
        mean_logp_alone=float(signals.mean_logp_alone.flat[b]),
        values=np.asarray(scored.logps[b], np.float64) - np.asarray(scored.alone[b], np.float64),
    )


def values(
    rewards: Sequence[OwnReward],
    rows: Sequence[Question],
    rollouts: Rollouts,
    verdicts: Verdicts,
    scored: Scored,
    signals: Signals,
) -> dict[str, Reward]:
    """Each reward of all answers, [Q, M], by name. Raises `UserError`, on every process."""
    if not rewards:
        return {}
    shares = jax.process_count()
    own = range(jax.process_index(), len(rows), shares)
    found: dict[str, list[list[float]]] = {}
    problem = None
    try:
        mine = groups(rows, rollouts, verdicts, scored, signals, own)
        found = {reward.name: reward.of(mine) for reward in rewards}
    except UserError as error:
        problem = str(error)
    gathered = multihost.gather([found, problem])
    for _, problem in gathered:
        if problem:
            raise UserError(problem)
    by_question = lambda name: [
        gathered[q % shares][0][name][q // shares] for q in range(len(rows))
    ]
    return {reward.name: np.array(by_question(reward.name), np.float64) for reward in rewards}
