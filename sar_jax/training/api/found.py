"""What calls from Python return: answers, scores and evaluations, as typed records.

    Generated     an answer of the policy
    Explained     the self-aligned reward of an answer, token by token
    Evaluation    benchmarks, each a `TaskResult`

In a notebook an `Explained` shows its tokens in colour, and an `Evaluation` its table.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from sar_jax.evaluation import tables
from sar_jax.evaluation.pages import heatmap
from sar_jax.evaluation.records import Answer, Results


@dataclasses.dataclass(frozen=True)
class Generated:
    """An answer of the policy.

    sample      which of the question's answers, from 0
    text        without special tokens, and without `prompt.assistant_prefix`
    token_ids   up to and including the token that ended the answer
    logprobs    of each, in nats: the policy's own, whatever temperature and filters it was drawn at
    length      tokens
    clipped     did the limit cut it off?
    """

    question: str
    sample: int
    text: str
    token_ids: list[int] = dataclasses.field(repr=False)
    logprobs: list[float] = dataclasses.field(repr=False)
    length: int
    clipped: bool


@dataclasses.dataclass(frozen=True)
class Explained:
    """The self-aligned reward of an answer.

    ppl_conditional               exp(-mean_j log P(a_j | q, a_<j)) over the answer and its end
    ppl_standalone                exp(-mean_j log P(a_j | a_<j)): without the question
    self_aligned                  clip((ppl_standalone - ppl_conditional) / ppl_standalone, -1, 1)
    self_aligned_without_copies   the same, with v = 0 where `token_copied`
    tokens                        the answer's pieces as text
    token_values                  v_j = log P(a_j | q, a_<j) - log P(a_j | a_<j), in nats
    token_logps                   log P(a_j | q, a_<j); token_logps_standalone: log P(a_j | a_<j)
    token_copied                  is the token in a run of 8 or more that its prompt has too?
    extra                         the other fields of the row that was given
    """

    question: str
    answer: str
    ppl_conditional: float
    ppl_standalone: float
    self_aligned: float
    self_aligned_without_copies: float
    tokens: list[str] = dataclasses.field(repr=False)
    token_values: list[float] = dataclasses.field(repr=False)
    token_logps: list[float] = dataclasses.field(repr=False)
    token_logps_standalone: list[float] = dataclasses.field(repr=False)
    token_copied: list[bool] = dataclasses.field(repr=False)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Explained":
        """Of a row as `sar_jax.explain` writes it."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "extra"]
        extra = {name: value for name, value in row.items() if name not in names}
        return cls(**{name: row[name] for name in names}, extra=extra)

    def to_json(self) -> dict[str, Any]:
        """The line that `sar_jax.explain` writes of it."""
        found = dataclasses.asdict(self)
        return found.pop("extra") | found

    def _repr_html_(self) -> str:
        return heatmap.fragment(self.to_json())


class Explanations(list[Explained]):
    """A list of `Explained`, which a notebook shows in colour."""

    def __init__(self, rows: Iterable[Explained] = ()):
        super().__init__(rows)

    def _repr_html_(self) -> str:
        return "".join(row._repr_html_() for row in self)


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """A benchmark. Shares are in [0, 1], lengths are tokens with the end of the answer.

    accuracy           share of right answers; interval: its 95 % interval
    length             mean of all answers
    length_correct     of the right ones, None where there is none
    length_unclipped   of those that were not cut off, None where all were
    clipped            share that the limit cut off
    errors             share that could not be judged, which counts as wrong
    several            avg@n, maj@n and pass@k, where each question has several answers
    answers            each with its verdict, by question and sample
    """

    questions: int
    accuracy: float
    interval: tuple[float, float]
    length: float
    length_correct: float | None
    length_unclipped: float | None
    clipped: float
    errors: float
    several: dict[str, float]
    answers: list[Answer] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Benchmarks by their names in results. results: all of it, as results.json has it."""

    tasks: dict[str, TaskResult]
    results: Results = dataclasses.field(repr=False)

    @classmethod
    def of(cls, results: Results, answers: Mapping[str, list[Answer]]) -> "Evaluation":
        """answers: of each benchmark."""
        tasks = {
            name: TaskResult(
                **dataclasses.asdict(entry.result),
                interval=entry.interval,
                several=entry.several,
                answers=answers[name],
            )
            for name, entry in results.tasks.items()
        }
        return cls(tasks, results)

    def _repr_markdown_(self) -> str:
        return tables.to_markdown(self.results)
