"""What a plan says while it is made, and that a call says nothing."""

import contextlib
import dataclasses
import os
import pty
import re
import subprocess
import sys
import threading

from support.commands import ROOT

from sar_jax.planning import telling
from sar_jax.planning.measured import Head, Measured

HEAD = Head(
    topology="v6e:2x4",
    chips=8,
    devices=8,
    hbm=31.0 * 2**30,
    decoding_copies=1,
    overrides=[],
    slots=96,
    slots_are_fitted=True,
    programs=["cast", "gradient"],
)
SMALL = Measured(total=3 * 2**20, beside=2**20, temporary=0, arguments=2**20, sent=0.0)


def start(folder, *arguments):
    """The command where importing JAX ends it."""
    (folder / "jax.py").write_text("raise SystemExit(3)")
    env = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}
    command = [sys.executable, "-m", "sar_jax.plan", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def test_the_first_line_comes_before_jax(tmp_path):
    done = start(tmp_path, "--config=configs/tiny.py", "--topology=v6e:2x4")
    assert done.returncode == 3 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("loading")
    assert not start(tmp_path, "--help").stderr  # of which it is no part


def test_each_row_is_there_as_soon_as_it_is_known(capsys):
    with telling.Told() as told:
        told.tell("describing v6e:2x4")
        told.begin(HEAD)
        out, err = capsys.readouterr()
        assert "8 chips, 31.00 GiB a chip" in out and "96 fit" in out and "describing" in err
        assert "program" in out.splitlines()[-1] and "in all" in out.splitlines()[-1]
        told.tell("compiling cast", 1, 2)
        assert re.search(
            r"v6e:2x4: compiling cast, 1 of 2 \(\d+ s so far\)", capsys.readouterr().err
        )
        told.found("cast", SMALL)
        assert capsys.readouterr().out.split()[:3] == ["cast", "3.00", "MiB"]
        told.found("gradient", dataclasses.replace(SMALL, cached=True))
    assert capsys.readouterr().out.split()[-1] == "cached"


def test_a_long_compilation_is_heard_of(capsys, monkeypatch):
    """And it is silent once it has ended."""
    monkeypatch.setattr(telling, "_SECONDS", 0.02)
    heard = threading.Event()
    with telling.Told(rows=False) as told:
        told.begin(HEAD)
        told.tell("compiling gradient", 2, 2)
        said = ""
        while "compiling gradient, 2 of 2, still" not in said:
            heard.wait(0.01)
            said += capsys.readouterr().err
    heard.wait(0.1)
    capsys.readouterr()
    heard.wait(0.1)
    assert capsys.readouterr() == ("", "")


def test_a_sweep_has_no_rows_of_programs(capsys):
    with telling.Told(rows=False) as told:
        told.begin(HEAD)
        told.found("cast", SMALL)
    assert not capsys.readouterr().out


IN_A_TERMINAL = """
import os
from sar_jax.planning import compiling, telling
from sar_jax.planning.measured import Head, Measured
head = Head("v6e:2x4", 8, 8, 2.0**35, 1, [], 96, False, ["cast", "gradient"])
with telling.Told() as told:
    told.begin(head)
    for number, name in enumerate(head.programs, 1):
        told.tell(f"compiling {name}", number, 2)
        with compiling._silent():
            os.write(2, b"NOISE")
            told._said._made.refresh()
        told.found(name, Measured(2.0**20, 0, 0, 0, sent=0.0))
print("afterwards")
"""


def test_on_a_terminal_a_bar_is_below_the_rows():
    own, other = pty.openpty()
    env = os.environ | {"TERM": "xterm", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL], stdin=other, stdout=other, stderr=other, env=env
    ) as process:
        os.close(other)
        shown = b""
        with contextlib.suppress(OSError):  # that the other end is closed
            while part := os.read(own, 65536):
                shown += part
    os.close(own)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert process.returncode == 0, text
    bars = re.findall(r"compiling (\w+) \S+ (\d of \d programs) \d+ s so far", text)
    assert ("cast", "1 of 2 programs") in bars and ("gradient", "2 of 2 programs") in bars
    row = text.index("cast  ")
    assert text.index("compiling cast") < row < text.index("compiling gradient")
    assert "NOISE" not in text and text.rstrip().endswith("afterwards")
