"""What a plan says while it is made: a bar on a terminal, lines elsewhere, and rows as they come.

stderr   which program of how many is compiled, and the seconds so far
stdout   what each program takes, as soon as it is known
"""

import contextlib
import os
import sys
import threading
import time

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn

from sar_jax.parallel import progress
from sar_jax.planning import tables
from sar_jax.planning.measured import Head, Measured, Watch

_PER_SECOND = 4  # drawings
_SECONDS = 30.0  # between two lines while one program is compiled


class Told(Watch):
    """Says it on stderr. rows: and prints a head and a row for each program on stdout.

    To be used as a context: the bar is there meanwhile.
    """

    def __init__(self, rows: bool = True):
        self._rows = rows
        self._slice = ""
        self._table: tables.Memory | None = None
        self._said = _Bar() if progress.is_live(sys.stderr) else _Lines()

    def __enter__(self) -> "Told":
        self._said.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._said.stop()

    def begin(self, head: Head) -> None:
        self._slice = f"{head.topology}: "
        if self._rows:
            self._table = tables.Memory(head)
            print(*tables.head(head), *self._table.header, sep="\n", flush=True)

    def tell(self, what: str, number: int = 0, count: int = 0) -> None:
        self._said.tell(f"{self._slice}{what}", number, count)

    def found(self, name: str, program: Measured) -> None:
        if self._table is not None:
            print(self._table.row(name, program), flush=True)


class _Elapsed(ProgressColumn):
    """Since the command began to plan."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        super().__init__()

    def render(self, task: Task) -> str:
        return f"{time.monotonic() - self._began:.0f} s so far"


class _Bar:
    """On a terminal. It has a stderr of its own: that of C++ is turned off now and then."""

    def start(self) -> None:
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(open(os.dup(sys.stderr.fileno()), "w", encoding="utf-8"))
            self._made = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[of]}", markup=False),
                _Elapsed(),
                console=progress.make_console(own),
                refresh_per_second=_PER_SECOND,
                redirect_stdout=progress.is_live(sys.stdout),
                transient=True,
            )
            self._task = self._made.add_task("loading the model's code", total=None, of="")
            stack.enter_context(self._made)
            self._open = stack.pop_all()

    def tell(self, what: str, number: int, count: int) -> None:
        done, of = max(number - 1, 0), f"{number} of {count} programs" if number else ""
        total = count if number else None
        self._made.update(self._task, description=what, completed=done, total=total, of=of)

    def stop(self) -> None:
        self._open.close()


class _Lines:
    """On stderr, for logs: where something begins, and now and then while it goes on."""

    def start(self) -> None:
        self._began, self._now, self._ended = time.monotonic(), "", threading.Event()
        self._new = threading.Event()
        threading.Thread(target=self._go_on, daemon=True).start()

    def tell(self, what: str, number: int, count: int) -> None:
        self._now = f"{what}, {number} of {count}" if number else what
        self._new.set()
        self._say(self._now)

    def stop(self) -> None:
        self._ended.set()
        self._new.set()

    def _go_on(self) -> None:
        while not self._ended.is_set():
            if not self._new.wait(_SECONDS) and self._now:
                self._say(f"{self._now}, still")
            self._new.clear()

    def _say(self, words: str) -> None:
        spent = time.monotonic() - self._began
        with contextlib.suppress(ValueError, OSError):  # closed, or nobody reads it
            print(f"{words} ({spent:.0f} s so far)", file=sys.stderr, flush=True)
