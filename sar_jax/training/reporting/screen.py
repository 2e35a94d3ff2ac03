"""What a run prints: sampled answers, alarms, and the table at its end. `live` has its progress."""

import re
from collections.abc import Callable
from typing import Any

from etils import epath
from rich.console import Console
from rich.table import Table

from sar_jax.evaluation.measures import aes
from sar_jax.evaluation.records import Result
from sar_jax.rl.alarms import Watch

_PREFIX = "eval/"
# control characters but tab and newline; marks of direction
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(result: Result) -> str:
    return (
        f"accuracy {100 * result.accuracy:.1f} %, {result.length:.1f} tokens an answer, "
        f"{100 * result.clipped:.1f} % cut off ({result.questions} questions, greedy)"
    )


def visible(text: str) -> str:
    """Text without what a terminal would obey or reorder: that is shown as its code."""
    return _HIDDEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def show_samples(step: int, samples: list[dict[str, Any]]) -> None:
    """A few of the step's answers, with their rewards."""
    for s in samples:
        rewards = {k.removeprefix("reward/"): v for k, v in s.items() if k.startswith("reward/")}
        parts = ", ".join(f"{name} {value:.3f}" for name, value in rewards.items())
        verdict = "right" if s["correct"] else f"wrong, the answer is {s['truth']}"
        question, answer = (visible(s[name]) for name in ("question", "answer"))
        print(
            f"\n[step {step}] {question}\n  -> {answer}\n"
            f"     {visible(verdict)}; {s['length']} tokens; {parts}\n",
            flush=True,
        )


def alarm(
    step: int,
    watch: Watch,
    metrics: dict[str, float],
    alert: Callable[[int, str], None] = lambda step, text: None,
) -> dict[str, float]:
    """Tells what is newly alarming about the step, and returns the metrics of all alarms.

    alert   is told too
    """
    found, news = watch.see(metrics)
    for text in news:
        alert(step, text)
        print(f"\nALARM at step {step}: {text}\n", flush=True)
    return found


def _results(lines: list[dict[str, float]]) -> dict[int, Result]:
    """Step -> evaluation, from the lines of metrics.jsonl."""
    found = {}
    for line in lines:
        if f"{_PREFIX}accuracy" in line:
            own = {k.removeprefix(_PREFIX): v for k, v in line.items() if k.startswith(_PREFIX)}
            found[line["step"]] = Result(**dict(length_correct=None, length_unclipped=None) | own)
    return found


def print_summary(console: Console, lines: list[dict[str, float]], workdir: epath.Path) -> None:
    """The table before -> after, and where everything was written."""
    results = _results(lines)
    if results:
        first, last = results[min(results)], results[max(results)]
        table = Table(title=f"greedy evaluation, {last.questions} questions")
        before, after = f"before (step {min(results)})", f"after (step {max(results)})"
        for column in ("", before, after, "change"):
            table.add_column(column, justify="right" if column else "left")
        table.add_row(
            "accuracy",
            f"{100 * first.accuracy:.1f} %",
            f"{100 * last.accuracy:.1f} %",
            f"{100 * (last.accuracy - first.accuracy):+.1f} points",
        )
        table.add_row(
            "tokens an answer",
            f"{first.length:.1f}",
            f"{last.length:.1f}",
            f"{100 * (last.length / first.length - 1):+.1f} %",
        )
        table.add_row(
            "cut off at the limit",
            f"{100 * first.clipped:.1f} %",
            f"{100 * last.clipped:.1f} %",
            f"{100 * (last.clipped - first.clipped):+.1f} points",
        )
        table.add_row("AES (gamma 5)", "0", f"{aes(last, first):.3f}", "")
        console.print(table)
    written = {
        "page to look at": "report.html",
        "metrics": "metrics.jsonl",
        "TensorBoard": "tensorboard",
        "sampled answers": "samples",
        "checkpoints": "checkpoints",
        "config": "config.json",
    }
    if not (workdir / "tensorboard").is_dir():
        del written["TensorBoard"]
    for what, name in written.items():
        console.print(f"{what:16} {workdir / name}", soft_wrap=True, highlight=False)
    console.print(
        f"{'to Hugging Face':16} python -m sar_jax.export --workdir={workdir} --output=HF_DIR",
        soft_wrap=True,
        highlight=False,
    )
