"""Kills at random moments, of one process and of two: in the end everything is bit for bit as if
there had been none."""

import random
import shutil
import signal
import subprocess
import time

import pytest
from support.commands import PATIENCE, run_command, start_in_background
from support.several import finish, finished, start
from support.soak_runs import STEPS, assert_same_run, command

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("kind, kills", [("plain", 8), ("LoRA", 6), ("PPO", 6)])
def test_one_process(tmp_path, record_property, kind, kills):
    """Each kill is somewhere in start, rollout, score, update, save or evaluation. A run that comes
    to its end is compared, and the next one begins anew."""
    rng, alone, workdir = random.Random(f"18 {kind}"), tmp_path / "alone", tmp_path / "run"
    names = ["state", *(["critic"] if kind == "PPO" else [])]
    run_command(*command(tmp_path / "warm", kind), check=True)  # compiles for all
    begin = time.monotonic()
    run_command(*command(alone, kind), check=True)
    whole, done = time.monotonic() - begin, 0
    while done < kills or workdir.exists():
        process = start_in_background(*command(workdir, kind), output=tmp_path / "printed")
        try:
            status = process.wait(PATIENCE if done >= kills else rng.uniform(0.3, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait(PATIENCE)
            done += 1
        printed = (tmp_path / "printed").read_text()
        assert status in (0, -signal.SIGKILL), printed
        assert "Traceback" not in printed, printed
        if status == 0:
            assert_same_run(alone, workdir, *names)
            shutil.rmtree(workdir)
    record_property("soak", (f"kills, {kind}", done, done, 0, 0))


def test_two_processes(tmp_path, record_property):
    """One of the two, drawn, is killed; the other one ends by itself."""
    rng, alone, workdir, kills = random.Random(18), tmp_path / "alone", tmp_path / "run", 10
    more = [f"--config.steps={STEPS}", "--config.checkpoint.every_steps=1"]
    more += ["--heartbeat_timeout=12"]
    begin = time.monotonic()
    statuses, outputs = finished(2, alone, *more)
    assert statuses == [0, 0], outputs
    whole = time.monotonic() - begin
    for _ in range(kills):
        processes = start(2, workdir, *more, real=True)
        time.sleep(rng.uniform(0.2, 1.0) * whole)
        rng.choice(processes).kill()
        statuses, outputs = finish(processes, workdir)
        assert not any("Traceback" in output for output in outputs), outputs
    statuses, outputs = finished(2, workdir, *more)
    assert statuses == [0, 0], outputs
    assert_same_run(alone, workdir)
    record_property("soak", ("kills, two processes", kills, kills, 0, 0))
