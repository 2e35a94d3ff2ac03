"""One verification worker: a process that compares answers until its pipe is closed. No JAX.

    python -m sar_jax.text.answers.worker FD SECONDS BYTES MODULE:FUNCTION|OWN

    FD                descriptor of the connection: comparisons come in, and True, False or the
                      reason why nobody knows goes back, such as the name of an exception
    SECONDS           of one comparison
    BYTES             of address space
    MODULE:FUNCTION   what compares two expressions
    OWN               "own " and a function of one's own (`own_verifier`)

A comparison is (is it of a pattern?, arguments).

It is a process of its own, not a fork of the trainer (which runs JAX's threads and holds its
memory) nor a `spawn` of it (which would import the trainer's main module, and with it JAX). A
comparison that outlives its SECONDS although nobody kills it, because the trainer is gone, is ended
by the kernel's alarm, which C code cannot hold up.
"""

import contextlib
import importlib
import logging
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text.answers import named, own_verifier

READY = "ready"
OWN = "own "


def work(connection: Connection, seconds: float, equal: Callable[..., Any]) -> None:
    """Answers each comparison with equal(*arguments), or with the name of what it raised.

    Returns when the other side is gone.
    """
    connection.send(READY)
    while True:
        try:
            is_pattern, arguments = connection.recv()
        except EOFError:
            return
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # each time: a library may have caught it
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            found = (named.matches if is_pattern else equal)(*arguments)
            reply = found if isinstance(found, str) else bool(found)
        except Exception as error:
            # without its message: to print an expression may take as long as to compare it
            reply = type(error).__name__
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            connection.send(reply)
        except BrokenPipeError:
            return


def main(fd: str, seconds: str, memory: str, name: str) -> None:
    """See above; as words of a command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's; it closes the pipe
    for limit, value in ((resource.RLIMIT_AS, int(memory)), (resource.RLIMIT_CORE, 0)):
        # there may be a lower limit already; macOS has none for memory
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))
    warnings.simplefilter("ignore")  # a model's answers are expected to be odd
    logging.disable(logging.CRITICAL)
    connection = Connection(int(fd))
    if name.startswith(OWN):
        try:
            equal = own_verifier.loaded(name.removeprefix(OWN))
        except UserError as error:
            connection.send(str(error))
            return
    else:
        module, _, function = name.partition(":")
        equal = getattr(importlib.import_module(module), function)
        # loads the libraries, on nobody's time; without them, no worker starts
        equal(r"\sqrt{2}", r"\sqrt{2}")
    work(connection, float(seconds), equal)


if __name__ == "__main__":
    main(*sys.argv[1:])
