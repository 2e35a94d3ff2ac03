"""Commands of the package as a user runs them."""

import os
import pathlib
import subprocess
import sys
import tempfile

from support.environment import CACHE, QUICK
from support.processes import Forked

ROOT = pathlib.Path(__file__).parent.parent.parent


def start_command(
    *arguments: str, stdout, stderr, real: bool = False, **environment: str
) -> Forked | subprocess.Popen:
    """`python -m sar_jax.<...>` as a user runs it, on one CPU device. real: a process that the
    system starts."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"COLUMNS": "200"} | CACHE
    env |= {"XLA_FLAGS": QUICK} if arguments[0] == "sar_jax.train" else {}
    env |= environment
    if real:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=env, stdout=stdout, stderr=stderr
        )
    return Forked(arguments, ROOT, env, stdout, stderr)


def run_command(
    *arguments: str,
    timeout: float = 900,
    real: bool = False,
    **environment: str,
) -> subprocess.CompletedProcess:
    """The same until its end: `returncode`, `stdout` and `stderr`."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = start_command(*arguments, stdout=stdout, stderr=stderr, real=real, **environment)
        try:
            process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        stdout.seek(0), stderr.seek(0)
        return subprocess.CompletedProcess(
            arguments, process.returncode, stdout.read(), stderr.read()
        )
