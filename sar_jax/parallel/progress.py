"""Progress of what takes long, by the first process alone: a bar on the terminals that can show it,
else a line now and then."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

_PER_SECOND = 4  # drawings
_SECONDS = 30.0  # between two lines


class _Console(Console):
    """Never hides the cursor, so that nothing has to be mended where the process is killed.

    What it prints is not wrapped: a terminal does that, and keeps lines that are copied whole.
    """

    def show_cursor(self, show: bool = True) -> bool:
        return False


def make_console(file: IO[str]) -> Console:
    """For what moves: a bar, or a panel, and lines above it."""
    # COLUMNS and LINES, where they are exported, are not those of a window that is resized
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    return _Console(
        file=file,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
        _environ=environment,
    )


def is_live(file: Any) -> bool:
    """Can it show what moves? A terminal can, unless it is a dumb one or a notebook's.

    file   stdout or stderr, or what replaces it
    """
    try:
        is_terminal = file.isatty()
    except (AttributeError, ValueError):  # no file, or a closed one
        return False
    if not is_terminal or is_notebook(os.environ):
        return False
    console = make_console(file)
    return console.is_terminal and not console.is_dumb_terminal


def is_notebook(environment: Mapping[str, str]) -> bool:
    """Is this environment of a notebook's `!python`, which looks like a terminal?"""
    backend = environment.get("MPLBACKEND", "")
    return "JPY_PARENT_PID" in environment or backend.startswith("module://matplotlib_inline")


class _Amount(ProgressColumn):
    """Done of how much, and how fast."""

    def __init__(self, unit: str):
        self.unit = unit
        super().__init__()

    def render(self, task: Any) -> str:
        done = short(task.completed)
        of = f"/{short(task.total)}" if task.total else ""
        speed = f" {short(task.finished_speed or task.speed)}/s" if task.speed else ""
        return f"{done}{of} {self.unit}{speed}"


def short(number: float) -> str:
    """Such as 12, 3.4k, 270M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.1f}{letter}" if scaled < 100 else f"{scaled:.0f}{letter}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


class Bar:
    """A bar, or lines. advance: what has been done more; tell: words beside the bar."""

    def __init__(self, made: Progress | None, total: float | None, done: float, what: str):
        self.made, self.what = made, what
        self.task = made.add_task(what, total=total, completed=done) if made else None

    def advance(self, amount: float = 1) -> None:
        if self.made:
            self.made.advance(self.task, amount)

    def tell(self, words: str) -> None:
        if self.made:
            self.made.update(self.task, description=f"{self.what} {words}")


class _Lines(Bar):
    """A line on stderr, at most every `_SECONDS`, for logs."""

    def __init__(self, total: float | None, done: float, what: str, unit: str):
        super().__init__(None, total, done, what)
        self.total, self.unit, self.before, self.done = total, unit, done, done
        self.began = self.told = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.told < _SECONDS:
            return
        self.told = now
        of = f"/{short(self.total)}" if self.total else ""
        speed = (self.done - self.before) / max(now - self.began, 1e-9)
        line = f"{self.what}: {short(self.done)}{of} {self.unit}, {short(speed)}/s"
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(what: str, unit: str, total: float | None = None, done: float = 0) -> Iterator[Bar]:
    """A bar on stderr while the block runs; lines where stderr is no terminal.

    what    is done
    unit    of total and of `Bar.advance`
    total   None where it is not known
    done    of it, before
    """
    is_other = jax.distributed.is_initialized() and jax.process_index() > 0
    if is_other:
        yield Bar(None, total, done, what)
        return
    if not is_live(sys.stderr):
        yield _Lines(total, done, what, unit)
        return
    made = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None if total else 10),
        _Amount(unit),
        TimeRemainingColumn(compact=True),
        console=make_console(sys.stderr),
        refresh_per_second=_PER_SECOND,
        redirect_stdout=is_live(sys.stdout),
        transient=True,
    )
    with made:
        yield Bar(made, total, done, what)
