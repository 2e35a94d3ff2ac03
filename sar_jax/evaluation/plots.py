"""Accuracy against length, as PNG.

Drawn on matplotlib's own canvas: no display and no window system is needed. matplotlib comes with
the extra `plot`; it is imported once something is drawn.
"""

import collections
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sar_jax.errors import UserError
from sar_jax.evaluation import measures
from sar_jax.evaluation.records import Entry, Results

_COLOURS = ("#1f6f8b", "#c8553d", "#5b8c3e", "#7d5ba6", "#b8860b", "#4a4a4a", "#d06a9c")
_SHAPES = "os^vDPX"
_ROUNDS = 500  # of moving names, at most: the same picture each time


class Mark(NamedTuple):
    """A point of a plot: accuracy as a share, with its interval if there is one; tokens."""

    name: str
    accuracy: float
    length: float
    interval: Sequence[float] | None = None


class Panel(NamedTuple):
    """One plot: groups of marks by name."""

    title: str
    groups: Mapping[str, Sequence[Mark]]


def figure(**options: Any) -> Any:
    """A `matplotlib.figure.Figure`. Raises `UserError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            f"drawing needs matplotlib ({error}): pip install 'sar_jax[plot]'"
        ) from None
    return Figure(**options)


def told(path: pathlib.Path, draw: Callable[..., None], *what: Any) -> str:
    """Draws to `path`, and gives the words for the screen: where the plot is, or why there is none.

    draw   `accuracy_length` or `pareto`; what: its arguments before the path
    """
    try:
        draw(*what, path)
    except UserError as error:
        return f"none: {error}"
    return str(path)


def mark(name: str, entry: Entry) -> Mark:
    """The point of a benchmark or an average."""
    return Mark(name, entry.result.accuracy, entry.result.length, entry.interval)


def accuracy_length(found: Results, base: Results | None, path: pathlib.Path) -> None:
    """One evaluation: a point a benchmark; with a reference, an arrow from where that one is."""
    drawn = figure(figsize=(7, 5), layout="constrained")
    axes = _axes(drawn, 111, found.model.path)
    names = []
    theirs = {} if base is None else {**base.tasks, **base.averages}
    for i, (name, entry) in enumerate({**found.tasks, **found.averages}.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        here = mark(name, entry)
        _draw(axes, here, colour, "o" if name in found.tasks else "D")
        names.append(_name(axes, here, colour))
        if name in theirs:
            before = mark(name, theirs[name])
            there = (before.length, 100 * before.accuracy)
            axes.plot(*there, "o", markerfacecolor="none", color=colour)
            arrow = {"arrowstyle": "->", "color": colour}
            axes.annotate("", (here.length, 100 * here.accuracy), there, arrowprops=arrow)
    _spread(drawn, [(axes, names)])
    _save(drawn, path)


def pareto(panels: Sequence[Panel], path: pathlib.Path) -> None:
    """Panels side by side; a line joins the points of a group that no other of it beats.

    A group has a colour. A name that several groups have gets a shape of its own; other names are
    written at their points.
    """
    drawn = figure(figsize=(7 * len(panels), 5.5), layout="constrained")
    written = []  # each panel's axes and names
    for i, panel in enumerate(panels):
        axes = _axes(drawn, (1, len(panels), i + 1), panel.title)
        counts = collections.Counter(m.name for marks in panel.groups.values() for m in marks)
        shared = [name for name, count in counts.items() if count > 1]
        shapes = dict(zip(shared, itertools.cycle(_SHAPES)))
        names: list[Any] = []
        for colour, (group, marks) in zip(itertools.cycle(_COLOURS), panel.groups.items()):
            for m in marks:
                _draw(axes, m, colour, shapes.get(m.name, "*"))
                if m.name not in shapes:
                    names.append(_name(axes, m, colour))
            front = [marks[k] for k in measures.pareto(marks)]
            lengths, accuracies = [m.length for m in front], [100 * m.accuracy for m in front]
            axes.plot(lengths, accuracies, color=colour, alpha=0.6, label=group)
        for name, shape in shapes.items():
            axes.plot([], [], shape, color="gray", label=name)
        axes.legend(fontsize="small", ncols=2)
        written.append((axes, names))
    _spread(drawn, written)
    _save(drawn, path)


def _save(drawn: Any, path: pathlib.Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        drawn.savefig(partial, dpi=150, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _axes(drawn: Any, place: Any, title: str) -> Any:
    axes = drawn.add_subplot(*(place if isinstance(place, tuple) else (place,)))
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("mean tokens an answer")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    return axes


def _draw(axes: Any, m: Mark, colour: str, shape: str) -> None:
    place, ends = (m.length, 100 * m.accuracy), None
    if m.interval:
        low, high = m.interval
        ends = [[100 * max(m.accuracy - low, 0)], [100 * max(high - m.accuracy, 0)]]
    axes.errorbar(*place, yerr=ends, fmt=shape, color=colour, capsize=3)


def _name(axes: Any, m: Mark, colour: str) -> Any:
    return axes.text(m.length, 100 * m.accuracy, m.name, fontsize="small", color=colour)


def _spread(drawn: Any, written: Sequence[tuple[Any, Sequence[Any]]]) -> None:
    """Moves names off each other and off the points, and into the axes.

    Raises `UserError` without adjustText.
    """
    try:
        from adjustText import adjust_text
    except ImportError as error:
        raise UserError(
            f"drawing needs adjustText ({error}): pip install 'sar_jax[plot]'"
        ) from None
    drawn.draw_without_rendering()  # where the axes are is known from here on
    line = {"arrowstyle": "-", "color": "gray", "lw": 0.5}
    for axes, names in written:
        if names:
            adjust_text(list(names), ax=axes, iter_lim=_ROUNDS, arrowprops=line)
