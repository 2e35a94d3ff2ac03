"""Signals that ask a run to stop, at random moments: it saves, and what is resumed ends bit for bit
as if there had been none. And two runs that begin in one workdir."""

import random
import shutil
import signal
import subprocess
import time

import pytest
from support.commands import PATIENCE, run_command, start_in_background
from support.soak_runs import assert_same_run, command

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal(tmp_path, record_property, number):
    """A start that has not begun to train ends by the signal; each other one saves and says so."""
    rng, alone, workdir, signals = random.Random(int(number)), tmp_path / "alone", tmp_path / "r", 8
    run_command(*command(tmp_path / "warm", "plain"), check=True)  # compiles for all
    begin = time.monotonic()
    run_command(*command(alone, "plain"), check=True)
    whole, done = time.monotonic() - begin, 0
    while done < signals or workdir.exists():
        process = start_in_background(*command(workdir, "plain"), output=tmp_path / "printed")
        try:
            status = process.wait(PATIENCE if done >= signals else rng.uniform(0.3, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            status = process.wait(PATIENCE)
            done += 1
        printed = (tmp_path / "printed").read_text()
        assert "Traceback" not in printed, printed
        if status == 130 and "nothing to save" not in printed and number != signal.SIGHUP:
            assert "stopped" in printed, printed
        assert status in (0, 130, -number), (status, printed)
        if status == 0:
            assert_same_run(alone, workdir, "state")
            shutil.rmtree(workdir)
    record_property("soak", (f"{number.name} at random moments", done, done, 0, 0))


def test_two_writers(tmp_path, record_property):
    """Which one is first is a matter of chance; the other one is refused, and the run is whole."""
    rng, alone, tries = random.Random(2), tmp_path / "alone", 8
    run_command(*command(alone, "plain"), check=True)
    for i in range(tries):
        workdir, started = tmp_path / f"run{i}", []
        for j in range(2):
            output = tmp_path / f"printed{i}{j}"
            started.append(start_in_background(*command(workdir, "plain"), output=output))
            time.sleep(rng.choice([0, 0, 0.01, 0.1, 1]))
        statuses = [process.wait(PATIENCE) for process in started]
        printed = [(tmp_path / f"printed{i}{j}").read_text() for j in range(2)]
        assert sorted(statuses) == [0, 2], printed
        refused = printed[statuses.index(2)]
        assert "is in use by process" in refused and "Traceback" not in refused, refused
        assert_same_run(alone, workdir, "state")
    record_property("soak", ("two runs begun in one workdir", tries, tries, 0, 0))
