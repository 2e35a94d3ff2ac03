"""A command on a pseudo terminal, and what stands there: the screen of an emulator."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

import pyte
from support.commands import PATIENCE, start_command

ROWS = 24


class Terminal:
    """Context manager. raw: all that came; screen: `pyte`'s, without what scrolled away."""

    def __init__(self, columns: int):
        self.raw, self.columns = b"", columns
        self.screen = pyte.Screen(columns, ROWS)
        self.stream = pyte.ByteStream(self.screen)

    def __enter__(self) -> "Terminal":
        self.ours, theirs = pty.openpty()
        self.theirs = os.fdopen(theirs, "w")
        self.resize(self.columns)
        return self

    def __exit__(self, *_) -> None:
        self.theirs.close()
        self.hang_up()

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.ours)

    def resize(self, columns: int) -> None:
        size = struct.pack("HHHH", ROWS, columns, 0, 0)
        fcntl.ioctl(self.theirs.fileno(), termios.TIOCSWINSZ, size)
        self.columns = columns
        self.screen.resize(ROWS, columns)

    def start(self, *arguments: str, **environment: str):
        """A command whose stdout and stderr this is."""
        environment = {"TERM": "xterm-256color", **environment}
        return start_command(*arguments, stdout=self.theirs, stderr=self.theirs, **environment)

    def read(self, seconds: float = 0.1) -> bytes:
        """What has come."""
        found = b""
        while select.select([self.ours], [], [], seconds)[0]:
            data = os.read(self.ours, 2**16)
            found += data
            self.stream.feed(data)
            seconds = 0
        self.raw += found
        return found

    def read_until(self, pattern: str, process) -> str:
        """What comes until the text since now has the pattern; the process must live until then."""
        text, end = "", time.monotonic() + PATIENCE
        while not re.search(pattern, text):
            running = process.poll() is None
            text += plain(self.read())
            assert running or re.search(pattern, text), f"it ended early: {plain(self.raw)[-3000:]}"
            assert time.monotonic() < end, f"not in time: {plain(self.raw)[-3000:]}"
        return text

    def read_to_the_end(self, process) -> int:
        """Everything until the process ends; returns its exit status."""
        end = time.monotonic() + PATIENCE
        while process.poll() is None:
            self.read()
            assert time.monotonic() < end, f"not in time: {plain(self.raw)[-3000:]}"
        self.read()
        return process.wait()

    def lines(self) -> list[str]:
        """The screen's, without blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]


def plain(data: bytes) -> str:
    """Text without what moves the cursor, colours or erases."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", data.decode(errors="replace"))
