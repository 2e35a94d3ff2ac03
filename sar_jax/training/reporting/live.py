"""What a terminal shows while a run goes on: the panel, drawn twice a second below what is printed.

    with live.Screen(step, steps, programs) as screen:
        screen.begin("rollout")       what goes on now
        screen.stepped(step, metrics)

Where stdout is no terminal, or one that cannot move its cursor, there is no panel but a line a
step. While there is one, whatever is printed goes above it, by whichever part of the program.

The cursor is never hidden: a process that is killed leaves the terminal as it was.
"""

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from sar_jax.parallel import progress
from sar_jax.training.reporting import panel

_PAUSE = 0.5  # seconds between two drawings
_SLOW = 10.0  # seconds of a compilation that is told where there is no panel
_PACE = 20  # last steps, over which a step's seconds are averaged
_EVENTS = "/jax/core/compile/"
_BEGIN, _END = f"{_EVENTS}jaxpr_to_mlir_module_duration", f"{_EVENTS}backend_compile_duration"
_SPENT = {
    "rollout": ("time/rollout",),
    "verify": ("time/verify",),
    "score": ("time/score", "time/value"),
    "reward": ("time/reward",),
    "update": ("time/update", "time/critic_update"),
}


class Screen:
    """Context manager; its methods are called by the thread that trains."""

    def __init__(self, step: int, steps: int, programs: Mapping[str, str]):
        """A screen.

        step, steps   where the run is, and how long it is
        programs      jitted functions that will be compiled, by name, and what each is called
        """
        self.state = panel.State(step, steps)
        self.programs, self.compiled = programs, dict[str, None]()
        self.compiling = ""
        self.since = time.monotonic()
        self.seconds: collections.deque[float] = collections.deque(maxlen=_PACE)
        self.spent: collections.Counter[str] = collections.Counter()
        self.drawing: _Drawing | None = None
        self.active = False

    def __enter__(self) -> "Screen":
        self.active = True
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        if progress.is_live(sys.stdout):
            self.drawing = _Drawing(self._rows)
            self.drawing.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.active = False  # JAX has no public function that takes a listener away
        self.begin("")
        if self.drawing:
            self.drawing.stop()
            self.drawing = None

    def begin(self, phase: str, detail: str = "") -> None:
        """What goes on from now on, one of `panel.PHASES`."""
        now = time.monotonic()
        if self.state.phase in ("save", "evaluation"):
            self.spent[self.state.phase] += now - self.since
        self.since, self.compiling = now, ""
        self.state.phase, self.state.detail = phase, detail

    def detail(self, text: str) -> None:
        """More of what goes on, such as how far it is."""
        self.state.detail = text

    def stepped(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step has ended; without a panel it is a line."""
        state = self.state
        state.step = step
        for name in panel.NAMES:
            if name in metrics:
                values = [*state.values.get(name, []), metrics[name]]
                state.values = {**state.values, name: values[-panel.KEPT :]}
        self.begin("")
        spent = {name: sum(metrics.get(n, 0.0) for n in own) for name, own in _SPENT.items()}
        state.spent = {**spent, **self.spent}
        self.seconds.append(sum(state.spent.values()))
        self.spent.clear()
        # the first steps compile
        later = list(self.seconds)[1:] or list(self.seconds)
        state.pace = sum(later) / len(later)
        if self.drawing is None:
            print(line(step, state.steps, metrics), flush=True)

    def tell(self, text: str) -> bool:
        """Prints from a signal's handler, where no lock may be taken; False without a panel."""
        if self.drawing is None:
            return False
        self.drawing.later.append(text)
        return True

    def _rows(self, width: int, is_ascii: bool) -> list[Text]:
        glyphs = panel.ASCII if is_ascii else panel.UNICODE
        return panel.rows(self.state, width, time.monotonic() - self.since, glyphs)

    def _listen(self, event: str, seconds: float, **about: Any) -> None:
        """JAX has made a program, or is about to compile it."""
        if not self.active or event not in (_BEGIN, _END):
            return
        name = str(about.get("fun_name", "")).removeprefix("jit(").removesuffix(")")
        if name not in self.programs:
            return
        self.compiled[name] = None
        number, count = list(self.compiled).index(name) + 1, len(self.programs)
        words = f"{self.programs[name]}, {number} of {count}"
        if event == _BEGIN:
            self.compiling, self.state.detail = name, f"compiling {words}"
        elif self.compiling == name:
            self.compiling, self.state.detail = "", ""
        if event == _END and seconds > _SLOW and self.drawing is None:
            print(f"compiled {words}, in {panel.duration(seconds)}", flush=True)


def line(step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """A step as a line."""
    shown = {
        "reward": f"{metrics['reward/mean']:.3f}",
        "accuracy": f"{100 * metrics['accuracy']:.1f}%",
        "length": f"{metrics['completions/mean_length']:.1f}",
    }
    if "reward/self_aligned/mean" in metrics:
        shown["R_SA"] = f"{metrics['reward/self_aligned/mean']:.3f}"
    shown["tok/s"] = f"{metrics['tokens_per_second']:.0f}"
    return f"step {step}/{steps}  " + "  ".join(f"{k} {v}" for k, v in shown.items())


class _Drawing:
    """The panel on a terminal, which a thread draws anew.

    later   texts to print, from whoever may not take a lock
    """

    def __init__(self, rows: Callable[[int, bool], list[Text]]):
        """rows: (width, is_ascii) -> the panel's rows."""
        self.console = progress.make_console(sys.stdout)
        self.rows, self.later = rows, collections.deque[str]()
        self.live = Live(
            self,
            console=self.console,
            auto_refresh=False,
            redirect_stderr=progress.is_live(sys.stderr),
        )
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._draw, name="panel", daemon=True)
        self.width = self.console.width

    def __rich_console__(self, console: Console, options: Any) -> Iterator[Text]:
        yield from self.rows(options.max_width, options.ascii_only)

    def start(self) -> None:
        self.live.start(refresh=True)
        self.thread.start()

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            self._refresh()
        with contextlib.suppress(OSError):  # the terminal may be gone
            self.live.stop()

    def _draw(self) -> None:
        while not self.ended.wait(_PAUSE):
            try:
                self._refresh()
            except (OSError, ValueError):
                return  # the terminal is gone; the run goes on

    def _refresh(self) -> None:
        with self.console:  # one write
            while self.later:
                self.console.print(self.later.popleft())
            self._resized()
            self.live.refresh()

    def _resized(self) -> None:
        """In a terminal that has become narrower, the rows are several lines each: they go too."""
        before, self.width = self.width, self.console.width
        if self.width >= before:
            return
        now = [row.cell_len for row in self.rows(before, self.console.options.ascii_only)]
        more = sum(-(-max(length, 1) // self.width) - 1 for length in now)
        up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        self.console.control(*[Control(*up)] * more)
