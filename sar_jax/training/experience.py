"""One step's data: questions -> sampled answers -> scores -> rewards -> advantages on packed rows.

    rows [Q] --sample--> rollouts [B = Q * M]
             --verify--> right or wrong, by worker processes while the device goes on
             --pack----> rows with the question, mini-batch by mini-batch, then rows in the standalone context
             --score---> policy on all of them, reference and critic on those with the question
             --rewards-> signals [Q, M] -> rewards [Q, M] -> each token's advantage -> back on the packed grid
                         -> micro-batches of `Batch`, and of `ValueBatch` for the critic

The rows with the question serve scoring and the update alike. Answers are token ids throughout: the
standalone pass reuses the very ids that were sampled.

Several processes: each brings its share of the questions, and turns their answers into text and
verifies them; what it found is gathered, so that host arrays are equal on every process."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sar_jax.parallel import multihost, sharding
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import packing, rewards
from sar_jax.structs import Batch, Layout, Packed, Rollouts, Scores, ValueBatch
from sar_jax.text.answers.verifier import Outcome
from sar_jax.text.prompts import Question
from sar_jax.training import rollouts as rollouts_lib
from sar_jax.training.rollouts import Tools


class Minibatch(NamedTuple):
    """What one update consumes: micro-batches (host arrays), how many answers and answer tokens
    they hold; values: the critic's micro-batches."""

    microbatches: list[Batch]
    answers: int
    tokens: int
    values: list[ValueBatch]


class Experience(NamedTuple):
    """metrics: of this step's answers; samples: one dict an answer, for people."""

    minibatches: list[Minibatch]
    metrics: dict[str, float]
    samples: list[dict[str, Any]]


def collect(
    tools: Tools,
    draw: rollouts_lib.Draw,
    masters: Any,
    reference: Any | None,
    key: jax.Array,
    critic: Any | None = None,
    alpha: float | None = None,
) -> Experience:
    """Answers Q questions M times each, scores and rewards the answers. `draw` gives this process's
    next questions; `masters` are what learns of the policy, in float32; `reference` is None without
    a KL term, `critic` (its float32 parameters) without one. `alpha`: this step's weight of the
    self-aligned reward; None = the config's."""
    config, clock = tools.config, _Clock()
    Q, M, weights = config.rollout.questions, config.rollout.samples, tools.hand_over(masters)
    if config.rollout.refill_rounds:
        verified, refill = rollouts_lib.refilled(tools, draw, weights, key)
        rows, rollouts = verified.rows, verified.rollouts
    else:
        pending_verdicts, refill = rollouts_lib.start(tools, draw(), weights, key), {}
        rows, rollouts = pending_verdicts.rows, pending_verdicts.rollouts
    del weights  # before the score's copy is made
    clock.lap("time/rollout")
    refill = tools.sample.stats.metrics | refill
    grids = _pack(tools, rows, rollouts)
    pending, pending_reference, pending_values = _score(
        tools, grids, tools.cast(masters), reference, critic
    )
    clock.lap("time/score")
    if not config.rollout.refill_rounds:
        verified = rollouts_lib.settle(tools, pending_verdicts)
    outcomes, texts = verified.outcomes, verified.texts
    correct = np.array([outcome is Outcome.RIGHT for outcome in outcomes])
    clock.lap("time/verify")
    scores = [_join(pending[grid]) for grid in range(len(grids))]
    ref_logps = [_join(p).logps for p in pending_reference]
    clock.lap("time/score")
    values = [np.concatenate(multihost.fetch(p)) for p in pending_values]
    if values:
        clock.lap("time/value")

    logps, entropy = _per_answer(scores, grids, "logps"), _per_answer(scores, grids, "entropy")
    mean_logp = np.array([x.mean(dtype=np.float64) for x in logps["question"]])
    alone = logps.get("alone")
    mean_alone = (
        np.array([x.mean(dtype=np.float64) for x in alone]) if alone else np.full(Q * M, np.nan)
    )
    signals = rewards.Signals(
        *(x.reshape(Q, M) for x in (correct, rollouts.lengths, mean_logp, mean_alone)),
        config.rollout.max_answer_tokens,
    )
    weights = vars(config.rewards) | ({} if alpha is None else {"self_aligned": alpha})
    total, parts = rewards.total(
        weights, signals, rewards.variant(config.self_aligned.form, config.self_aligned.cap)
    )
    charges = advantages_lib.penalties(
        config.advantage.kl_penalty, logps["question"], _on_answers(ref_logps, grids)
    )
    found = advantages_lib.assign(
        config.advantage,
        {name: weights[name] * part for name, part in parts.items()},
        charges,
        _on_answers(values, grids),
        signals.correct,
    )
    trained = rollouts.stopped if config.loss.mask_clipped else np.ones(Q * M, bool)
    minibatches = _minibatches(tools, grids, scores, ref_logps, found, values, trained, rollouts)
    gap = np.abs(
        np.concatenate(
            [
                r[:n] - l
                for r, n, l in zip(rollouts.policy_logps, rollouts.lengths, logps["question"])
            ]
        )
    )
    drawn = np.abs(
        np.concatenate(
            [r[:n] - l for r, n, l in zip(rollouts.logps, rollouts.lengths, logps["question"])]
        )
    )
    metrics = {
        **_reward_metrics(total, parts),
        **found.metrics,
        **_answer_metrics(rows, rollouts, signals),
        "entropy": float(np.concatenate(entropy["question"]).mean(dtype=np.float64)),
        "sampling/logp_difference/mean": float(gap.mean()),
        "sampling/logp_difference/max": float(gap.max()),
        "sampling/off_policy": float(drawn.mean()),
        "verifier/error_share": float(np.mean([outcome is Outcome.ERROR for outcome in outcomes])),
        "packing/filled": float(np.mean([(g.packed.segment_ids > 0).mean() for g in grids])),
        **refill,
        **clock.laps,
    }
    samples = [
        {
            "question": rows[b // M].example.question,
            "truth": rows[b // M].example.answer,
            "answer": texts[b],
            "correct": bool(correct[b]),
            "verdict": outcomes[b].value,
            "length": int(rollouts.lengths[b]),
            "clipped": not bool(rollouts.stopped[b]),
            "reward": float(total.flat[b]),
            "advantage": float(np.mean(found.advantages[b])),
            "ppl_conditional": float(np.exp(-mean_logp[b])),
            "ppl_standalone": float(np.exp(-mean_alone[b])),
            **{f"reward/{name}": float(values.flat[b]) for name, values in parts.items()},
        }
        for b in range(Q * M)
    ]
    return Experience(minibatches, metrics, samples)


class _Clock:
    """Seconds by name; laps of the same name add up."""

    def __init__(self):
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self.last
        self.last = now


class _Grid(NamedTuple):
    """Packed rows of one kind; `context` is "question" or "alone"; `answers`: which of the B
    answers they hold."""

    context: str
    packed: Packed
    layout: Layout
    answers: range


def _pack(tools: Tools, rows: Sequence[Question], rollouts: Rollouts) -> list[_Grid]:
    """One grid for each mini-batch's answers after their questions, then one for all standalone
    answers, if needed."""
    config, M = tools.config, tools.config.rollout.samples
    ids = [tokens[:n] for tokens, n in zip(rollouts.tokens, rollouts.lengths)]
    width, multiple = config.packing.row_tokens, config.packing.rows_per_microbatch
    step = config.loss.minibatch_questions * M
    grids = []
    for start in range(0, len(ids), step):
        part = range(start, start + step)
        packed, layout = packing.pack(
            [rows[b // M].prompt for b in part], [ids[b] for b in part], width, multiple
        )
        grids.append(_Grid("question", packed, layout, part))
    if config.rewards.self_aligned:
        packed, layout = packing.pack([tools.prompter.standalone] * len(ids), ids, width, multiple)
        grids.append(_Grid("alone", packed, layout, range(len(ids))))
    return grids


def _score(
    tools: Tools,
    grids: list[_Grid],
    params: Any,
    reference: Any | None,
    critic: Any | None,
) -> tuple[list, list, list]:
    """Starts scoring every micro-batch, without waiting: the policy on all grids, reference and
    critic on the question's."""
    policy, ref, values, asked = [], [], [], []
    for grid in grids:
        micro = [
            sharding.place(m, sharding.by_rows(tools.mesh))
            for m in packing.microbatches(grid.packed, tools.config.packing.rows_per_microbatch)
        ]
        policy.append([tools.score(params, m) for m in micro])
        asked += [micro] if grid.context == "question" else []
    if reference is not None:
        reference = tools.fetch_reference(reference)
        ref = [[tools.score(reference, m) for m in micro] for micro in asked]
    if critic is not None:
        values = [[tools.values(critic, m) for m in micro] for micro in asked]
    return policy, ref, values


def _join(parts: list[Scores]) -> Scores:
    """Micro-batches' scores, fetched, as one grid."""
    fetched = multihost.fetch(parts)
    return Scores(*(np.concatenate(field) for field in zip(*fetched)))


def _per_answer(
    scores: list[Scores], grids: list[_Grid], field: str
) -> dict[str, list[np.ndarray]]:
    """Context -> values on the tokens of each of the B answers, in order."""
    found: dict[str, list[np.ndarray]] = {}
    for score, grid in zip(scores, grids):
        found.setdefault(grid.context, []).extend(
            packing.from_grid(getattr(score, field), grid.layout)
        )
    return found


def _on_answers(values: list[np.ndarray], grids: list[_Grid]) -> list[np.ndarray]:
    """Values on the grids with the question, as an array for each of the B answers."""
    return [x for grid, value in zip(grids, values) for x in packing.from_grid(value, grid.layout)]


def _minibatches(
    tools, grids, scores, ref_logps, found, values, trained, rollouts
) -> list[Minibatch]:
    """`trained`: which of the B answers the losses see; the others still count in the divisor of
    answers."""
    rows = tools.config.packing.rows_per_microbatch
    asked = [(g, s) for g, s in zip(grids, scores) if g.context == "question"]
    empty = [np.zeros_like(s.logps) for _, s in asked]
    sampled = (
        [r[:n] for r, n in zip(rollouts.logps, rollouts.lengths)]
        if tools.config.loss.importance_cap
        else None
    )
    return [
        _minibatch(rows, grid, score.logps, ref, found, value, trained, sampled)
        for (grid, score), ref, value in zip(
            asked, ref_logps or empty, values or [None] * len(asked)
        )
    ]


def _minibatch(
    rows: int, grid: _Grid, logps, ref_logps, found: advantages_lib.Credit, values, trained, sampled
) -> Minibatch:
    """One grid, cut into pieces of `rows` rows."""
    place = lambda x: packing.to_grid(
        [x[b] for b in grid.answers], grid.layout, grid.packed.tokens.shape
    )
    whole = grid.packed._replace(mask=grid.packed.mask & (place(trained) > 0))
    cut = packing.microbatches(whole, rows)
    pieces = lambda *grids: zip(
        *([g[k * rows : (k + 1) * rows] for k in range(len(cut))] for g in grids)
    )
    fields = [place(found.advantages), logps, ref_logps] + (
        [] if sampled is None else [place(sampled)]
    )
    batches = [Batch(packed, *piece) for packed, piece in zip(cut, pieces(*fields))]
    learnt = (
        []
        if values is None
        else [
            ValueBatch(packed, *piece)
            for packed, piece in zip(cut, pieces(place(found.returns), values))
        ]
    )
    return Minibatch(batches, len(grid.answers), int(whole.mask.sum()), learnt)


def _reward_metrics(total: np.ndarray, parts: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        "reward/mean": float(total.mean()),
        "reward/std": float(total.std()),
        **{f"reward/{n}/mean": float(p.mean()) for n, p in parts.items()},
    }


def _answer_metrics(
    rows: Sequence[Question], rollouts: Rollouts, s: rewards.Signals
) -> dict[str, float]:
    clipped = ~rollouts.stopped
    M = s.correct.shape[1]
    overlap = [
        _overlap(rows[b // M].prompt, rollouts.tokens[b, :n])
        for b, n in enumerate(rollouts.lengths)
    ]
    found = {
        "accuracy": float(s.correct.mean()),
        # its standard error, questions being what is drawn
        "accuracy_error": float(s.correct.mean(axis=1).std() / max(len(s.correct) - 1, 1) ** 0.5),
        # of the verifiable reward: groups that are all right or all wrong tell it nothing
        "frac_reward_zero_std": float((s.correct.all(axis=1) | ~s.correct.any(axis=1)).mean()),
        "completions/mean_length": float(s.lengths.mean()),
        "completions/min_length": float(s.lengths.min()),
        "completions/max_length": float(s.lengths.max()),
        "completions/clipped_ratio": float(clipped.mean()),
        "completions/question_overlap": float(np.mean(overlap)),
        "perplexity/conditional": float(np.exp(-s.mean_logp).mean()),
    }
    if not np.isnan(s.mean_logp_alone).any():
        found |= {
            "perplexity/standalone": float(np.exp(-s.mean_logp_alone).mean()),
            "perplexity/ratio": float(
                np.exp(np.minimum(s.mean_logp_alone - s.mean_logp, 20)).mean()
            ),
        }
    return found


def _overlap(prompt: Sequence[int], answer: np.ndarray, n: int = 3) -> float:
    """Share of the answer's token n-grams that stand in the prompt: an answer that echoes its
    question shows here."""
    grams = lambda ids: list(zip(*(ids[i:] for i in range(n))))
    seen, own = set(grams(list(prompt))), grams(answer.tolist())
    return sum(g in seen for g in own) / len(own) if own else 0.0
