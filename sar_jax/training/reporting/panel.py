"""The two rows that a terminal shows while a run goes on: a pure function of a state.

    step 12/50  accuracy 61.3% ▂▃▅▆  R_SA 0.281 ▃▃▄  length 45.2 ▆▅▄  1240 tok/s
    ▸score 3 s  rollout━━━━━━━━━━━━╸score━━━━━╸update━━━━━━━━━╸  2.1 s/step  1:20 left

The first row has what the last steps found, the second what happens now, how a step's time is
spent, and how long the rest takes. Rows are as wide as the terminal at most: what is less
important is left out of a narrow one, and a wide one has longer sparklines.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

KEPT = 60  # values of a sparkline that are kept
PHASES = ("rollout", "verify", "score", "reward", "update", "save", "evaluation")
_COLOURS = dict(zip(PHASES, ("cyan", "yellow", "blue", "red", "magenta", "white", "green")))
_GAP = 2  # columns between two parts of a row
_LEAST_SPARK, _LEAST_BAR = 4, 16  # columns, below which there is none


class Glyphs(NamedTuple):
    """What is drawn with. levels: of a sparkline, rising; missing: a value that is not finite."""

    levels: str
    missing: str
    line: str
    end: str
    now: str


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "·", "━", "╸", "▸")
ASCII = Glyphs("_.-=*#", " ", "-", "|", ">")


@dataclasses.dataclass
class State:
    """What the panel is drawn from.

    step, steps   the last step that has ended, of how many
    values        metrics of the last steps, oldest first, at most `KEPT` of each
    phase         what goes on, one of `PHASES` or ""; detail: more of it, such as "3 of 9"
    spent         seconds that a step spent in each phase, the last step's
    pace          seconds a step takes, on average
    """

    step: int
    steps: int
    values: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    phase: str = ""
    detail: str = ""
    spent: dict[str, float] = dataclasses.field(default_factory=dict)
    pace: float | None = None


class _Shown(NamedTuple):
    """A metric of the first row."""

    label: str
    name: str
    form: str
    scale: float = 1.0


# the more important first
_METRICS = (
    _Shown("accuracy", "accuracy", "{:.1f}%", 100),
    _Shown("length", "completions/mean_length", "{:.1f}"),
    _Shown("R_SA", "reward/self_aligned/mean", "{:.3f}"),
)
_SPEED = _Shown("tok/s", "tokens_per_second", "{:.0f}")
NAMES = tuple(metric.name for metric in (*_METRICS, _SPEED))


def rows(state: State, width: int, seconds: float = 0.0, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Two rows of at most `width` columns, which is at least 1.

    seconds   for which the phase has gone on
    """
    made = [_first(state, width, glyphs), _second(state, width, seconds, glyphs)]
    for row in made:
        row.truncate(width)
    return made


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs = UNICODE) -> str:
    """The last `width` values, from the lowest to the highest of them; one character each."""
    last = list(values)[-width:] if width > 0 else []
    finite = [v for v in last if math.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    top = len(glyphs.levels) - 1

    def level(value: float) -> str:
        if not math.isfinite(value):
            return glyphs.missing
        if high == low:
            return glyphs.levels[top // 2]
        return glyphs.levels[round(top * (value / 2 - low / 2) / (high / 2 - low / 2))]

    return "".join(map(level, last))


def duration(seconds: float) -> str:
    """Such as "9 s", "1:20", "2:03:00" or "3 d 4 h"."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours}:{minutes % 60:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"


def _first(state: State, width: int, glyphs: Glyphs) -> Text:
    row = Text(f"step {state.step}/{state.steps}", style="bold", no_wrap=True)
    shown = []
    left = width - row.cell_len
    if state.values.get(_SPEED.name):
        speed = _SPEED.form.format(state.values[_SPEED.name][-1]) + f" {_SPEED.label}"
    else:
        speed = ""
    for metric in _METRICS:
        values = state.values.get(metric.name)
        if not values:
            continue
        text = f"{metric.label} {metric.form.format(metric.scale * values[-1])}"
        if len(text) + _GAP > left:
            break
        left -= len(text) + _GAP
        shown.append((text, values))
    speed = speed if len(speed) + _GAP <= left else ""
    left -= len(speed) + _GAP if speed else 0
    # what is left is shared by the sparklines, each a blank behind its metric
    spark = min(left // len(shown) - 1, KEPT) if shown else 0
    for text, values in shown:
        label, _, value = text.partition(" ")
        row.append(" " * _GAP).append(f"{label} ", "dim").append(value, "bold")
        if spark >= _LEAST_SPARK and len(values) > 1:
            row.append(" ").append(sparkline(values, spark, glyphs), "cyan")
    if speed:
        row.append(" " * _GAP).append(speed, "dim")
    return row


def _second(state: State, width: int, seconds: float, glyphs: Glyphs) -> Text:
    what = " ".join(filter(None, (state.phase, state.detail)))
    row = Text(no_wrap=True)
    if what:
        row.append(f"{glyphs.now}{what} ", _COLOURS.get(state.phase, "bold"))
        row.append(duration(seconds), "dim")
    parts = []
    if state.pace is not None:
        parts.append(f"{duration(state.pace * (state.steps - state.step))} left")
        parts.insert(0, f"{state.pace:.1f} s/step")
    end = ""
    for part in reversed(parts):
        longer = f"  {part}{end}"
        if row.cell_len + cell_len(longer) <= width:
            end = longer
    left = width - row.cell_len - cell_len(end) - _GAP
    if left >= _LEAST_BAR and sum(state.spent.values()) > 0:
        row.append(" " * _GAP if row.cell_len else "")
        row.append_text(phase_bar(state.spent, min(left, 100), glyphs))
    return row.append(end, "dim")


def phase_bar(spent: dict[str, float], width: int, glyphs: Glyphs = UNICODE) -> Text:
    """Phases as parts of a line, each as long as its share and with its name where that fits."""
    total = sum(spent.values())
    bar, before, done = Text(no_wrap=True), 0, 0.0
    for name in PHASES:
        done += spent.get(name, 0.0)
        after = round(width * done / total)
        columns = after - before
        before = after
        if columns > 0:
            label = name if len(name) < columns else name[:1] if columns > 1 else ""
            bar.append((label + glyphs.line * columns)[: columns - 1] + glyphs.end, _COLOURS[name])
    return bar
