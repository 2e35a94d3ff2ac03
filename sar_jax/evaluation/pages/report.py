"""One page that tells what happened in a run, or in several beside each other.

What was trained and where the runs differ, curves, evaluations, accuracy against length, the same
question before and after, the most and least rewarded answers, and what could not be judged.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sar_jax.evaluation.pages import heatmap
from sar_jax.evaluation.pages.page import page
from sar_jax.evaluation.records import Results
from sar_jax.text import behaviours

_PAIRS = 40  # questions before and after, of each run
_ENDS = 8  # most, and least, rewarded answers of each run
_UNJUDGED = 20
_LONGEST = 6000  # characters of an answer that are shown
_MOST_TOKENS = 1500  # of an answer's heat map
_SHOWN = ("question", "truth", "answer", "correct", "verdict", "length", "clipped", "reward",
          "ppl_conditional", "ppl_standalone", "reward/self_aligned",
          "tokens", "token_values")  # fmt: skip


class Shown(NamedTuple):
    """A run as its workdir has it.

    config    settings by dotted path
    facts     versions, machine, days: text by name
    lines     of metrics.jsonl, by step
    before    the first evaluation's answers, and `after` the last one's: questions are their ids
    samples   the newest step's sampled answers
    """

    name: str
    config: Mapping[str, Any]
    facts: Mapping[str, str]
    lines: Sequence[Mapping[str, Any]]
    before: Sequence[Mapping[str, Any]] = ()
    after: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()


def report_page(runs: Sequence[Shown], results: Mapping[str, Results]) -> str:
    """The page's text. results: of evaluations, by the name of their folder."""
    names = ", ".join([run.name for run in runs] + list(results))
    data = {
        "runs": [_run(run) for run in runs],
        "config": differences([run.config for run in runs]),
        "results": [_results(name, found) for name, found in results.items()],
        **heatmap.scale(),
    }
    scripts = ("elements.js", "tokens.js", "charts.js", "report.js")
    return page(f"sar_jax: {names}", data, scripts)


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every setting with its value in each config; those that differ come first."""
    names = dict.fromkeys(name for config in configs for name in config)
    rows = [{"name": name, "values": [_text(c.get(name)) for c in configs]} for name in names]
    for row in rows:
        row["differs"] = len(set(row["values"])) > 1
    return sorted(rows, key=lambda row: not row["differs"])


def _run(run: Shown) -> dict[str, Any]:
    rewarded = sorted((s for s in run.samples if _number(s.get("reward"))), key=_reward)
    return {
        "name": run.name,
        "facts": dict(run.facts),
        "steps": [line["step"] for line in run.lines],
        "metrics": columns(run.lines),
        "alarms": alarms(run.lines),
        "pairs": pairs(run.before, run.after),
        "behaviours": [_shares(rows) for rows in (run.before, run.after)],
        "most": [_answer(s) for s in reversed(rewarded[-_ENDS:])],
        "least": [_answer(s) for s in rewarded[:_ENDS]],
        "unjudged": [_answer(s) for s in run.samples if s.get("verdict") == "error"][:_UNJUDGED],
    }


def _shares(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of answers that show each reasoning behaviour; {} without answers."""
    return behaviours.shares(str(row.get("answer") or "") for row in answers)


def _reward(sample: Mapping[str, Any]) -> float:
    return sample["reward"]


def columns(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Each metric's values over the lines; None where a line has none."""
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    value = lambda x: float(f"{x:.5g}") if _number(x) else None
    return {name: [value(line.get(name)) for line in lines] for name in names}


def alarms(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each alarm with the steps at which it was on."""
    found: dict[str, list[int]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("alarm/") and value:
                found.setdefault(name.removeprefix("alarm/"), []).append(line["step"])
    return [{"name": name, "steps": steps} for name, steps in found.items()]


def pairs(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The same question's answers in two evaluations.

    Those with heat maps come first, and of these and of the others those whose verdict changed.
    """
    later = {row["question"]: row for row in after}
    both = [(row, later[row["question"]]) for row in before if row["question"] in later]
    changed = lambda pair: pair[0]["correct"] != pair[1]["correct"]
    mapped = lambda pair: all(row.get("tokens") for row in pair)
    ordered = sorted(both, key=lambda pair: (not mapped(pair), not changed(pair)))[:_PAIRS]
    return [{"before": _answer(one), "after": _answer(other)} for one, other in ordered]


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _cut(row[name]) for name in _SHOWN if row.get(name) is not None}


def _cut(value: Any) -> Any:
    """A text, or a list of tokens or their values, to what is shown of it."""
    if isinstance(value, list):
        return [round(x, 3) if isinstance(x, float) else x for x in value[:_MOST_TOKENS]]
    is_long = isinstance(value, str) and len(value) > _LONGEST
    return value[:_LONGEST] + " \u2026" if is_long else value


def _results(name: str, found: Results) -> dict[str, Any]:
    rows = [
        {
            "name": label,
            "accuracy": entry.result.accuracy,
            "interval": list(entry.interval),
            "length": entry.result.length,
            "clipped": entry.result.clipped,
            "questions": entry.result.questions,
            "aes": entry.aes,
            "behaviours": entry.behaviours,
        }
        for label, entry in found.named().items()
    ]
    return {"name": name, "model": str(found.model), "rows": rows}


def _number(x: Any) -> bool:
    return isinstance(x, (int, float)) and math.isfinite(x)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
