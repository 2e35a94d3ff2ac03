"""Several processes as one run, real ones on this machine's loopback: the same losses, and
an end for all together."""

import re
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from support.commands import PATIENCE, ROOT, free_port, wait_for
from support.oracle import assert_same_numbers
from support.several import finish, finished, output, start
from support.training import read_metrics

from sar_jax.errors import UserError
from sar_jax.parallel import multihost
from sar_jax.training import questions as questions_lib

SAME = ("reward", "eval", "kl", "grad_norm", "completions", "accuracy", "perplexity", "entropy")


OWN = f"{ROOT}/tests/support/own.py"
# as few questions as four devices can share in two batches, of data that is read soon
FEW = (
    "--config.data.train=arithmetic:100",
    "--config.rollout.questions=4",
    "--config.rollout.slots=8",
    "--config.loss.minibatch_questions=2",
)
KEPT = (
    *FEW,
    "--config.data.eval=arithmetic:6",
    "--config.evaluation.batch=4",
    "--config.logging.samples_every_steps=1",
    "--config.checkpoint.every_steps=2",
    f"--config.rewards.custom={OWN}:letters=0.1,{OWN}:apart=0.01",
)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Two processes with two devices each that share nothing, not even the seed of hashes; Ctrl-C
    on the second one after two steps. The workdir, exit statuses and outputs."""
    workdir = tmp_path_factory.mktemp("several") / "run"
    started = start(2, workdir, *KEPT, "--config.steps=500", devices=2, real=True)
    try:
        printed = output(workdir, 0)
        wait_for(lambda: "step 2/" in printed.read_text(), started[0], printed)
        started[1].send_signal(signal.SIGINT)
        return workdir, *finish(started, workdir)
    finally:
        for p in started:
            p.kill()


@pytest.fixture(scope="module")
def saved(interrupted) -> int:
    """The step at which it was stopped."""
    return int(re.search(r"stopped and saved at step (\d+)", interrupted[2][0])[1])


@pytest.fixture(scope="module")
def alone(saved, tmp_path_factory):
    """One process, two steps more."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    statuses, outputs = finished(1, workdir, *KEPT, f"--config.steps={saved + 2}")
    assert statuses == [0], outputs[0][-2000:]
    return workdir


def test_ctrl_c_on_one_process_saves_on_all(interrupted, saved):
    workdir, statuses, _ = interrupted
    assert statuses == [130, 130] and (workdir / f"checkpoints/{saved:08d}").is_dir()


def test_two_processes_then_one_then_two_train_like_one(interrupted, saved, alone):
    """Losses, questions, answers and evaluations of all steps are those of one process: two begin
    with two devices each, one goes on, and then two again."""
    workdir, _, printed = interrupted
    assert_silent([printed[0], printed[1].replace("stopping after this step", "")])
    for processes, steps in ((1, saved + 1), (2, saved + 2)):
        statuses, printed = finished(
            processes, workdir, *KEPT, f"--config.steps={steps}", devices=2
        )
        assert statuses == [0] * processes, "\n".join(o[-1500:] for o in printed)
        resumed = f"process(es) saved step {steps - 1}, and {processes} go on"
        assert f"resumed at step {steps - 1}" in printed[0] and resumed in printed[0]
        assert_silent(printed)
    assert_same_run(workdir, alone)
    assert read_metrics(workdir)[2]["compilations"] == 0


def assert_silent(outputs):
    """The first process speaks for all."""
    for silent in outputs[1:]:
        assert "step" not in silent.lower() and "accuracy" not in silent
        assert "compiled programs" not in silent


def test_a_reward_that_fails_on_one_process_ends_all_of_them_saved(alone, tmp_path):
    (asked,) = {
        row["question"]
        for row in pq.read_table(alone / "samples/step_000002.parquet").to_pylist()[:1]
    }
    fails = f"--config.rewards.custom={OWN}:fails(question={asked!r})=1"
    options = fails, "--config.steps=4", "--config.data.eval=", *FEW
    statuses, outputs = finished(2, tmp_path / "run", *options)
    assert statuses == [2, 2], "\n".join(o[-1500:] for o in outputs)
    assert "ValueError: no such question. The run is saved at step 1" in outputs[0]
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [0, 1]
    assert (tmp_path / "run/checkpoints/00000001").is_dir()


@pytest.mark.soak
def test_four_processes_train_like_one(alone, saved, tmp_path):
    statuses, outputs = finished(4, tmp_path / "run", *KEPT, f"--config.steps={saved + 2}")
    assert statuses == [0] * 4, "\n".join(o[-1500:] for o in outputs)
    assert_same_run(tmp_path / "run", alone)


def assert_same_run(workdir, alone):
    """But for the order of sums."""
    ours, expected = read_metrics(workdir), read_metrics(alone)
    assert [line["step"] for line in ours] == list(range(len(expected)))
    for step, line in enumerate(expected):
        same = {n: v for n, v in line.items() if n.split("/")[0] in SAME}
        # and no more, but for the evaluation at the end of what went on later
        assert all(n in line or n.startswith("eval/") for n in ours[step])
        assert_same_numbers({n: ours[step][n] for n in same}, same, scale=1e-3)
        # A loss is a sum of advantages that nearly cancel: it is compared with what is summed.
        assert abs(ours[step].get("loss", 0) - line.get("loss", 0)) < 1e-5
    names = sorted(file.name for file in (alone / "samples").iterdir())
    assert {f"step_{step:06d}.parquet" for step in range(1, len(expected))} < set(names)
    for name in names:
        mine, theirs = (pq.read_table(w / "samples" / name).to_pydict() for w in (workdir, alone))
        assert mine["answer"] == theirs["answer"] and mine["question"] == theirs["question"]
        assert mine["correct"] == theirs["correct"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            [f"--config.{name}=9" for name in ("rollout.questions", "loss.minibatch_questions")],
            "multiple of the 2 processes",
        ),
        (["--config.mesh.fsdp=3"], "does not multiply to the 2 devices"),
    ],
)
def test_bad_input_is_an_error_of_every_process(tmp_path, arguments, message):
    statuses, outputs = finished(2, tmp_path / "run", *arguments)
    assert statuses == [2, 2]
    assert all(message in output for output in outputs) and not (tmp_path / "run").exists()


def test_an_end_of_all_waits_for_the_slowest(tmp_path):
    """Process 0 holds the store: one that still listens when it leaves would be ended by JAX's own
    abort."""
    script = """
import sys, time
from absl import flags
from sar_jax.parallel import multihost
flags.FLAGS(sys.argv)
multihost.initialize()
from jax._src import distributed
client = distributed.global_state.client
if flags.FLAGS.process == 1:
    class Slow:
        def __getattr__(self, name):
            return getattr(client, name)
        def wait_at_barrier(self, *arguments):
            client.wait_at_barrier(*arguments)
            time.sleep(3)
    distributed.global_state.client = Slow()
multihost.end(2, "error: mine")
"""
    port = free_port()
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                script,
                f"--coordinator=127.0.0.1:{port}",
                "--processes=2",
                f"--process={i}",
            ],
            cwd=ROOT,
        )
        for i in range(2)
    ]
    try:
        assert [p.wait(PATIENCE) for p in started] == [2, 2]
    finally:
        for p in started:
            p.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--coordinator=127.0.0.1:99"],
        ["--coordinator=127.0.0.1:99", "--processes=2"],
        ["--coordinator=127.0.0.1:99", "--processes=2", "--process=2"],
        ["--coordinator=nowhere", "--processes=2", "--process=0"],
        ["--processes=4"],
    ],
)
def test_options_that_do_not_fit_together(tmp_path, arguments):
    statuses, outputs = finished(1, tmp_path / "run", *arguments)
    assert statuses == [2] and (
        "--coordinator" in outputs[0] or "--processes is 4, but 1 started" in outputs[0]
    )


def test_one_process_needs_nobody():
    assert multihost.gather({"a": 1}) == [{"a": 1}] and multihost.first(lambda: 3) == 3
    multihost.same(1, "it")
    with pytest.raises(UserError, match="mine"):
        multihost.first(lambda: (_ for _ in ()).throw(UserError("mine")))
    with pytest.raises(TypeError, match="tuple"):  # as it would be with several
        multihost.gather((1, 2))


@pytest.mark.parametrize("shards", [2, 4])
def test_the_shards_batches_together_are_those_of_one_process_in_every_epoch(shards):
    rows = list(range(10))  # which the shards do not divide
    whole = questions_lib.batches(rows, 4, seed=3)
    parts = [questions_lib.batches(rows, 4 // shards, 3, i, shards) for i in range(shards)]
    for _ in range(12):
        together = [row for turn in zip(*(next(p) for p in parts)) for row in turn]
        assert together == next(whole)
