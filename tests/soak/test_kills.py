"""Kills at random moments, of one process and of two: in the end everything is bit for bit as if
there had been none."""

import json
import random
import shutil
import signal
import subprocess
import time

import pyarrow.parquet as pq
import pytest
from support.commands import PATIENCE, run_command, start_in_background
from support.several import finish, finished, start
from support.training import assert_same_state, read_metrics, small, timeless

pytestmark = pytest.mark.soak

_STEPS = 6
KINDS = {
    "plain": [],
    "LoRA": ["lora.rank=4", "optimizer.lr=1e-3"],
    "PPO": ["advantage.estimator=critic", "loss.minibatch_questions=2"],
}


def command(workdir, kind):
    options = small(
        f"steps={_STEPS}", "data.eval=arithmetic:8", "evaluation.every_steps=2", *KINDS[kind]
    )
    return ["sar_jax.train", *options, f"--workdir={workdir}"]


def digests(workdir):
    """Of every array of the last step, wherever it was when it was saved."""
    file = workdir / f"checkpoints/{_STEPS:08d}/meta/metadata"
    return json.loads(file.read_text())["arrays"]


def assert_same_run(one, other, *names):
    """names: of states that are read too; those of several processes need these."""
    assert digests(one) == digests(other)
    for name in names:
        assert_same_state(one, other, _STEPS, name)
    ours, theirs = ([timeless(line) for line in read_metrics(w)] for w in (one, other))
    assert ours == theirs
    for file in sorted((one / "samples").iterdir()):
        again = other / "samples" / file.name
        assert pq.read_table(file) == pq.read_table(again), file.name


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
    more = [f"--config.steps={_STEPS}", "--config.checkpoint.every_steps=1"]
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
