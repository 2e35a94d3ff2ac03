"""Standard output and error that outlive what reads them: a terminal, or a program behind a pipe.

A write there would be an error (EIO of a terminal that has closed, EPIPE) and could end a run
before anything is saved; the signal that tells of it may come later than the write.
"""

import contextlib
import errno
import io
import os
import sys

_GONE = (errno.EIO, errno.EPIPE)


class _Output(io.RawIOBase):
    """Writes to a descriptor, and nowhere once nobody reads there."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, data) -> int | None:
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _GONE:
                raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.descriptor)
        os.close(null)
        return len(data)


def outlive() -> None:
    """From now on prints raise nothing where nobody reads, and for no character a locale lacks."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper) or not _is_of(stream, descriptor):
            continue
        with contextlib.suppress(OSError):
            stream.flush()
        lasting = io.TextIOWrapper(
            io.BufferedWriter(_Output(descriptor)),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, lasting)


def _is_of(stream: io.TextIOWrapper, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):  # of a stream that is none of the system's
        return False
