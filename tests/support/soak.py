"""What the fuzzers of tests/soak share: calls with a limit on time, counted by how they end.

Each call ends in a result, which the fuzzer compares with what it knows, or in one `UserError` of
one line. Anything else is wrong: another exception, a hang, a file read outside of what is allowed.
"""

import contextlib
import os
import pathlib
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sar_jax.errors import UserError


class Hang(BaseException):
    """No `Exception`, so that nothing on the way takes it for one."""


class Tally:
    """Counts of one kind of input.

    kind     its name in the table
    limit    seconds of one call
    inside   folders that calls may read files of; None: any. Libraries and devices are always
             allowed
    """

    def __init__(self, kind: str, limit: float, inside: Sequence[pathlib.Path] | None = None):
        self.kind, self.limit, self.inside = kind, limit, inside
        self.tried = self.right = self.lines = 0
        self.wrong: list[str] = []

    def call(self, name: str, function: Callable[[], Any]) -> Any:
        """The function's result; None where it ends in one line or is wrong. name: of the input."""
        self.tried += 1
        try:
            with _alarm(self.limit), _opened() as opened:
                result = function()
        except UserError as error:
            self._judge_line(name, str(error))
            result = None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.wrong.append(
                f"{name}: {type(error).__name__}: {error!s:.200} ({last.filename}:{last.lineno})"
            )
            return None
        else:
            self.right += 1
        for path in opened:
            if self.inside is not None and not _is_below(path, self.inside):
                self.wrong.append(f"{name}: read {path}")
        return result

    def _judge_line(self, name: str, message: str) -> None:
        is_line = message.strip() and len(message.splitlines()) == 1 and len(message) < 1500
        if is_line and "Traceback" not in message:
            self.lines += 1
        else:
            self.wrong.append(f"{name}: no single line: {message[:300]!r}")

    def refute(self, name: str, what: str) -> None:
        """A result that is not what it should be."""
        self.right -= 1
        self.wrong.append(f"{name}: {what}")

    def finish(self, record_property: Callable[[str, Any], None]) -> None:
        """Puts the row into the table, and fails if anything was wrong."""
        row = (self.kind, self.tried, self.right, self.lines, len(self.wrong))
        record_property("soak", row)
        assert not self.wrong, f"{len(self.wrong)} of {self.tried}:\n" + "\n".join(self.wrong[:40])
        assert self.tried == self.right + self.lines


def table(rows: Sequence[Sequence[Any]]) -> str:
    """The rows of all tallies, for people."""
    head = ("kind", "tried", "right", "one line", "wrong")
    shown = [[str(cell) for cell in row] for row in (head, *sorted(rows))]
    widths = [max(len(row[i]) for row in shown) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(r, widths))
        )
        for r in shown
    )


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number, frame):
        raise Hang(f"not within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_listening: list[list[str]] = []


def _hear(event: str, arguments: tuple) -> None:
    if _listening and event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        is_read = not isinstance(arguments[1], str) or "r" in arguments[1]
        if is_read:
            _listening[-1].append(os.fspath(arguments[0]))


sys.addaudithook(_hear)


@contextlib.contextmanager
def _opened() -> Iterator[list[str]]:
    """The files that Python opens for reading meanwhile."""
    _listening.append([])
    try:
        yield _listening[-1]
    finally:
        _listening.pop()


_LIBRARIES = (sys.prefix, sys.base_prefix, "/proc", "/dev/null", "/dev/urandom", "/sys", "/usr")
_OWN = str(pathlib.Path(__file__).resolve().parent.parent.parent)


def _is_below(path: str, folders: Sequence[pathlib.Path]) -> bool:
    whole = os.path.abspath(path)
    allowed = [*map(str, folders), *_LIBRARIES, f"{_OWN}/sar_jax", f"{_OWN}/configs"]
    return any(whole == top or whole.startswith(f"{top}/") for top in allowed)


# What may be in the place of any value.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**9, 2**31, -(2**31), 2**63, 10**30, 0.0, 0.5, -0.5, 1.5,
    1e-300, 1e300, float("nan"), float("inf"), "", "10", "1e-6", "x", "\x00", "\ud83d", "../..",
    "/etc/hostname", "a" * 5000, "caf\u00e9 \u4e2d", [], [1], ["x"], [[]], {}, {"x": 1}, {"": None},
)  # fmt: skip


def flipped(content: bytes, rng: random.Random, most: int = 3) -> bytes:
    """The content with up to `most` bytes changed, added, left out, or its end cut."""
    found = bytearray(content)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(found) + 1)
        how = rng.randrange(5)
        if how == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            found[at:at] = bytes([rng.randrange(256)])
        elif how == 2:
            del found[at : at + rng.randint(1, 8)]
        elif how == 3:
            found[at:at] = rng.choice([b"\x00", b"\xff", b"\xf0\x9f", b"\\ud83d", b"NaN", b"1e999"])
        elif rng.randrange(4) == 0:
            del found[at:]
    return bytes(found)
