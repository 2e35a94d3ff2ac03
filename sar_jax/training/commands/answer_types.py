"""What each kind of answer earns: R_SA, and the advantage that each design of the rewards gives it.

    text.answer_types.make --explained.explain--> rows --summarise--> one `Kind` a kind --> a table

All kinds of one question are its group, as sampled answers are in training.
Letters: Q questions, M kinds.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sar_jax import config as config_lib
from sar_jax.evaluation import measures, tables
from sar_jax.rl import advantages, copies, rewards

BINS = 10  # parts of an answer in a profile
_LIMIT = 1024  # tokens: the answer limit, which `length` divides by

# Weights by name; "without copies" leaves copies of the question out of the self-aligned reward.
DESIGNS: Mapping[str, Mapping[str, float]] = {
    "verifiable": {"verifiable": 1.0},
    "length": {"length": 1.0},
    "entropy_min": {"entropy_min": 1.0},
    "self_aligned": {"self_aligned": 1.0},
    "verifiable + 0.05 o1_pruner": {"verifiable": 1.0, "o1_pruner": 0.05},
    "verifiable + 0.05 efficient_reasoner": {"verifiable": 1.0, "efficient_reasoner": 0.05},
    "verifiable + 0.2 entropy_min": {"verifiable": 1.0, "entropy_min": 0.2},
    "verifiable + 0.2 self_aligned": {"verifiable": 1.0, "self_aligned": 0.2},
    "the same without copies": {"verifiable": 1.0, "self_aligned": 0.2},
}
_WITHOUT_COPIES = ("the same without copies",)


class Mean(NamedTuple):
    """A mean over questions with its 95 % interval, bootstrapped over questions."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class Kind(NamedTuple):
    """One kind of answer, means over questions.

    right            share that the judge calls right
    tokens           with the EOS
    copied           share of the tokens in long runs of the prompt (`copies`)
    reward           R_SA
    without_copies   R_SA with copies of the question counting as standalone
    advantages       by name of the design
    profile          mean v in each tenth of an answer, in nats; None where no answer has a token
    """

    name: str
    right: float
    tokens: float
    copied: float
    reward: Mean
    without_copies: Mean
    advantages: dict[str, float]
    profile: list[float | None]


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[Kind]:
    """The kinds in their order.

    rows   scored by `explained.explain`, all kinds of one question after the other, the same kinds
           for each
    """
    names = list(dict.fromkeys(row["kind"] for row in rows))
    signals = make_signals(rows, len(names))
    plain = rewards.self_aligned(signals)
    own = rewards.self_aligned(rewards.without_copies(signals))
    gained = {name: _advantages(name, signals) for name in DESIGNS}
    found = []
    for m, name in enumerate(names):
        mine = rows[m :: len(names)]
        mean = lambda values: float(np.mean(values))
        found.append(
            Kind(
                name,
                mean(signals.correct[:, m]),
                mean(signals.lengths[:, m]),
                mean([np.mean(row["token_copied"]) for row in mine]),
                _mean(plain[:, m]),
                _mean(own[:, m]),
                {design: mean(values[:, m]) for design, values in gained.items()},
                profile([row["token_values"] for row in mine]),
            )
        )
    return found


def make_signals(rows: Sequence[Mapping[str, Any]], kinds: int) -> rewards.Signals:
    """What the rewards see of the answers, [Q, M]."""
    grid = lambda values: np.array(list(values)).reshape(-1, kinds)
    array = lambda row, name: np.asarray(row[name], np.float64)
    given = [array(row, "token_logps") for row in rows]
    alone = [array(row, "token_logps_standalone") for row in rows]
    are_copied = [np.asarray(row["token_copied"], bool) for row in rows]
    own = map(copies.as_standalone, given, alone, are_copied)
    return rewards.Signals(
        correct=grid(row["correct"] for row in rows),
        lengths=grid(len(x) for x in given),
        mean_logp=grid(x.mean() for x in given),
        mean_logp_alone=grid(x.mean() for x in alone),
        max_length=_LIMIT,
        mean_logp_own=grid(x.mean() for x in own),
    )


def _advantages(design: str, signals: rewards.Signals) -> Float[np.ndarray, "Q M"]:
    registry = rewards.REWARDS
    if design in _WITHOUT_COPIES:
        registry = rewards.variant("relative", 0.0)
    weights = DESIGNS[design]
    _, parts = rewards.total(weights, signals, registry)
    weighted = {name: weights[name] * part for name, part in parts.items()}
    credit = advantages.assign(config_lib.Advantage(), weighted, None, (), signals.correct)
    return np.asarray(credit.advantages).reshape(signals.correct.shape)


def _mean(values: np.ndarray) -> Mean:
    return Mean(float(values.mean()), *measures.interval([values], resamples=2000))


def profile(values: Sequence[Sequence[float]], bins: int = BINS) -> list[float | None]:
    """Mean v of the tokens in each part of an answer, over answers.

    values   v of each answer's tokens. Token i of n is in part i * bins // n, so that an answer of
             fewer tokens than parts leaves some without any; these do not count.
    """
    parts: list[list[float]] = [[] for _ in range(bins)]
    for answer in values:
        places = np.arange(len(answer)) * bins // len(answer)
        for place in np.unique(places):
            parts[place].append(float(np.mean(np.asarray(answer)[places == place])))
    return [float(np.mean(part)) if part else None for part in parts]


def to_markdown(kinds: Sequence[Kind]) -> str:
    """The rewards, the advantages and the profile as three tables."""
    reward = [
        [k.name, tables.percent(k.right), f"{k.tokens:.1f}", tables.percent(k.copied)]
        + [str(k.reward), str(k.without_copies)]
        for k in kinds
    ]
    header = ["kind", "right, %", "tokens", "copied, %", "R_SA", "R_SA without copies"]
    gained = [[d, *(f"{k.advantages[d]:+.3f}" for k in kinds)] for d in DESIGNS]
    share = [f"{100 * (i + 1) // BINS} %" for i in range(BINS)]
    shown = [[k.name, *(tables.number(v, ".2f") for v in k.profile)] for k in kinds]
    return "\n\n".join(
        [
            tables.table(header, reward),
            tables.table(["advantage", *(k.name for k in kinds)], gained),
            tables.table(["mean v up to", *share], shown),
        ]
    )


def as_json(kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    """For a page."""
    return [
        k._asdict() | {"reward": list(k.reward), "without_copies": list(k.without_copies)}
        for k in kinds
    ]
