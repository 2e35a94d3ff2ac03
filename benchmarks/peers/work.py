"""The work that every program does: sequences of random tokens, a prompt and an answer each.

Letters: Q questions, M samples a question, B = Q * M answers, P prompt width, A answer width.
"""

import dataclasses
import json
import statistics
from typing import NamedTuple

import numpy as np

FIRST_TOKEN = 3  # before it are padding and stops
REFERENCE_LOGP = -8.3  # of every token, in nats: about what a random model with 4,096 entries gives
KL = 0.04  # coefficient of the loss's KL (k3)
CLIP = 0.2  # of the probability ratio, on both sides
LEARNING_RATE, WEIGHT_DECAY = 1e-6, 0.01
# Published lengths of a reasoning model's answers, in tokens, and the questions' range.
MEAN, SIGMA, LIMIT, QUESTIONS = 900, 1.0, 4096, (60, 400)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is computed, and on which rows.

    model          a Hugging Face folder
    task           "score": logprobs of the answers; "update": gradient and AdamW; "step": both;
                   "rollout": answers of A tokens, and no fewer
    questions      Q
    samples        M
    minibatch      questions of an update, which divide Q
    prompt         P
    answer         A
    divisor        0: every sequence has P + A tokens. Otherwise lengths are the published ones
                   divided by this, and P and A follow from it
    dtype          of activations; "float32" or "bfloat16"
    rows           rows that other programs compute at once
    recomputes     other programs recompute activations in the backward pass
    overrides      of the config of sar_jax, such as "packing.rows_per_microbatch=16"
    warm_ups       calls before the first one that counts
    """

    model: str
    task: str
    questions: int = 16
    samples: int = 4
    minibatch: int = 16
    prompt: int = 64
    answer: int = 256
    divisor: int = 0
    dtype: str = "float32"
    rows: int = 64
    recomputes: bool = False
    overrides: tuple[str, ...] = ()
    warm_ups: int = 2

    @property
    def widths(self) -> tuple[int, int]:
        """P and A."""
        if not self.divisor:
            return self.prompt, self.answer
        return round(QUESTIONS[1] / self.divisor), round(LIMIT / self.divisor)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Work":
        fields = json.loads(text)
        return cls(**fields | {"overrides": tuple(fields["overrides"])})


class Sequences(NamedTuple):
    """prompts: token ids of each of Q questions; answers: of each of B answers."""

    prompts: list[np.ndarray]
    answers: list[np.ndarray]


class Padded(NamedTuple):
    """Sequences as rectangles: prompts end in the last column, answers begin in the first.

    A mask is True on tokens.
    """

    prompts: np.ndarray  # [B, P]
    prompt_mask: np.ndarray
    answers: np.ndarray  # [B, A]
    answer_mask: np.ndarray


def quantiles(count: int, mean: float, sigma: float, limit: int) -> np.ndarray:
    """Evenly spaced quantiles of a log-normal distribution of lengths that the limit cuts off, with
    this mean after it."""
    z = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    lengths = lambda mu: np.clip(np.rint(np.exp(mu + sigma * z)), 1, limit).astype(int)
    low, high = 0.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if lengths(middle).mean() < mean else (low, middle)
    return lengths(low)


def lengths(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each of Q questions, and of each of B answers."""
    count = work.questions * work.samples
    if not work.divisor:
        return np.full(work.questions, work.prompt), np.full(count, work.answer)
    rng, by = np.random.default_rng(0), work.divisor
    answers = rng.permutation(quantiles(count, MEAN / by, SIGMA, work.widths[1]))
    shortest, longest = QUESTIONS
    return np.rint(rng.integers(shortest, longest + 1, work.questions) / by).astype(int), answers


def sequences(work: Work, vocabulary: int) -> Sequences:
    """Random tokens, the same for every program."""
    rng = np.random.default_rng(1)
    draw = lambda n: rng.integers(FIRST_TOKEN, min(vocabulary, 4096), n).astype(np.int32)
    prompts, answers = lengths(work)
    return Sequences([draw(n) for n in prompts], [draw(n) for n in answers])


def padded(work: Work, vocabulary: int) -> Padded:
    """The sequences of a work as rectangles, padded with 0."""
    found, (P, A) = sequences(work, vocabulary), work.widths
    count = len(found.answers)
    prompts, answers = np.zeros((count, P), np.int32), np.zeros((count, A), np.int32)
    for b, answer in enumerate(found.answers):
        prompt = found.prompts[b // work.samples]
        prompts[b, P - len(prompt) :] = prompt
        answers[b, : len(answer)] = answer
    return Padded(prompts, prompts > 0, answers, answers > 0)


def advantages(work: Work) -> np.ndarray:
    """Of each of the B answers, normal."""
    count = work.questions * work.samples
    return np.random.default_rng(2).normal(size=count).astype(np.float32)
