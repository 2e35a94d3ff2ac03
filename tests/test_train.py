"""Whole runs through the command line: metrics, resume bit for bit, Ctrl-C and a full disk."""

import json
import math
import os
import pathlib
import pty
import re
import resource
import select
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.commands import (
    PATIENCE,
    ROOT,
    one_error,
    run_command,
    start_in_background,
    wait_for,
)
from support.environment import CACHE, XLA_QUICK
from support.training import (
    assert_same_state,
    read_metrics,
    state_of,
    timeless,
    train_command,
)
from tensorboardX.proto.event_pb2 import Event


def read_events(workdir: pathlib.Path) -> list[Event]:
    """TensorBoard's records: eight bytes that say how long, four of checksum, the event, four of
    checksum."""
    (file,) = (workdir / "tensorboard").glob("events*")
    data, events = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return events


# what every step measures
MEASURED = {
    "reward/verifiable/mean",
    "reward/self_aligned/mean",
    "completions/mean_length",
    "completions/clipped_ratio",
    "kl",
    "clip_ratio",
    "frac_reward_zero_std",
    "sampling/logp_difference/mean",
    "sampling/logp_difference/max",
    "time/rollout",
    "time/score",
    "time/verify",
    "time/update",
    "tokens_per_second",
    "entropy",
    "rollout/tokens_per_second",
    "rollout/occupancy",
    "time/prefill",
    "time/decode",
    "advantage_share/self_aligned",
    "alpha",
    "alpha_trust",
    "accuracy_error",
    "alarms",
}


def test_a_run_writes_what_the_readme_says(finished):
    workdir, printed = finished
    assert "tokens an answer" in printed and str(workdir / "metrics.jsonl") in printed
    assert {p.name for p in workdir.iterdir()} == {
        "config.json",
        "run.json",
        "machine.json",
        "metrics.jsonl",
        "report.html",
        "samples",
        "checkpoints",
        "tensorboard",
    }
    lines = read_metrics(workdir)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(math.isfinite(v) for line in lines for v in line.values())
    assert not MEASURED - lines[1].keys()
    # of the adaptive weight: it starts where the config says
    weights = [line["alpha"] for line in lines[1:]]
    assert weights[0] == 0.2 and len(set(weights)) == 4
    assert lines[1]["sampling/logp_difference/max"] < 1e-4
    assert [("eval/accuracy" in line) for line in lines] == [True, False, True, False, True]
    assert 0 < lines[1]["time/prefill"] + lines[1]["time/decode"] < lines[1]["time/rollout"]


def test_the_samples_of_a_step_are_what_it_was_trained_on(finished):
    workdir, _ = finished
    drawn = [value for event in read_events(workdir) for value in event.summary.value]
    lengths = [value.histo for value in drawn if value.tag == "completions/length"]
    assert len(lengths) == 4
    rows = pq.read_table(workdir / "samples" / "step_000001.parquet").to_pylist()
    assert len(rows) == 12 and len({r["question"] for r in rows}) == 4
    assert (lengths[0].num, lengths[0].sum) == (12, sum(r["length"] for r in rows))
    for r in rows:
        assert r["reward/self_aligned"] == pytest.approx(
            np.clip((r["ppl_standalone"] - r["ppl_conditional"]) / r["ppl_standalone"], -1, 1),
            abs=1e-6,
        )
        assert r["reward"] == pytest.approx(r["correct"] + 0.2 * r["reward/self_aligned"])
        assert len(r["tokens"]) == len(r["token_values"]) == r["length"]
        gain = np.log(r["ppl_standalone"] / r["ppl_conditional"])
        assert np.mean(r["token_values"]) == pytest.approx(gain, abs=1e-3)
    means = [
        np.mean([r["advantage"] for r in rows if r["question"] == q])
        for q in {r["question"] for r in rows}
    ]
    np.testing.assert_allclose(means, 0, atol=1e-9)


def test_nothing_is_compiled_after_the_first_step(finished):
    counts = [line["compilations"] for line in read_metrics(finished[0])[1:]]
    assert counts[0] > 0 and counts[1:] == [0, 0, 0]


def test_a_reference_in_host_memory_and_a_profile_change_nothing(finished, hf_folder, tmp_path):
    run_command(
        *train_command(
            hf_folder,
            tmp_path / "run",
            "--config.model.offload_reference=true",
            "--config.profile_steps=1",
        ),
        check=True,
    )
    assert list(map(timeless, read_metrics(tmp_path / "run"))) == list(
        map(timeless, read_metrics(finished[0]))
    )
    assert len(list((tmp_path / "run/profile").rglob("*.xplane.pb"))) == 1


def test_steps_sample_anew_and_weights_move(finished):
    workdir, _ = finished
    first, second = (
        pq.read_table(workdir / "samples" / f"step_00000{s}.parquet").to_pylist() for s in (1, 4)
    )
    assert {r["question"] for r in first} != {r["question"] for r in second}
    assert any((a != b).any() for a, b in zip(state_of(workdir, 1), state_of(workdir, 4)))


# at any other moment: tests/soak/test_kills.py
@pytest.mark.parametrize("when", [pytest.param(1, marks=pytest.mark.soak), 3])
def test_killed_and_resumed_equals_never_stopped_bit_for_bit(finished, hf_folder, tmp_path, when):
    """SIGKILL as soon as the checkpoint of step `when` is complete, wherever the run is by then."""
    workdir, output = tmp_path / "run", tmp_path / "printed"
    process = start_in_background(*train_command(hf_folder, workdir), output=output)
    wait_for((workdir / "checkpoints" / f"{when:08d}").is_dir, process, output)
    process.kill()
    process.wait()
    again = run_command(*train_command(hf_folder, workdir), check=True)
    assert "resumed at step" in again.stdout
    assert_same_state(finished[0], workdir, 4)
    ours, theirs = ([timeless(line) for line in read_metrics(w)] for w in (finished[0], workdir))
    assert ours == theirs


def test_ctrl_c_saves_says_so_and_exits(finished, hf_folder, tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "printed"
    more = ["--config.steps=1000", "--config.checkpoint.every_steps=1000"]
    process = start_in_background(*train_command(hf_folder, workdir, *more), output=output)
    metrics = workdir / "metrics.jsonl"
    wait_for(lambda: metrics.is_file() and metrics.read_text().count("\n") > 2, process, output)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    printed = output.read_text()
    step = read_metrics(workdir)[-1]["step"]
    assert (
        f"stopped and saved at step {step} of 1000" in printed and f"--workdir={workdir}" in printed
    )
    assert "Traceback" not in printed
    assert state_of(workdir, step)
    if step <= 4:  # the same run as `finished`, but for its length
        assert_same_state(finished[0], workdir, step)


@pytest.mark.parametrize("piped", [pytest.param(False, marks=pytest.mark.soak), True])
def test_a_terminal_that_closes_saves(hf_folder, tmp_path, piped):
    """As at the end of an ssh session: the run has a terminal of its own, which goes away; what it
    prints goes there, or into a program that writes there."""
    workdir = tmp_path / "run"
    more = ["--config.steps=1000", "--config.checkpoint.every_steps=1000"]
    terminal, theirs = pty.openpty()
    to = theirs
    if piped:
        cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs)
        to = cat.stdin
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", *train_command(hf_folder, workdir, *more)],
        cwd=ROOT,
        env=os.environ | CACHE | {"XLA_FLAGS": XLA_QUICK},
        stdin=theirs,
        stdout=to,
        stderr=to,
        # the tests may run under nohup, which a session does not
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    os.close(theirs)
    metrics, printed = workdir / "metrics.jsonl", b""
    while not metrics.is_file() or metrics.read_text().count("\n") < 3:
        if select.select([terminal], [], [], 0.05)[0]:
            printed += os.read(terminal, 2**16)
        assert process.poll() is None, printed[-3000:]
    os.close(terminal)
    assert process.wait(PATIENCE) == 130
    assert state_of(workdir, read_metrics(workdir)[-1]["step"])
    if piped:
        cat.stdin.close()
        cat.wait(PATIENCE)


def test_nohup_keeps_a_run_going(hf_folder, tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "printed"
    command = train_command(hf_folder, workdir, "--config.steps=3", "--config.data.eval=")
    with output.open("w") as file:
        process = subprocess.Popen(
            ["nohup", sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | CACHE | {"XLA_FLAGS": XLA_QUICK},
            stdout=file,
            stderr=file,
        )
    metrics = workdir / "metrics.jsonl"
    wait_for(lambda: metrics.is_file() and "\n" in metrics.read_text(), process, output)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 0, output.read_text()[-3000:]


def test_a_full_disk_leaves_the_previous_checkpoint_good(finished, hf_folder, tmp_path):
    """The system refuses to let any file grow beyond 100 kB: the checkpoint of step 2 cannot be
    written."""
    workdir = tmp_path / "run"
    run_command(*train_command(hf_folder, workdir, "--config.steps=1"), check=True)
    env = os.environ | {"XLA_FLAGS": XLA_QUICK} | CACHE
    # It may read the cache of programs that others use, not write half a file there.
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}
    limited = subprocess.run(
        [sys.executable, "-m", *train_command(hf_folder, workdir)],
        cwd=ROOT,
        env=env,
        text=True,
        timeout=PATIENCE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    printed = limited.stdout
    assert limited.returncode == 2, printed
    # A thread of Orbax may add a traceback of its own.
    (error,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert re.match("error: the checkpoint of step [23] could not be written", error)
    assert "(File too large); the checkpoint of step 1 is complete" in error
    names = lambda: {path.name for path in (workdir / "checkpoints").iterdir()}
    # a step later, if that one had begun to be written too: no part of it counts
    assert {name for name in names() if name.isdigit()} == {"00000001"}
    (workdir / "checkpoints" / "00000003.orbax-checkpoint-tmp").mkdir(exist_ok=True)
    run_command(*train_command(hf_folder, workdir), check=True)
    assert_same_state(finished[0], workdir, 4)
    assert names() == {f"{step:08d}" for step in (1, 2, 3, 4)}


def test_resume_after_files_were_cut_off_and_refusal_of_other_questions(
    finished, hf_folder, tmp_path
):
    """A line of metrics.jsonl that was half written when the machine died; and a data file that
    changed."""
    rows, workdir = tmp_path / "rows.jsonl", tmp_path / "run"
    rows.write_text((hf_folder.parent / "rows.jsonl").read_text())
    own = [f"--config.data.train={rows}", "--config.data.eval="]
    run_command(*train_command(hf_folder, workdir, "--config.steps=1", *own), check=True)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "rew')
    done = run_command(*train_command(hf_folder, workdir, "--config.steps=2", *own), check=True)
    assert [line["step"] for line in read_metrics(workdir)] == [0, 1, 2]
    assert_same_state(finished[0], workdir, 2)
    rows.write_text(rows.read_text().replace("How many", "How  many"))
    done = run_command(*train_command(hf_folder, workdir, *own))
    assert "was trained on different questions" in one_error(done)


def test_self_aligned_reward_alone_warns(hf_folder, tmp_path):
    done = run_command(
        *train_command(
            hf_folder,
            tmp_path / "run",
            "--config.rewards.verifiable=0",
            "--config.steps=1",
            "--config.self_aligned.adaptive=false",
            "--config.data.eval=",
        ),
        check=True,
    )
    assert "warning: rewards.verifiable is 0" in done.stdout and "collapses" in done.stdout
    assert read_metrics(tmp_path / "run")[1]["advantage_share/self_aligned"] == 1


def test_the_evaluation_command_sees_in_a_workdir_what_training_saw(finished, tmp_path):
    """Of the last step, and of an earlier one: the same questions, the same figures."""
    workdir, _ = finished
    config = json.loads((workdir / "config.json").read_text())
    for step, more in ((4, []), (2, ["--step=2"])):
        output = tmp_path / str(step)
        run_command(
            "sar_jax.evaluate",
            f"--model={workdir}",
            f"--tasks={config['data']['eval']}:5",
            f"--output={output}",
            *more,
            check=True,
            XLA_FLAGS=XLA_QUICK,  # as in training: the same rounding
        )
        found = json.loads((output / "results.json").read_text())
        line = read_metrics(workdir)[step]
        assert found["model"]["step"] == step and found["decoding"]["max_answer_tokens"] == 12
        entry = found["tasks"]["test.jsonl"]
        for name in (
            "accuracy",
            "length",
            "length_correct",
            "length_unclipped",
            "clipped",
            "questions",
            "errors",
        ):
            assert entry[name] == line.get(f"eval/{name}"), name
        seen = pq.read_table(workdir / "samples" / f"eval_{step:06d}.parquet").to_pylist()
        answers = pq.read_table(output / "answers/test.jsonl.parquet").to_pylist()
        assert [a["answer"] for a in answers] == [s["answer"] for s in seen]
