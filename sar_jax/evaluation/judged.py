"""Questions -> judged answers of a policy, batch by batch.

    rows --pad--> [batch, width] --sample--> token ids --decode--> texts --verify--> `Answer`s

Training's evaluation and `sar_jax.evaluate` share this. While a batch is decoded, the answers of
the one before it are judged. Several processes: each turns its share of a batch into text and
judges it; what they found is gathered.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from sar_jax.evaluation import measures
from sar_jax.evaluation.records import Answer, Result
from sar_jax.model.parameters import Params
from sar_jax.parallel import multihost
from sar_jax.rollout import texts as texts_lib
from sar_jax.rollout.sampler import Sample
from sar_jax.structs import Rollouts
from sar_jax.text.answers import judge
from sar_jax.text.answers.verifier import Handle, Item, Outcome, Verifier
from sar_jax.text.prompts import Question


class Decoder(NamedTuple):
    """How questions are answered.

    samples   answers a question, as `sample` gives them
    batch     questions between two judgements
    width     of the padded prompts, in tokens
    prefix    of the prompt, with which each answer begins: it may open a thought
    """

    sample: Sample
    samples: int
    batch: int
    width: int
    tokenizer: PreTrainedTokenizerBase
    verifier: Verifier
    prefix: str = ""


def item(row: Question, text: str, prefix: str = "") -> Item:
    """An answer to a row's question, as the verifier takes it. prefix: see `Decoder`."""
    example = row.example
    return Item(prefix + text, example.answer, example.kind, example.choices, example.row())


_ROUND = 64  # fewer questions than a batch are padded to a multiple of this


class _Unjudged(NamedTuple):
    """An answer without its verdict. number: of its question."""

    row: Question
    number: int
    sample: int
    text: str
    length: int
    clipped: bool

    def judged(self, outcome: Outcome, prefix: str) -> Answer:
        example = self.row.example
        return Answer(
            number=self.number,
            sample=self.sample,
            id=example.id,
            question=example.question,
            truth=example.answer,
            answer=self.text,
            length=self.length,
            clipped=self.clipped,
            final=_final(prefix + self.text, self.row),
            correct=outcome is Outcome.RIGHT,
            verdict=outcome.value,
        )


def answers(
    decoder: Decoder,
    params: Params,
    rows: Sequence[Question],
    numbers: Sequence[int],
    key: jax.Array,
) -> Iterator[list[Answer]]:
    """The answers to `rows[i]` for i in `numbers`, a batch at a time.

    What a question draws depends on its number and `key` alone, not on the batch that it is in.
    """
    waiting = None
    batch = min(decoder.batch, -(-len(numbers) // _ROUND) * _ROUND)
    for start in range(0, len(numbers), batch):
        part = numbers[start : start + batch]
        tokens, lengths = texts_lib.pad_prompts(
            [rows[i].prompt for i in part], decoder.width, batch
        )
        padded = np.zeros(batch, np.int32)
        padded[: len(part)] = part
        # the last batch is judged meanwhile
        rollouts = decoder.sample(params, tokens, lengths, padded, key)
        if waiting:
            yield _judged(*waiting, decoder.prefix)
        found = _own(decoder, rows, part, rollouts)
        items = [item(answer.row, answer.text, decoder.prefix) for answer in found]
        waiting = found, decoder.verifier.submit(items)
    if waiting:
        yield _judged(*waiting, decoder.prefix)


def _own(
    decoder: Decoder, rows: Sequence[Question], part: Sequence[int], rollouts: Rollouts
) -> list[_Unjudged]:
    """This process's share of a batch. part: the numbers of its questions."""
    own = range(jax.process_index(), len(part) * decoder.samples, jax.process_count())
    found = []
    for b, text in zip(own, texts_lib.decode_texts(decoder.tokenizer, rollouts, own)):
        number, sample = part[b // decoder.samples], b % decoder.samples
        length, clipped = int(rollouts.lengths[b]), not bool(rollouts.stopped[b])
        found.append(_Unjudged(rows[number], number, sample, text, length, clipped))
    return found


def _final(text: str, row: Question) -> str | None:
    try:
        return judge.final(text, row.example.kind, row.example.choices)
    except Exception:  # of this answer alone, as the verifier has it
        return None


def _judged(found: list[_Unjudged], handle: Handle, prefix: str) -> list[Answer]:
    """With their verdicts, those of the other processes among them; waits for all."""
    own = [answer.judged(outcome, prefix) for answer, outcome in zip(found, handle.result())]
    gathered = multihost.gather([dataclasses.asdict(answer) for answer in own])
    shares = [[Answer(**answer) for answer in share] for share in gathered]
    return [shares[b % len(shares)][b // len(shares)] for b in range(sum(map(len, shares)))]


def greedy_evaluation(
    decoder: Decoder,
    params: Params,
    rows: Sequence[Question],
    seen: Callable[[int], object] = lambda done: None,
) -> tuple[Result, list[Answer]]:
    """One answer to each question, by a greedy decoder of one sample: means, and the answers.

    seen   is told how many have been judged
    """
    key = jax.random.key(0)  # greedy: nothing is drawn
    found: list[Answer] = []
    for part in answers(decoder, params, rows, range(len(rows)), key):
        found += part
        seen(len(found))
    return measures.summarise(found), found
