"""A step's answers as signals for the rewards, as metrics, and as records for people.

Pure functions of host arrays: no model, no devices, no files.
Letters: Q questions, M samples a question, B = Q * M answers.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sar_jax import config as config_lib
from sar_jax.rl import copies
from sar_jax.rl.advantages import Credit
from sar_jax.rl.rewards import Reward, Signals
from sar_jax.structs import Rollouts
from sar_jax.text.answers.verifier import Outcome
from sar_jax.text.prompts import Question
from sar_jax.training.grids import Grids, PerAnswer, Scored, filled
from sar_jax.training.rollouts import Verdicts


class Rewarded(NamedTuple):
    """total: the weighted sum; parts: each reward that has a weight, unweighted. All [Q, M]."""

    total: Reward
    parts: Mapping[str, Reward]


def make_signals(
    rows: Sequence[Question],
    rollouts: Rollouts,
    verdicts: Verdicts,
    scored: Scored,
    config: config_lib.TrainConfig,
) -> Signals:
    """What the rewards see of each answer; the standalone mean is NaN where nobody asks for it."""
    B, M = len(rollouts.lengths), config.rollout.samples
    by_question = lambda x: np.asarray(x).reshape(B // M, M)
    alone = _means(scored.alone) if len(scored.alone) else np.full(B, np.nan)
    own, run = None, config.self_aligned.copied_run
    if run and len(scored.alone):
        are_copied = copied(rows, rollouts, run)
        own = _means(list(map(copies.as_standalone, scored.logps, scored.alone, are_copied)))
    return Signals(
        correct=by_question([outcome is Outcome.RIGHT for outcome in verdicts.outcomes]),
        lengths=by_question(rollouts.lengths),
        mean_logp=by_question(_means(scored.logps)),
        mean_logp_alone=by_question(alone),
        max_length=config.rollout.max_answer_tokens,
        mean_logp_own=None if own is None else by_question(own),
    )


def copied(rows: Sequence[Question], rollouts: Rollouts, run: int) -> list[np.ndarray]:
    """Which tokens of each of the B answers are in runs that its prompt has too (`copies`)."""
    M = len(rollouts.lengths) // len(rows)
    answers = enumerate(zip(rollouts.tokens, rollouts.lengths))
    return [copies.copied(rows[b // M].prompt, tokens[:n], run) for b, (tokens, n) in answers]


def _means(values: PerAnswer) -> Float[np.ndarray, " B"]:
    return np.array([x.mean(dtype=np.float64) for x in values])


def reward_metrics(rewarded: Rewarded) -> dict[str, float]:
    """Mean and deviation of the total, and the mean of each reward."""
    total, parts = rewarded
    found = {"reward/mean": float(total.mean()), "reward/std": float(total.std())}
    return found | {f"reward/{name}/mean": float(part.mean()) for name, part in parts.items()}


def answer_metrics(signals: Signals, stopped: np.ndarray) -> dict[str, float]:
    """Accuracy, lengths and perplexities. stopped [B]: False where the limit cut the answer."""
    correct, lengths = signals.correct, signals.lengths
    # a group whose answers are all right or all wrong tells the verifiable reward nothing
    silent = correct.all(axis=1) | ~correct.any(axis=1)
    found = {
        "accuracy": float(correct.mean()),
        # its standard error, questions being what is drawn
        "accuracy_error": float(correct.mean(axis=1).std() / max(len(correct) - 1, 1) ** 0.5),
        "frac_reward_zero_std": float(silent.mean()),
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
        "completions/clipped_ratio": float((~stopped).mean()),
        "perplexity/conditional": float(np.exp(-signals.mean_logp).mean()),
    }
    if not np.isnan(signals.mean_logp_alone).any():
        gap = signals.mean_logp_alone - signals.mean_logp
        found["perplexity/standalone"] = float(np.exp(-signals.mean_logp_alone).mean())
        found["perplexity/ratio"] = float(np.exp(np.minimum(gap, 20)).mean())
    return found


def sampling_metrics(
    rollouts: Rollouts, logps: PerAnswer, are_sampled: bool = False
) -> dict[str, float]:
    """How far the sampler's logprobs are from the scorer's `logps`, in nats a token.

    are_sampled   logps are the sampler's own: there is no difference to measure

    `off_policy` compares what was drawn from, temperature and filters included.
    """
    gap, drawn = (
        np.abs(np.concatenate([own[: len(x)] - x for own, x in zip(sampled, logps)]))
        for sampled in (rollouts.logps, rollouts.sampling_logps)
    )
    found = {"sampling/off_policy": float(drawn.mean())}
    if are_sampled:
        return found
    mean, largest = float(gap.mean()), float(gap.max())
    return {
        "sampling/logp_difference/mean": mean,
        "sampling/logp_difference/max": largest,
        **found,
    }


def metrics(
    rows: Sequence[Question],
    rollouts: Rollouts,
    grids: Grids,
    scored: Scored,
    verdicts: Verdicts,
    signals: Signals,
    rewarded: Rewarded,
) -> dict[str, float]:
    """All metrics of a step's answers (docs/metrics.md), but for those of credit and decoder."""
    echoes = [is_copied.mean() for is_copied in copied(rows, rollouts, copies.RUN)]
    errors = [outcome is Outcome.ERROR for outcome in verdicts.outcomes]
    return {
        **reward_metrics(rewarded),
        **answer_metrics(signals, rollouts.stopped),
        **sampling_metrics(rollouts, scored.logps, scored.are_sampled),
        "completions/question_overlap": float(np.mean(echoes)),
        "entropy": float(np.concatenate(scored.entropy).mean(dtype=np.float64)),
        "verifier/error_share": float(np.mean(errors)),
        "packing/filled": filled(grids),
    }


def records(
    rows: Sequence[Question],
    rollouts: Rollouts,
    verdicts: Verdicts,
    scored: Scored,
    signals: Signals,
    rewarded: Rewarded,
    credit: Credit,
) -> list[dict[str, Any]]:
    """One dict an answer, as samples/*.parquet has them but for the tokens, which are ids here.

    Where the standalone answers are scored it has the value v of each token, in nats.
    """
    M = signals.correct.shape[1]
    found = []
    for b, text in enumerate(verdicts.texts):
        example = rows[b // M].example
        record = {
            "question": example.question,
            "truth": example.answer,
            "extra": json.dumps(example.extra) if example.extra else "",
            "answer": text,
            "correct": bool(signals.correct.flat[b]),
            "verdict": verdicts.outcomes[b].value,
            "length": int(rollouts.lengths[b]),
            "clipped": not bool(rollouts.stopped[b]),
            "reward": float(rewarded.total.flat[b]),
            "advantage": float(np.mean(credit.advantages[b])),
            "ppl_conditional": float(np.exp(-signals.mean_logp.flat[b])),
            "ppl_standalone": float(np.exp(-signals.mean_logp_alone.flat[b])),
        }
        if len(scored.alone):
            values = np.asarray(scored.logps[b]) - np.asarray(scored.alone[b])
            record["tokens"] = rollouts.tokens[b, : len(values)]
            record["token_values"] = np.round(values, 3).astype(np.float32).tolist()
        parts = rewarded.parts.items()
        found.append(record | {f"reward/{name}": float(part.flat[b]) for name, part in parts})
    return found
