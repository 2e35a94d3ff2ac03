"""Given answers scored token by token, with the question and without it.

Goes through the same `score` as training. Pairs are packed into rows of a few widths, powers of two
times 128 tokens: a long answer costs its own row, not the width of all others.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from sar_jax import config as config_lib
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig, Params
from sar_jax.parallel import sharding
from sar_jax.rl import copies, packing, rewards
from sar_jax.text import prompts
from sar_jax.training import score

_BATCH_ROWS = 4  # rows of a call, for each device
_NARROWEST = 128  # tokens


class Pairs(NamedTuple):
    """Contexts and the answers after them, as token ids, one for one."""

    contexts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(c) + len(a) for c, a in zip(*self)], np.int64)


def explain(
    rows: Sequence[Mapping[str, Any]],
    params: Params,
    cfg: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    config: config_lib.TrainConfig,
    day: datetime.date | None = None,
    seen: Callable[[int], Any] = lambda tokens: None,
) -> list[dict[str, Any]]:
    """The rows with their scores, which `sar_jax.explain` lists.

    rows   dicts with question and answer; an answer is tokenised here, and ended as the model would
           end it
    day    that a template is told which asks for the date; by default today's
    seen   is told of tokens that have been scored
    """
    prompter = prompts.Prompter(tokenizer, config.prompt, vocab_size=cfg.vocab_size, day=day)
    answers = prompter.answers([row["answer"] for row in rows])
    asked = [{name: value for name, value in row.items() if name != "answer"} for row in rows]
    contexts = prompter.prompts([row["question"] for row in asked], asked)
    pairs = Pairs(
        [*contexts, *[prompter.standalone] * len(rows)],
        [*answers, *answers],
    )
    logps = token_logps(params, cfg, config, pairs, seen)
    given, alone = logps[: len(rows)], logps[len(rows) :]
    are_copied = [copies.copied(c, a) for c, a in zip(contexts, answers)]
    own = [copies.as_standalone(*parts) for parts in zip(given, alone, are_copied)]
    column = lambda values: np.array([[x.mean(dtype=np.float64)] for x in values])
    lengths = np.array([[len(a)] for a in answers])
    signals = rewards.Signals(
        correct=np.zeros_like(lengths, bool),
        lengths=lengths,
        mean_logp=column(given),
        mean_logp_alone=column(alone),
        max_length=int(lengths.max()),
        mean_logp_own=column(own),
    )
    reward = rewards.self_aligned(signals)
    without_copies = rewards.self_aligned(rewards.without_copies(signals))
    floats = lambda values: [float(v) for v in values]
    return [
        {
            **row,
            "ppl_conditional": float(np.exp(-signals.mean_logp[i, 0])),
            "ppl_standalone": float(np.exp(-signals.mean_logp_alone[i, 0])),
            "self_aligned": float(reward[i, 0]),
            "self_aligned_without_copies": float(without_copies[i, 0]),
            "tokens": [tokenizer.decode([t]) for t in answers[i]],
            "token_values": floats(given[i] - alone[i]),
            "token_logps": floats(given[i]),
            "token_logps_standalone": floats(alone[i]),
            "token_copied": are_copied[i].tolist(),
        }
        for i, row in enumerate(rows)
    ]


def token_logps(
    params: Params,
    cfg: ModelConfig,
    config: config_lib.TrainConfig,
    pairs: Pairs,
    seen: Callable[[int], Any] = lambda tokens: None,
) -> list[np.ndarray]:
    """The logprobs of each answer's tokens after its context: arrays of the answers' lengths."""
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    rows = _BATCH_ROWS * jax.device_count()
    scorer = score.make_score(Network.of(config.model, cfg, mesh), config.packing.logprob_chunk)
    found: dict[int, np.ndarray] = {}
    with jax.set_mesh(mesh):
        for width, members in widths(pairs.lengths, rows).items():
            packed, layout = packing.pack(
                [pairs.contexts[i] for i in members],
                [pairs.answers[i] for i in members],
                width,
                rows,
            )
            parts = []
            for part in packing.microbatches(packed, rows):
                placed = sharding.place(part, sharding.by_rows(mesh))
                parts.append(jax.device_get(scorer(params, placed).logps))
                seen(int((part.segment_ids > 0).sum()))
            found |= zip(members, packing.from_grid(np.concatenate(parts), layout))
    return [found[i] for i in range(len(pairs.answers))]


def widths(lengths: np.ndarray, rows: int) -> dict[int, list[int]]:
    """Which sequences are packed into rows of which width.

    lengths   of the sequences, in tokens
    rows      of a call: where the sequences of a width fill less than a call, they go with those of
              the next one, which spares a compilation
    """
    found: dict[int, list[int]] = {}
    left, longest, width = (
        np.argsort(lengths, kind="stable").tolist(),
        int(lengths.max()),
        _NARROWEST,
    )
    while width < longest:
        fit = [i for i in left if lengths[i] <= width]
        if lengths[fit].sum() >= rows * width:
            found[width] = fit
            left = left[len(fit) :]  # which are sorted
        width *= 2
    found[-(-longest // _NARROWEST) * _NARROWEST] = left
    return found
