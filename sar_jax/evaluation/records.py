"""What an evaluation is made of: answers, settings and results, as typed records.

    Answer       one answer with its verdict               a row of answers/*.parquet
    Settings     whose answers these are                   settings.json
    Results      accuracy, length and AES of each set      results.json

`to_json` and `from_json` of the last two are what the files hold; fields that a file does not have
are those of an evaluation without them. Nothing here reads or writes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    number, sample   which question, and which of its n samples
    length           tokens, EOS included; clipped: cut off by the limit
    final            its final answer, equal text for equal answers (`judge.final`); None without
    correct          right or not; an error of the verifier counts as wrong
    """

    number: int
    sample: int
    id: str
    question: str
    truth: str
    answer: str
    length: int
    clipped: bool
    final: str | None
    correct: bool
    verdict: Literal["right", "wrong", "error"]


@dataclasses.dataclass(frozen=True)
class Result:
    """Means over the answers to a benchmark. Shares are in [0, 1], lengths are tokens.

    accuracy           share of right answers
    length             of all answers, EOS included
    length_correct     of the right ones; None where there is none
    length_unclipped   of those that were not cut off; None where all were
    clipped            share cut off by the limit
    errors             share that the verifier could not judge; they count as wrong
    """

    accuracy: float
    length: float
    length_correct: float | None
    length_unclipped: float | None
    clipped: float
    questions: int
    errors: float


@dataclasses.dataclass(frozen=True)
class Model:
    """Who answered. step: of a workdir's checkpoint, None for a model folder."""

    path: str
    step: int | None
    fingerprint: str

    def __str__(self) -> str:
        return self.path if self.step is None else f"step {self.step} of {self.path}"


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """The questions of a benchmark.

    source        what was given as --tasks
    fingerprint   of questions and answers
    left_out      how many had too long a prompt
    """

    source: str
    fingerprint: str
    questions: int
    left_out: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """decoding: the settings that answers depend on, by name; tasks: by their names in results."""

    model: Model
    decoding: dict[str, Any]
    tasks: dict[str, TaskInfo]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "Settings":
        tasks = {label: _of(TaskInfo, task) for label, task in raw["tasks"].items()}
        return Settings(_of(Model, raw["model"]), dict(raw["decoding"]), tasks)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A benchmark's results, or the average over several.

    interval   95 % interval of the accuracy
    several    avg@n, maj@n and pass@k, with several samples a question
    aes        against the reference; None without one, or where it has nothing right
    task       of a benchmark; of: the benchmarks that an average is over
    behaviours share of answers that show each reasoning behaviour (`text.behaviours`); {} where it
               was not counted, as in an average
    """

    result: Result
    interval: tuple[float, float]
    several: dict[str, float] = dataclasses.field(default_factory=dict)
    aes: float | None = None
    task: TaskInfo | None = None
    of: tuple[str, ...] = ()
    behaviours: dict[str, float] = dataclasses.field(default_factory=dict)

    def to_json(self, compared: bool) -> dict[str, Any]:
        """compared: is there a reference for it? Then "aes" is there, and may be null."""
        found = {"of": list(self.of)} if self.task is None else dataclasses.asdict(self.task)
        found |= dataclasses.asdict(self.result)
        found |= {"interval": list(self.interval), **self.several}
        found |= {"behaviours": self.behaviours} if self.behaviours else {}
        return found | ({"aes": self.aes} if compared else {})

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "Entry":
        return Entry(
            _of(Result, raw),
            tuple(raw["interval"]),
            {name: value for name, value in raw.items() if "@" in name},
            raw.get("aes"),
            _of(TaskInfo, raw) if "source" in raw else None,
            tuple(raw.get("of", ())),
            dict(raw.get("behaviours", {})),
        )


@dataclasses.dataclass(frozen=True)
class Reference:
    """What AES is measured against. differs: settings in which it was made otherwise, in words."""

    model: Model
    differs: list[str]


@dataclasses.dataclass(frozen=True)
class Results:
    """One evaluation. tasks, averages: by name; reference: None without one."""

    model: Model
    decoding: dict[str, Any]
    tasks: dict[str, Entry]
    averages: dict[str, Entry]
    reference: Reference | None = None
    compared: frozenset[str] = frozenset()  # of tasks and averages: those that the reference has

    def named(self) -> dict[str, Entry]:
        """The rows of a table: every benchmark, then the averages."""
        averages = {f"average, {name}": entry for name, entry in self.averages.items()}
        return {**self.tasks, **averages}

    def to_json(self) -> dict[str, Any]:
        json_of = lambda entries: {
            name: entry.to_json(name in self.compared) for name, entry in entries.items()
        }
        found = {
            "model": dataclasses.asdict(self.model),
            "decoding": self.decoding,
            "tasks": json_of(self.tasks),
            "averages": json_of(self.averages),
        }
        if self.reference:
            found["reference"] = dataclasses.asdict(self.reference)
        return found

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "Results":
        of = lambda kind: {name: Entry.from_json(entry) for name, entry in raw[kind].items()}
        tasks, averages, reference = of("tasks"), of("averages"), raw.get("reference")
        return Results(
            _of(Model, raw["model"]),
            dict(raw["decoding"]),
            tasks,
            averages,
            reference and Reference(_of(Model, reference["model"]), reference["differs"]),
            frozenset(
                name
                for kind in ("tasks", "averages")
                for name, entry in raw[kind].items()
                if "aes" in entry
            ),
        )


def _of(cls: type, raw: Mapping[str, Any]) -> Any:
    """The record of a mapping that has its fields, and maybe others."""
    return cls(**{field.name: raw[field.name] for field in dataclasses.fields(cls)})
