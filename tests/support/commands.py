"""Commands of the package as a user runs them."""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from support.environment import CACHE, XLA_QUICK
from support.processes import Forked

ROOT = pathlib.Path(__file__).parent.parent.parent
_QUICKLY_COMPILED = ("sar_jax.train", "sar_jax.pretrain", "sar_jax.evaluate")
PATIENCE = 900  # seconds until a test gives up; a slow machine needs some of them, a quick one none


def start_command(
    *arguments: str, stdout, stderr, real: bool = False, **environment: str
) -> Forked | subprocess.Popen:
    """`python -m sar_jax.<...>` as a user runs it, on one CPU device. real: a process that the
    system starts."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"COLUMNS": "200"} | CACHE
    env |= {"XLA_FLAGS": XLA_QUICK} if arguments[0] in _QUICKLY_COMPILED else {}
    env |= environment
    if real:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=env, stdout=stdout, stderr=stderr
        )
    return Forked(arguments, ROOT, env, stdout, stderr)


def run_command(
    *arguments: str, check: bool = False, real: bool = False, **environment: str
) -> subprocess.CompletedProcess:
    """The same until its end: `returncode`, `stdout` and `stderr`. check: it must end with status
    0."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = start_command(*arguments, stdout=stdout, stderr=stderr, real=real, **environment)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        stdout.seek(0), stderr.seek(0)
        done = subprocess.CompletedProcess(
            arguments, process.returncode, stdout.read(), stderr.read()
        )
    assert not check or done.returncode == 0, done.stderr[-5000:]
    return done


def start_in_background(*arguments: str, output: pathlib.Path, **how) -> Forked | subprocess.Popen:
    """A command that goes on while the test does; `output` gets what it prints, errors too."""
    with output.open("w") as file:
        return start_command(*arguments, stdout=file, stderr=file, **how)


def one_error(done: subprocess.CompletedProcess) -> str:
    """The one line `error: ...` of a command that failed as it should: with status 2, and without a
    traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2, done.returncode
    return lines[0]


def wait_for(
    condition: Callable[[], bool],
    process: Forked | subprocess.Popen | None = None,
    output: pathlib.Path | None = None,
) -> None:
    """Returns as soon as the condition holds. process: it must live until then; output: what it has
    printed, which says why if it does not."""
    end = time.monotonic() + PATIENCE
    printed = lambda: output.read_text()[-3000:] if output else ""
    while not condition():
        running = process is None or process.poll() is None
        assert running or condition(), f"it ended early: {printed()}"
        assert time.monotonic() < end, f"not within {PATIENCE} seconds: {printed()}"
        time.sleep(0.05)


def modules_after(statement: str) -> set[str]:
    """The names of all modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())


def free_port() -> int:
    """A port of this machine that nothing listens on. Another process may take it before it is
    used: who uses it tries again with another one, or fails by name."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
