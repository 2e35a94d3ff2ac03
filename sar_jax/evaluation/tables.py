"""Answers in a results folder -> results.json, a Markdown table, and the plot of accuracy against
length.

Averages over benchmarks are plain means, whatever the benchmarks' sizes, as in the paper's tables;
they exist when all of their benchmarks are there."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from sar_jax.errors import UserError
from sar_jax.evaluation import folder as folder_lib
from sar_jax.evaluation import measures, plots
from sar_jax.files import write_atomically

AVERAGES: Mapping[str, tuple[str, ...]] = {
    "mathematics": ("gsm8k", "math", "numina", "gsm_symbolic", "aime"),
    "out of domain": ("logicbench", "prontoqa"),
}


def as_result(fields: Mapping[str, Any]) -> measures.Result:
    """The `Result` of an entry of results.json."""
    return measures.Result(**{f.name: fields[f.name] for f in dataclasses.fields(measures.Result)})


def check_reference(base: dict[str, Any], settings: dict[str, Any], folder: pathlib.Path) -> None:
    """Raises `UserError` where the reference has answered other questions of one of the
    benchmarks."""
    for label, task in settings["tasks"].items():
        if label in base["tasks"] and base["tasks"][label]["fingerprint"] != task["fingerprint"]:
            raise UserError(
                f"--reference: {folder} has answered other questions of {label} "
                f"({base['tasks'][label]['source']} there, {task['source']} now): they cannot be compared"
            )


def collect(folder: pathlib.Path, ks: Sequence[int], base: dict[str, Any] | None) -> dict[str, Any]:
    """results.json of the benchmarks that the folder has finished; `base`: that of the
    reference."""
    settings = folder_lib.read_settings(folder)
    samples, shares, entries = settings["decoding"]["samples"], {}, {}
    for label, task in settings["tasks"].items():
        if not folder_lib.is_finished(folder, label):
            continue
        answers = folder_lib.read_answers(folder, label)
        shares[label] = measures.correct_shares(answers)
        entries[label] = {
            **task,
            **_entry(measures.summarise(answers), [shares[label]]),
            **(measures.several(answers, ks) if samples > 1 else {}),
        }
    averages = {}
    for name, labels in AVERAGES.items():
        if all(label in entries for label in labels):
            mean = measures.mean_result([as_result(entries[label]) for label in labels])
            several = {
                m: sum(entries[label][m] for label in labels) / len(labels)
                for m in entries[labels[0]]
                if "@" in m
            }
            averages[name] = {
                "of": list(labels),
                **_entry(mean, [shares[label] for label in labels]),
                **several,
            }
    found = {
        "model": settings["model"],
        "decoding": settings["decoding"],
        "tasks": entries,
        "averages": averages,
    }
    if base:
        found["reference"] = {
            "model": base["model"],
            "differs": folder_lib.differences(base, settings),
        }
        for kind in ("tasks", "averages"):
            for name, entry in found[kind].items():
                if name in base[kind]:
                    entry["aes"] = aes(entry, base[kind][name])
    return found


def aes(entry: Mapping[str, Any], base: Mapping[str, Any]) -> float | None:
    """Of two entries of results.json; None where the reference has nothing right."""
    value = measures.aes(as_result(entry), as_result(base))
    return None if math.isnan(value) else value


def _entry(result: measures.Result, shares: list) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "interval": list(measures.interval(shares))}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table, aligned so that it can be read as it is; the first `texts` columns are
    text, the others figures."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    line = lambda row: (
        "| "
        + " | ".join(
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        + " |"
    )
    rule = (
        "|"
        + "|".join(
            "-" * (width + 1) + ("-" if i < texts else ":") for i, width in enumerate(widths)
        )
        + "|"
    )
    return "\n".join([line(header), rule, *map(line, rows)])


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def number(value: float | None, form: str = ".1f") -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def span(entry: Mapping[str, Any]) -> str:
    """The 95 % interval of an accuracy, in percent."""
    return " to ".join(f"{100 * end:.1f}" for end in entry["interval"])


def named(found: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a table: every benchmark, then the averages."""
    return [
        *found["tasks"].items(),
        *((f"average, {name}", entry) for name, entry in found["averages"].items()),
    ]


def to_markdown(found: dict[str, Any]) -> str:
    """One evaluation for people."""
    model, how = found["model"], found["decoding"]
    several = [m for m in next(iter(found["tasks"].values())) if "@" in m]
    with_aes = any("aes" in entry for _, entry in named(found))
    header = [
        "benchmark",
        "questions",
        "accuracy, %",
        "95 % interval",
        "tokens",
        "if right",
        "if not cut off",
        "cut off, %",
        "not judged, %",
        *(f"{m}, %" for m in several),
        *(["AES"] if with_aes else []),
    ]
    rows = [
        [
            name,
            str(e["questions"]),
            percent(e["accuracy"]),
            span(e),
            number(e["length"]),
            number(e["length_correct"]),
            number(e["length_unclipped"]),
            percent(e["clipped"]),
            percent(e["errors"]),
            *(percent(e[m]) for m in several),
            *([number(e.get("aes"), ".3f")] if with_aes else []),
        ]
        for name, e in named(found)
    ]
    samples = (
        "greedy"
        if how["samples"] == 1
        else f"{how['samples']} samples a question, {how['decoding']}"
    )
    step = "" if model["step"] is None else f", step {model['step']}"
    lines = [
        f"# {model['path']}{step}",
        "",
        f"{samples}, at most {how['max_answer_tokens']} tokens an answer.",
        "",
        table(header, rows),
        "",
    ]
    for name, entry in found["tasks"].items():
        if entry["left_out"]:
            lines.append(
                f"{name}: {entry['left_out']} questions left out, their prompts are longer than "
                f"{how['max_prompt_tokens']} tokens."
            )
    for name, labels in AVERAGES.items():
        absent = [label for label in labels if label not in found["tasks"]]
        if 0 < len(absent) < len(labels):
            lines.append(f"No average of {name}: {', '.join(absent)} not evaluated.")
    if "reference" in found:
        lines.append(f"AES against {found['reference']['model']['path']}.")
        lines += [
            f"The reference was made with other settings: {change}."
            for change in found["reference"]["differs"]
        ]
    return "\n".join(lines) + "\n"


def write(folder: pathlib.Path, ks: Sequence[int], base: dict[str, Any] | None) -> None:
    """Writes the three files, prints the table and where everything is."""
    found = collect(folder, ks, base)
    markdown = to_markdown(found)
    folder_lib.write_json(folder / "results.json", found)
    write_atomically(folder / "results.md", markdown)
    plots.accuracy_length(found, base, folder / "accuracy_length.png")
    print(f"\n{markdown}")
    for what, name in (
        ("results", "results.json"),
        ("table", "results.md"),
        ("plot", "accuracy_length.png"),
        ("answers", "answers"),
    ):
        print(f"{what:8} {folder / name}")
