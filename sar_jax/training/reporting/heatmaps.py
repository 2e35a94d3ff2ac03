"""Some answers of an evaluation with their tokens' values, for the page that shows a run.

    v_j = log P(a_j | q, a_<j) - log P(a_j | a_<j)      nats

by the policy that gave the answers. They are scored on the rows of a training step, so that nothing
is compiled for it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from sar_jax.evaluation.records import Answer
from sar_jax.model.parameters import Params
from sar_jax.text.prompts import Question
from sar_jax.training import grids as grids_lib
from sar_jax.training.grids import Grids
from sar_jax.training.rollouts import Tools


class HeatMap(NamedTuple):
    """An answer's tokens as pieces of text, and v of each."""

    tokens: list[str]
    token_values: list[float]


def heat_maps(
    tools: Tools, params: Params, rows: Sequence[Question], answers: Sequence[Answer]
) -> list[HeatMap]:
    """One for each answer; [] without answers.

    params    the policy's, for scoring
    rows      the questions of the answers, one for one
    answers   are tokenised anew, which may part a text otherwise than it was sampled
    """
    if not answers:
        return []
    ids = [_ids(tools, answer) for answer in answers]
    options, whole = tools.config.packing, range(len(ids))
    asked = grids_lib.pack_one(options, [row.prompt for row in rows], ids, whole)
    alone = grids_lib.pack_one(options, [tools.prompter.standalone] * len(ids), ids, whole)
    pending = grids_lib.start(tools, Grids([asked], [alone]), params, None, None)
    scored = grids_lib.fetch(pending)
    tokens = pieces(tools.prompter.tokenizer, ids)
    return [
        HeatMap(own, (given - apart).tolist())
        for own, given, apart in zip(tokens, scored.logps, scored.alone)
    ]


def pieces(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Sequence[int]]) -> list[list[str]]:
    """The text of each token of each answer."""
    text = {token: tokenizer.decode([token]) for token in {t for own in answers for t in own}}
    return [[text[token] for token in own] for own in answers]


def readable(
    tokenizer: PreTrainedTokenizerBase, records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A step's records with their tokens as text."""
    ids = [np.asarray(record.get("tokens", ())).tolist() for record in records]
    texts = pieces(tokenizer, ids)
    own = [{"tokens": text} if "tokens" in record else {} for record, text in zip(records, texts)]
    return [{**record, **text} for record, text in zip(records, own)]


def records(answers: Sequence[Answer], maps: Sequence[HeatMap]) -> list[dict[str, Any]]:
    """The answers as samples/eval_*.parquet has them; maps: of the first of them."""
    own = [found._asdict() for found in maps]
    own += [dict.fromkeys(HeatMap._fields)] * (len(answers) - len(maps))
    return [dataclasses.asdict(answer) | more for answer, more in zip(answers, own)]


def _ids(tools: Tools, answer: Answer) -> list[int]:
    """What was sampled, up to how its text parts into tokens: an answer that was cut has no end."""
    ids = tools.prompter.answer(answer.answer)
    kept = ids[:-1] if answer.clipped else ids
    room = tools.config.packing.row_tokens - len(tools.prompter.standalone)
    return kept[: min(tools.config.rollout.max_answer_tokens, room)] or ids
