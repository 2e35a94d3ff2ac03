"""Answers in a results folder -> results.json, a Markdown table, and a plot.

Averages over benchmarks are plain means, whatever the benchmarks' sizes, as in the paper's tables;
they exist when all of their benchmarks are there.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from sar_jax.errors import UserError
from sar_jax.evaluation import folder as folder_lib
from sar_jax.evaluation import measures, plots
from sar_jax.evaluation.records import Entry, Reference, Results, Settings
from sar_jax.files import write_atomically
from sar_jax.text import behaviours

AVERAGES: Mapping[str, tuple[str, ...]] = {
    "mathematics": ("gsm8k", "math", "numina", "gsm_symbolic", "aime"),
    "out of domain": ("logicbench", "prontoqa"),
}


def check_reference(base: Results, settings: Settings, folder: pathlib.Path) -> None:
    """Raises `UserError` where the reference's answers are to different questions of a benchmark.

    folder   of the reference
    """
    for label, task in settings.tasks.items():
        there = base.tasks[label].task if label in base.tasks else None
        if there and there.fingerprint != task.fingerprint:
            raise UserError(
                f"--reference: {folder} holds answers to different questions of {label} "
                f"({there.source} there, {task.source} now): they cannot be compared"
            )


def collect(folder: pathlib.Path, ks: Sequence[int], base: Results | None) -> Results:
    """The results of the benchmarks that the folder has finished.

    ks     of pass@k, where there are several samples a question
    base   the reference's results
    """
    settings = folder_lib.read_settings(folder)
    tasks: dict[str, Entry] = {}
    shares: dict[str, np.ndarray] = {}
    for label, task in settings.tasks.items():
        if not folder_lib.is_finished(folder, label):
            continue
        answers = folder_lib.read_answers(folder, label)
        shares[label] = measures.correct_shares(answers)
        several = {}
        if settings.decoding["samples"] > 1:
            several = measures.several(answers, ks)
        interval = measures.interval([shares[label]])
        shown = behaviours.shares(answer.answer for answer in answers)
        result = measures.summarise(answers)
        tasks[label] = Entry(result, interval, several, task=task, behaviours=shown)
    averages = {
        name: _average(labels, tasks, shares)
        for name, labels in AVERAGES.items()
        if all(label in tasks for label in labels)
    }
    found = Results(settings.model, settings.decoding, tasks, averages)
    return found if base is None else _against(found, base)


def _average(
    labels: tuple[str, ...], tasks: Mapping[str, Entry], shares: Mapping[str, np.ndarray]
) -> Entry:
    entries = [tasks[label] for label in labels]
    several = {
        name: sum(entry.several[name] for entry in entries) / len(entries)
        for name in entries[0].several
    }
    mean = measures.mean_result([entry.result for entry in entries])
    interval = measures.interval([shares[label] for label in labels])
    return Entry(mean, interval, several, of=labels)


def _against(found: Results, base: Results) -> Results:
    """With AES where the reference has the same benchmark or average."""

    def scored(entries: Mapping[str, Entry], theirs: Mapping[str, Entry]) -> dict[str, Entry]:
        compare = lambda name, entry: dataclasses.replace(entry, aes=_aes(entry, theirs[name]))
        return {
            name: compare(name, entry) if name in theirs else entry
            for name, entry in entries.items()
        }

    compared = {name for name in found.tasks if name in base.tasks}
    compared |= {name for name in found.averages if name in base.averages}
    differs = folder_lib.differences(base.decoding, found.decoding)
    return dataclasses.replace(
        found,
        tasks=scored(found.tasks, base.tasks),
        averages=scored(found.averages, base.averages),
        reference=Reference(base.model, differs),
        compared=frozenset(compared),
    )


def _aes(entry: Entry, base: Entry) -> float | None:
    """None where the reference has nothing right."""
    value = measures.aes(entry.result, base.result)
    return None if math.isnan(value) else value


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table, aligned so that it can be read as it is.

    texts   the first columns, which are text; the others are figures
    """
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        return "| " + " | ".join(cells) + " |"

    ends = ["-" if i < texts else ":" for i in range(len(widths))]
    rule = "|".join("-" * (width + 1) + end for width, end in zip(widths, ends))
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def percent(share: float) -> str:
    """A share in percent, with two decimals."""
    return f"{100 * share:.2f}"


def number(value: float | None, form: str = ".1f") -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def span(entry: Entry) -> str:
    """The 95 % interval of an accuracy, in percent."""
    return " to ".join(f"{100 * end:.1f}" for end in entry.interval)


def to_markdown(found: Results) -> str:
    """One evaluation for people."""
    how, model = found.decoding, found.model
    samples = "greedy"
    if how["samples"] > 1:
        samples = f"{how['samples']} samples a question, {how['decoding']}"
    step = "" if model.step is None else f", step {model.step}"
    lines = [
        f"# {model.path}{step}",
        "",
        f"{samples}, at most {how['max_answer_tokens']} tokens an answer.",
        "",
        _main_table(found),
        "",
        *behaviours_table({"": found}),
        *_notes(found),
    ]
    return "\n".join(lines) + "\n"


def _main_table(found: Results) -> str:
    """A row for each benchmark and average."""
    several = list(next(iter(found.tasks.values())).several)
    aes = ["AES"] if found.compared else []
    header = ["benchmark", "questions", "accuracy, %", "95 % interval", "tokens", "if right"]
    header += ["if not cut off", "cut off, %", "not judged, %"]
    header += [f"{name}, %" for name in several] + aes
    rows = []
    for name, entry in found.named().items():
        r = entry.result
        row = [name, str(r.questions), percent(r.accuracy), span(entry)]
        row += [number(x) for x in (r.length, r.length_correct, r.length_unclipped)]
        row += [percent(r.clipped), percent(r.errors)]
        row += [percent(entry.several[name]) for name in several]
        rows.append(row + [number(entry.aes, ".3f") for _ in aes])
    return table(header, rows)


def behaviours_table(found: Mapping[str, Results]) -> list[str]:
    """Lines of a table of reasoning behaviours, benchmark by benchmark; [] where none was seen.

    found   results by name, which a single one does not need
    """
    labels = dict.fromkeys(label for result in found.values() for label in result.tasks)
    rows, seen = [], False
    for label in labels:
        for name, result in found.items():
            counted = result.tasks[label].behaviours if label in result.tasks else {}
            if counted.keys() >= {*behaviours.NAMES}:
                names = [label, name] if len(found) > 1 else [label]
                seen |= any(counted.values())
                rows.append([*names, *(percent(counted[b]) for b in behaviours.NAMES)])
    if not seen:
        return []
    header = ["benchmark", "result"] if len(found) > 1 else ["benchmark"]
    title = "Share of answers that show a reasoning behaviour, by their words (%):"
    shown = table([*header, *behaviours.NAMES], rows, texts=len(header))
    return [title, "", shown, ""]


def _notes(found: Results) -> list[str]:
    """What is left out, and what the figures are compared with."""
    lines, longest = [], found.decoding["max_prompt_tokens"]
    for name, entry in found.tasks.items():
        if entry.task.left_out:
            lines.append(
                f"{name}: {entry.task.left_out} questions were left out because their prompts are "
                f"longer than {longest} tokens."
            )
    for name, labels in AVERAGES.items():
        absent = [label for label in labels if label not in found.tasks]
        if 0 < len(absent) < len(labels):
            lines.append(f"No average of {name}: {', '.join(absent)} not evaluated.")
    if found.reference:
        lines.append(f"AES against {found.reference.model.path}.")
        for change in found.reference.differs:
            lines.append(f"The reference was made with other settings: {change}.")
    return lines


def write(folder: pathlib.Path, ks: Sequence[int], base: Results | None) -> None:
    """Writes the three files, prints the table and where everything is. See `collect`."""
    found = collect(folder, ks, base)
    markdown = to_markdown(found)
    folder_lib.write_json(folder / "results.json", found.to_json())
    write_atomically(folder / "results.md", markdown)
    png = folder / "accuracy_length.png"
    said = {
        "results": folder / "results.json",
        "table": folder / "results.md",
        "plot": plots.told(png, plots.accuracy_length, found, base),
        "answers": folder / "answers",
    }
    print(f"\n{markdown}")
    for what, place in said.items():
        print(f"{what:8} {place}")
