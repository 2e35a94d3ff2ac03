"""Accuracy against length, as PNG. Drawn on matplotlib's own canvas: no display and no window
system is needed."""

import collections
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from sar_jax.evaluation import measures

_COLOURS = ("#1f6f8b", "#c8553d", "#5b8c3e", "#7d5ba6", "#b8860b", "#4a4a4a", "#d06a9c")
_SHAPES = "os^vDPX"


class Mark(NamedTuple):
    """A point of a plot: accuracy as a share, with its interval if there is one; tokens."""

    name: str
    accuracy: float
    length: float
    interval: Sequence[float] | None = None


def mark(name: str, entry: Mapping[str, Any]) -> Mark:
    """Of an entry of results.json."""
    return Mark(name, entry["accuracy"], entry["length"], entry["interval"])


def accuracy_length(found: dict[str, Any], base: dict[str, Any] | None, path: pathlib.Path) -> None:
    """One evaluation: a point a benchmark; with a reference, an arrow from where that one
    stands."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = _axes(figure, 111, found["model"]["path"])
    entries = [(kind, *pair) for kind in ("tasks", "averages") for pair in found[kind].items()]
    for i, (kind, name, entry) in enumerate(entries):
        colour = _COLOURS[i % len(_COLOURS)]
        _draw(axes, mark(name, entry), colour, "o" if kind == "tasks" else "D")
        if base and name in base[kind]:
            before = mark(name, base[kind][name])
            axes.plot(
                before.length, 100 * before.accuracy, "o", markerfacecolor="none", color=colour
            )
            axes.annotate(
                "",
                (entry["length"], 100 * entry["accuracy"]),
                (before.length, 100 * before.accuracy),
                arrowprops={"arrowstyle": "->", "color": colour},
            )
    _save(figure, path)


def pareto(panels: Sequence[tuple[str, Mapping[str, Sequence[Mark]]]], path: pathlib.Path) -> None:
    """Panels side by side, each a title and groups of marks; a line joins those of a group that no
    other of it beats.

    A group has a colour. A name that several groups have gets a shape of its own, other names stand
    at their points."""
    figure = Figure(figsize=(7 * len(panels), 5.5), layout="constrained")
    for i, (title, groups) in enumerate(panels):
        axes = _axes(figure, (1, len(panels), i + 1), title)
        counts = collections.Counter(m.name for marks in groups.values() for m in marks)
        shapes = dict(
            zip((name for name, count in counts.items() if count > 1), itertools.cycle(_SHAPES))
        )
        for colour, (group, marks) in zip(itertools.cycle(_COLOURS), groups.items()):
            for m in marks:
                _draw(axes, m, colour, shapes.get(m.name, "*"), named=m.name not in shapes)
            front = [marks[k] for k in measures.pareto(marks)]
            axes.plot(
                [m.length for m in front],
                [100 * m.accuracy for m in front],
                color=colour,
                alpha=0.6,
                label=group,
            )
        for name, shape in shapes.items():
            axes.plot([], [], shape, color="gray", label=name)
        axes.legend(fontsize="small", ncols=2)
    _save(figure, path)


def _save(figure: Figure, path: pathlib.Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(partial, dpi=150, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _axes(figure: Figure, place: Any, title: str) -> Any:
    axes = figure.add_subplot(*(place if isinstance(place, tuple) else (place,)))
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("mean tokens an answer")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    return axes


def _draw(axes: Any, m: Mark, colour: str, shape: str, named: bool = True) -> None:
    ends = (
        [[max(m.accuracy - m.interval[0], 0)], [max(m.interval[1] - m.accuracy, 0)]]
        if m.interval
        else None
    )
    axes.errorbar(
        m.length,
        100 * m.accuracy,
        yerr=ends and [[100 * x for x in end] for end in ends],
        fmt=shape,
        color=colour,
        capsize=3,
    )
    if named:
        axes.annotate(
            m.name,
            (m.length, 100 * m.accuracy),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize="small",
            color=colour,
        )
