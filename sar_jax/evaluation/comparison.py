"""Several evaluations beside each other and beside the published figures: tables, and accuracy
against length with its Pareto front.

    results.json of each folder --> one row a folder and benchmark: accuracy, length, both against the reference, AES
    assets/published.json       --> the paper's 28 rows and its ablation in the same columns, and beside ours where a result
                                    has all five mathematics sets

Gains in accuracy are percentage points, in length percent of the reference's. All folders must have
answered the same questions of the benchmarks that they share; other differences in their settings
are named under the table."""

import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sar_jax.errors import UserError
from sar_jax.evaluation import folder as folder_lib
from sar_jax.evaluation import measures, plots, tables
from sar_jax.files import write_atomically

_MATHEMATICS = "mathematics"
_GAINS = ["gain, points", "change of length, %", "AES"]


class Published(NamedTuple):
    """One row of the paper: accuracy as a share, mean tokens; aes as printed, None for the base."""

    model: str
    method: str
    accuracy: float
    length: float
    aes: float | None


def published() -> tuple[str, list[Published], list[Published]]:
    """Where the figures come from, the results of all models and methods, and the ablation's."""
    raw = json.loads((importlib.resources.files("sar_jax") / "assets/published.json").read_text())
    rows = [
        Published(r["model"], r["method"], r["accuracy"] / 100, r["length"], r["aes"])
        for r in raw["results"]
    ]
    ablation = [
        Published(raw["ablation_model"], r["rewards"], r["accuracy"] / 100, r["length"], None)
        for r in raw["ablation"]
    ]
    return f"{raw['source']}: {raw['measure']}.", rows, ablation


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
    """Prints the tables; with `output`, also writes comparison.md and comparison.png there. Raises
    `UserError`."""
    if not folders:
        raise UserError("--compare: the folders to compare are missing: --compare DIR DIR ...")
    paths = [*([reference] if reference else []), *(f for f in folders if f != reference)]
    found = dict(zip(_names(paths), (folder_lib.read_results(path, "--compare") for path in paths)))
    _check_same_questions(found)
    if output and output.exists() and not output.is_dir():
        raise UserError(f"--output: {output} is not a folder")
    markdown = to_markdown(found)
    print(markdown)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / "comparison.md", markdown)
        plots.pareto(panels(found), output / "comparison.png")
        print(f"table  {output / 'comparison.md'}\nplot   {output / 'comparison.png'}")


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart. Raises `UserError` where one comes
    twice."""
    parts = [path.absolute().resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise UserError("--compare: a folder is named twice")
    for length in range(1, max(map(len, parts)) + 1):
        names = [os.path.join(*part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _check_same_questions(found: Mapping[str, dict[str, Any]]) -> None:
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, result in found.items():
        for label, task in result["tasks"].items():
            other, theirs = first.setdefault(label, (name, task))
            if theirs["fingerprint"] != task["fingerprint"]:
                raise UserError(
                    f"--compare: {other} and {name} have answered other questions of {label} "
                    f"({theirs['source']}; {task['source']}): they cannot be compared"
                )


def to_markdown(found: Mapping[str, dict[str, Any]]) -> str:
    """All tables. `found`: name -> results.json; the first is the reference."""
    reference = next(iter(found))
    lines = [
        "# Comparison",
        "",
        f"Gains and AES (gamma {measures.AES_GAMMA:g}) against {reference}.",
        "",
        _ours(found),
        "",
    ]
    for name, result in found.items():
        lines += [
            f"{name} has other settings than {reference}: {change}."
            for change in folder_lib.differences(found[reference], result)
        ]
    source, rows, ablation = published()
    base = {row.model: row for row in rows if row.method == "base"}
    header = ["model", "method", "accuracy, %", "tokens", *_GAINS, "AES as printed"]
    cells = [
        [
            row.model,
            row.method,
            tables.percent(row.accuracy),
            f"{row.length:g}",
            *gains(row, base[row.model]),
            tables.number(row.aes, ".3f"),
        ]
        for row in rows
    ]
    maths = {
        name: r["averages"][_MATHEMATICS]
        for name, r in found.items()
        if _MATHEMATICS in r["averages"]
    }
    for name, entry in maths.items():  # the same measure as the paper's, so in the same table
        cells.append(
            [
                "here",
                name,
                tables.percent(entry["accuracy"]),
                f"{entry['length']:.0f}",
                *_against(entry, maths.get(reference)),
                "-",
            ]
        )
    lines += [
        "",
        "## Published",
        "",
        source,
        "",
        tables.table(header, cells, texts=2),
        "",
        f"Rewards of {ablation[0].model}:",
        "",
        tables.table(
            ["rewards", "accuracy, %", "tokens", *_GAINS],
            [
                [
                    row.method,
                    tables.percent(row.accuracy),
                    f"{row.length:g}",
                    *gains(row, base[row.model]),
                ]
                for row in ablation
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _ours(found: Mapping[str, dict[str, Any]]) -> str:
    """A row for each benchmark and result, benchmark by benchmark."""
    rows, reference = [], next(iter(found.values()))
    before = dict(tables.named(reference))
    order = dict.fromkeys(name for result in found.values() for name, _ in tables.named(result))
    for benchmark in sorted(
        order, key=lambda name: name.startswith("average, ")
    ):  # stable: averages come last
        for name, result in found.items():
            entry = dict(tables.named(result)).get(benchmark)
            if entry:
                rows.append(
                    [
                        benchmark,
                        name,
                        str(entry["questions"]),
                        tables.percent(entry["accuracy"]),
                        tables.span(entry),
                        f"{entry['length']:.1f}",
                        tables.percent(entry["clipped"]),
                        *_against(entry, before.get(benchmark)),
                    ]
                )
    header = [
        "benchmark",
        "result",
        "questions",
        "accuracy, %",
        "95 % interval",
        "tokens",
        "cut off, %",
        *_GAINS,
    ]
    return tables.table(header, rows, texts=2)


def _against(entry: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    """`gains` of two entries of results.json; dashes where the reference has none."""
    return gains(tables.as_result(entry), tables.as_result(base)) if base else ["-"] * len(_GAINS)


def panels(found: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, list[plots.Mark]]]]:
    """What is plotted: the mean over the benchmarks that all results have; then the paper's rows,
    and beside them results that have the same five sets."""
    shared = [
        label
        for label in next(iter(found.values()))["tasks"]
        if all(label in r["tasks"] for r in found.values())
    ]
    made = []
    if shared:
        means = {
            name: measures.mean_result([tables.as_result(r["tasks"][label]) for label in shared])
            for name, r in found.items()
        }
        made.append(
            (
                f"mean of {', '.join(shared)}",
                {"results": [plots.Mark(name, m.accuracy, m.length) for name, m in means.items()]},
            )
        )
    _, rows, _ = published()
    groups = {
        model: [plots.Mark(r.method, r.accuracy, r.length) for r in rows if r.model == model]
        for model in dict.fromkeys(r.model for r in rows)
    }
    ours = [
        plots.Mark(
            name, r["averages"][_MATHEMATICS]["accuracy"], r["averages"][_MATHEMATICS]["length"]
        )
        for name, r in found.items()
        if _MATHEMATICS in r["averages"]
    ]
    return [
        *made,
        ("published, five mathematics sets", groups | ({"results": ours} if ours else {})),
    ]
