"""What a command prints never ends it: not where nobody reads any more, nor for a character."""

import os
import pty
import subprocess
import sys

import pytest
from support.commands import PATIENCE, ROOT

PROGRAM = """
import os, sys, time
from sar_jax.parallel import outputs
outputs.outlive()
print("begun", flush=True)
sys.stdin.read(1)
for stream in (sys.stdout, sys.stderr):
    for i in range(2000):
        print("a line that nobody reads", i, file=stream)
    stream.flush()
print("\\N{PILE OF POO}")
os.write(int(sys.argv[1]), b"went on")
"""


def start(to: int, told: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(told)],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        stdin=subprocess.PIPE,
        stdout=to,
        stderr=to,
        pass_fds=[told],
    )


@pytest.mark.quick
@pytest.mark.parametrize("make", [os.pipe, pty.openpty])
def test_a_reader_that_goes_away_ends_nothing(make):
    ours, theirs = make()
    read, told = os.pipe()
    process = start(theirs, told)
    os.close(theirs)
    os.close(told)
    assert b"begun" in os.read(ours, 100)
    os.close(ours)
    process.stdin.write(b"x")
    process.stdin.close()
    assert process.wait(PATIENCE) == 0
    assert os.read(read, 100) == b"went on"
    os.close(read)


def test_what_is_printed_arrives_whole_and_in_order(tmp_path):
    read, told = os.pipe()
    with (tmp_path / "printed").open("wb") as file:
        process = start(file.fileno(), told)
        os.close(told)
        process.communicate(b"x", PATIENCE)
    lines = (tmp_path / "printed").read_text().splitlines()
    assert process.returncode == 0 and os.read(read, 100) == b"went on"
    os.close(read)
    own = [f"a line that nobody reads {i}" for i in range(2000)]
    assert lines == ["begun", *own, *own, r"\U0001f4a9"]
