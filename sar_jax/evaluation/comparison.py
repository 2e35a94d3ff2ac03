"""Several evaluations compared with each other and with the published figures.

    results.json of each folder   a row for each folder and benchmark: accuracy, length, both
                                  against the reference, AES
    answers/ of each folder       intervals of these differences, question by question
    assets/published.json         the paper's 28 rows and its ablation in the same columns, and
                                  with them ours, where a result has all five mathematics sets

As tables, and as a plot of accuracy against length with its Pareto front. Gains in accuracy are
percentage points, in length percent of the reference's. All folders must have answered the same
questions of the benchmarks that they share; other differences in their settings are named under the
table.
"""

import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sar_jax.errors import UserError
from sar_jax.evaluation import folder as folder_lib
from sar_jax.evaluation import measures, plots, tables
from sar_jax.evaluation.records import Entry, Results, TaskInfo
from sar_jax.files import write_atomically

_MATHEMATICS = "mathematics"
_GAINS = ["gain, points", "change of length, %", "AES"]


class Row(NamedTuple):
    """One row of the paper: accuracy as a share, mean tokens; aes as printed, None for the base."""

    model: str
    method: str
    accuracy: float
    length: float
    aes: float | None


class Published(NamedTuple):
    """The paper's figures. source: where they come from; rows: all models and methods."""

    source: str
    rows: list[Row]
    ablation: list[Row]


class ByQuestion(NamedTuple):
    """Of a benchmark's Q questions. right: the share of right answers; length: mean tokens."""

    right: Float[np.ndarray, " Q"]
    length: Float[np.ndarray, " Q"]


def published() -> Published:
    """The figures that come with the package (assets/published.json)."""
    raw = json.loads((importlib.resources.files("sar_jax") / "assets/published.json").read_text())
    rows = [
        Row(r["model"], r["method"], r["accuracy"] / 100, r["length"], r["aes"])
        for r in raw["results"]
    ]
    ablation = [
        Row(raw["ablation_model"], r["rewards"], r["accuracy"] / 100, r["length"], None)
        for r in raw["ablation"]
    ]
    return Published(f"{raw['source']}: {raw['measure']}.", rows, ablation)


def gains(row: measures.Point, base: measures.Point) -> list[str]:
    """The cells under `_GAINS`: of accuracy, of length, AES."""
    score = f"{measures.aes(row, base):.3f}" if base.accuracy else "-"
    return [
        f"{100 * (row.accuracy - base.accuracy):+.2f}",
        f"{100 * (row.length / base.length - 1):+.1f}",
        score,
    ]


def compare(
    folders: Sequence[pathlib.Path], reference: pathlib.Path | None, output: pathlib.Path | None
) -> None:
    """Prints the tables; with `output`, also writes comparison.md and comparison.png there.

    reference   what the others are measured against; the first folder by default

    Raises `UserError` where folders cannot be compared.
    """
    if not folders:
        raise UserError("--compare: the folders to compare are missing: --compare DIR DIR ...")
    paths = [*([reference] if reference else []), *(f for f in folders if f != reference)]
    found = dict(zip(_names(paths), (folder_lib.read_results(path, "--compare") for path in paths)))
    _check_same_questions(found)
    if output and output.exists() and not output.is_dir():
        raise UserError(f"--output: {output} is not a folder")
    markdown = to_markdown(found, dict(zip(found, map(_by_question, paths, found.values()))))
    print(markdown)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / "comparison.md", markdown)
        plot = plots.told(output / "comparison.png", plots.pareto, panels(found))
        print(f"table  {output / 'comparison.md'}\nplot   {plot}")


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [path.absolute().resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise UserError("--compare: the same folder is given twice")
    for length in range(1, max(map(len, parts)) + 1):
        names = [os.path.join(*part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _check_same_questions(found: Mapping[str, Results]) -> None:
    first: dict[str, tuple[str, TaskInfo]] = {}
    for name, result in found.items():
        for label, entry in result.tasks.items():
            other, theirs = first.setdefault(label, (name, entry.task))
            if theirs.fingerprint != entry.task.fingerprint:
                raise UserError(
                    f"--compare: {other} and {name} hold answers to different questions of {label} "
                    f"({theirs.source}; {entry.task.source}): they cannot be compared"
                )


def _by_question(folder: pathlib.Path, results: Results) -> dict[str, ByQuestion]:
    """By benchmark; without those whose answers are not beside results.json."""
    there = [label for label in results.tasks if folder_lib.is_finished(folder, label)]
    answers = {label: folder_lib.read_answers(folder, label) for label in there}
    return {
        label: ByQuestion(measures.correct_shares(own), measures.mean_lengths(own))
        for label, own in answers.items()
    }


def to_markdown(
    found: Mapping[str, Results], questions: Mapping[str, Mapping[str, ByQuestion]]
) -> str:
    """All tables. found, questions: by the results' names; the first is the reference."""
    reference = next(iter(found))
    lines = [
        "# Comparison",
        "",
        f"Gains and AES (gamma {measures.AES_GAMMA:g}) against {reference}.",
        "",
        _ours(found),
        "",
        *_paired(questions),
    ]
    for name, result in found.items():
        for change in folder_lib.differences(found[reference].decoding, result.decoding):
            lines.append(f"{name} has other settings than {reference}: {change}.")
    lines += ["", *tables.behaviours_table(found), "## Published", "", *_paper(found)]
    return "\n".join(lines) + "\n"


def _paper(found: Mapping[str, Results]) -> list[str]:
    """The paper's tables; results that have the same average follow its rows."""
    source, rows, ablation = published()
    base = {row.model: row for row in rows if row.method == "base"}

    def cells(row: Row) -> list[str]:
        return [tables.percent(row.accuracy), f"{row.length:g}", *gains(row, base[row.model])]

    header = ["accuracy, %", "tokens", *_GAINS]
    paper = [[r.model, r.method, *cells(r), tables.number(r.aes, ".3f")] for r in rows]
    reference = next(iter(found.values())).averages.get(_MATHEMATICS)
    for name, result in found.items():
        entry = result.averages.get(_MATHEMATICS)
        if entry:
            ours = [tables.percent(entry.result.accuracy), f"{entry.result.length:.0f}"]
            paper.append(["here", name, *ours, *_against(entry, reference), "-"])
    return [
        source,
        "",
        tables.table(["model", "method", *header, "AES as printed"], paper, texts=2),
        "",
        f"Rewards of {ablation[0].model}:",
        "",
        tables.table(["rewards", *header], [[row.method, *cells(row)] for row in ablation]),
    ]


def _ours(found: Mapping[str, Results]) -> str:
    """A row for each benchmark and result, benchmark by benchmark."""
    rows, before = [], next(iter(found.values())).named()
    names = dict.fromkeys(name for result in found.values() for name in result.named())
    is_average = lambda name: name.startswith("average, ")
    for benchmark in sorted(names, key=is_average):  # stable: averages come last
        for name, result in found.items():
            entry = result.named().get(benchmark)
            if entry is None:
                continue
            r = entry.result
            row = [benchmark, name, str(r.questions), tables.percent(r.accuracy)]
            row += [tables.span(entry), f"{r.length:.1f}", tables.percent(r.clipped)]
            rows.append(row + _against(entry, before.get(benchmark)))
    header = ["benchmark", "result", "questions", "accuracy, %", "95 % interval", "tokens"]
    return tables.table([*header, "cut off, %", *_GAINS], rows, texts=2)


def _paired(questions: Mapping[str, Mapping[str, ByQuestion]]) -> list[str]:
    """How far each result is from the reference on the same questions, with intervals.

    An answer is compared with the reference's to the same question, so that what makes a question
    hard or long does not widen the interval. Nothing where no two results have answers.
    """
    reference, *others = questions
    rows = []
    for label, base in questions[reference].items():
        for name in others:
            if label in questions[name]:
                own = questions[name][label]
                gain, change = 100 * (own.right - base.right), own.length - base.length
                rows.append([label, name, *_difference(gain, ".2f"), *_difference(change, ".1f")])
    if not rows:
        return []
    header = ["benchmark", "result", "gain, points", "95 % interval", "tokens", "95 % interval"]
    return [
        f"On the same questions, against {reference}:",
        "",
        tables.table(header, rows, texts=2),
        "",
    ]


def _difference(values: Float[np.ndarray, " Q"], digits: str) -> list[str]:
    """The mean and its interval."""
    low, high = measures.interval([values])
    return [f"{values.mean():+{digits}}", f"{low:+{digits}} to {high:+{digits}}"]


def _against(entry: Entry, base: Entry | None) -> list[str]:
    """`gains` of two entries; dashes where the reference has none."""
    return gains(entry.result, base.result) if base else ["-"] * len(_GAINS)


def panels(found: Mapping[str, Results]) -> list[plots.Panel]:
    """What is plotted: the mean over the benchmarks that all results have; then the paper's rows.

    Results that have the paper's five sets are among its rows.
    """
    made = []
    first, *others = found.values()
    shared = [label for label in first.tasks if all(label in r.tasks for r in others)]
    if shared:
        means = {
            name: measures.mean_result([r.tasks[label].result for label in shared])
            for name, r in found.items()
        }
        marks = [plots.Mark(name, m.accuracy, m.length) for name, m in means.items()]
        made.append(plots.Panel(f"mean of {', '.join(shared)}", {"results": marks}))
    groups: dict[str, list[plots.Mark]] = {}
    for row in published().rows:
        groups.setdefault(row.model, []).append(plots.Mark(row.method, row.accuracy, row.length))
    maths = {name: r.averages.get(_MATHEMATICS) for name, r in found.items()}
    ours = [plots.mark(name, e)._replace(interval=None) for name, e in maths.items() if e]
    if ours:
        groups["results"] = ours
    return [*made, plots.Panel("published, five mathematics sets", groups)]
