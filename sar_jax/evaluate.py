"""Greedy evaluation: accuracy, answer lengths and AES of a policy on a list of questions."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from sar_jax import sharding
from sar_jax.data import Row
from sar_jax.structs import Rollouts
from sar_jax.verifier import Item, Outcome, Verifier

AES_GAMMA = 5.0


@dataclasses.dataclass(frozen=True)
class Result:
    """accuracy: share of right answers; length: mean tokens, EOS included, over all, over right and over not cut off
    ones; clipped: share cut off by the limit."""
    accuracy: float
    length: float
    length_correct: float | None     # None: no answer is right
    length_unclipped: float | None   # None: every answer was cut off
    clipped: float
    questions: int
    errors: float                    # share of answers that the verifier could not judge; they count as wrong


def aes(result: Result, reference: Result) -> float:
    """Accuracy-efficiency score: relative shortening + 5 * relative gain in accuracy over `reference`."""
    shorter = (reference.length - result.length) / reference.length
    gain = (result.accuracy - reference.accuracy) / reference.accuracy if reference.accuracy else float("nan")
    return shorter + AES_GAMMA * gain


def pad_prompts(prompts: Sequence[Sequence[int]], width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded ids [count, width] and lengths [count]; missing questions have length 0."""
    tokens, lengths = np.zeros((count, width), np.int32), np.zeros(count, np.int32)
    for i, prompt in enumerate(prompts):
        tokens[i, :len(prompt)], lengths[i] = prompt, len(prompt)
    return tokens, lengths


def decode_texts(tokenizer: PreTrainedTokenizerBase, rollouts: Rollouts, which: Sequence[int] | None = None) -> list[str]:
    """The answers (those of `which`, or all) as text, special tokens left out."""
    which = range(len(rollouts.lengths)) if which is None else which
    return tokenizer.batch_decode([rollouts.tokens[b, :rollouts.lengths[b]] for b in which], skip_special_tokens=True)


def item(row: Row, text: str) -> Item:
    """An answer to a row's question, as the verifier takes it."""
    return Item(text, row.example.answer, row.example.kind, row.example.choices)


def greedy_evaluation(sample: Callable[..., Rollouts], params: Any, rows: Sequence[Row], batch: int, width: int,
                      tokenizer: PreTrainedTokenizerBase, mesh: Mesh, verifier: Verifier,
                      ) -> tuple[Result, list[dict[str, Any]]]:
    """Answers each question once with a greedy, one-sample `sample`, `batch` at a time. Also the answers themselves."""
    found, verdicts = [], []
    for start in range(0, len(rows), batch):
        part = rows[start:start + batch]
        tokens, lengths = pad_prompts([r.prompt for r in part], width, batch)
        inputs = sharding.place((tokens, lengths, np.arange(batch, dtype=np.int32)), sharding.rows(mesh))
        rollouts = jax.device_get(sample(params, *inputs, jax.random.key(0)))
        texts = decode_texts(tokenizer, rollouts)[:len(part)]
        verdicts.append(verifier.submit([item(row, text) for row, text in zip(part, texts)]))
        for i, row in enumerate(part):
            found.append({"id": row.example.id, "question": row.example.question, "truth": row.example.answer,
                          "answer": texts[i], "length": int(rollouts.lengths[i]),
                          "clipped": not bool(rollouts.stopped[i])})
    for answer, outcome in zip(found, (o for handle in verdicts for o in handle.result())):
        answer |= {"correct": outcome is Outcome.RIGHT, "verdict": outcome.value}
    mean = lambda lengths: float(np.mean(lengths)) if lengths else None
    return Result(
        accuracy=float(np.mean([f["correct"] for f in found])), length=float(np.mean([f["length"] for f in found])),
        length_correct=mean([f["length"] for f in found if f["correct"]]),
        length_unclipped=mean([f["length"] for f in found if not f["clipped"]]),
        clipped=float(np.mean([f["clipped"] for f in found])), questions=len(found),
        errors=float(np.mean([f["verdict"] == Outcome.ERROR.value for f in found]))), found
