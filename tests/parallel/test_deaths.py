"""A process of two that dies, fails alone or is an impostor, on this machine's loopback."""

import signal
import subprocess
import sys

import pytest
from support.commands import PATIENCE, ROOT, free_port
from support.several import TAKEN, finished, output, start

from sar_jax.parallel import signing, watch

# little to read and to compute
FEW = (
    "--config.data.train=arithmetic:100",
    "--config.data.eval=",
    "--config.rollout.questions=4",
    "--config.rollout.slots=8",
    "--config.loss.minibatch_questions=2",
)
# where one of two processes dies, and how often it gets there
DEATHS = [
    pytest.param(0, "sar_jax.training.step:_learn_policy", 2, id="update"),
    pytest.param(
        1,
        "sar_jax.training.storage.checkpoints:Checkpoints.save",
        1,
        id="save",
        marks=pytest.mark.soak,
    ),
    pytest.param(1, "sar_jax.training.setup:_read", 1, id="start", marks=pytest.mark.soak),
    pytest.param(1, "sar_jax.training.rollouts:_sample", 2, id="rollout", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("victim, place, calls", DEATHS)
def test_a_process_that_dies_is_named_and_ends_the_others(tmp_path, victim, place, calls):
    """By SIGKILL: the other one ends with a line that names it, and a status of its own."""
    status, said = survive(tmp_path / "run", victim, place, calls)
    *_, last = said.strip().splitlines()
    assert last.startswith(f"error: process {victim} of 2 has ended"), said[-3000:]
    assert "start the same command again" in last and said.count("\nerror:") == 1
    assert status == watch.GONE and "Traceback" not in said


def survive(workdir, victim, place, calls):
    """The exit status of the other process, and what it printed."""
    options = ["--config.steps=500", *FEW, "--heartbeat_timeout=12"]
    started = start(2, workdir, *options, "--config.checkpoint.every_steps=1", real=True,
                    victim=(victim, place, str(calls)))  # fmt: skip
    survivor = started[1 - victim]
    try:
        status = survivor.wait(PATIENCE)
        assert started[victim].wait(PATIENCE) == -signal.SIGKILL
    finally:
        for process in started:
            process.kill()
    said = output(workdir, 1 - victim).read_text()
    return survive(workdir, victim, place, calls) if TAKEN.search(said) else (status, said)


def test_an_error_of_one_process_alone_is_told_to_the_others(tmp_path):
    last = {1: ["--config.model.path=/no/such/model"]}
    statuses, outputs = finished(2, tmp_path / "run", *FEW, last=last)
    assert statuses == [2, 2]
    assert "/no/such/model: no such folder" in outputs[1] and "process 1" not in outputs[1]
    assert "process 1 of 2 has ended: /no/such/model: no such folder" in outputs[0]


def test_processes_with_different_tokens_do_not_meet(tmp_path):
    statuses, outputs = finished(
        2, tmp_path / "run", "--process_timeout=10", environment={1: {signing.TOKEN: "another"}}
    )
    assert statuses == [2, 2] and not (tmp_path / "run").exists()
    assert all(signing.TOKEN in said and "Traceback" not in said for said in outputs)


IMPOSTOR = """
import pickle, sys
import jax
from sar_jax.parallel import signing
from jax._src import distributed
class Command:
    def __reduce__(self):
        return open, (sys.argv[2], "w")
jax.distributed.initialize(sys.argv[1], 2, 1, cluster_detection_method="deactivate")
store = distributed.global_state.client
for number in range(1, 20):
    for message in (pickle.dumps(Command()), pickle.dumps(("host", Command()))):
        key = f"sar_jax/{number}/1"
        store.key_value_set_bytes(f"{key}/0", message, allow_overwrite=True)
        store.key_value_set(f"{key}/parts", "1", allow_overwrite=True)
import time
time.sleep(60)
"""


def test_an_impostor_at_the_coordinators_port_has_nothing_run(tmp_path):
    """It talks to the coordinator as process 1, which never came, would: process 0 says that what
    it reads is no message, and runs nothing of it."""
    first = """
import sys
import jax
from absl import flags
from sar_jax.errors import UserError
from sar_jax.parallel import multihost
flags.FLAGS(sys.argv[:1])
jax.distributed.initialize(sys.argv[1], 2, 0, cluster_detection_method="deactivate",
                           coordinator_bind_address=sys.argv[1])
jax.process_count = lambda *_: 2
jax.process_index = lambda *_: 0
import time
time.sleep(3)
try:
    multihost.gather("mine", 30)
except UserError as error:
    print("refused:", error, flush=True)
import os
os._exit(0)
"""
    proof, address = tmp_path / "ran", f"127.0.0.1:{free_port()}"
    scripts = [[first, address], [IMPOSTOR, address, str(proof)]]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", *script], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for script in scripts
    ]
    try:
        said = started[0].communicate(timeout=PATIENCE)[0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert "refused: the message sar_jax/1/1 is damaged" in said and not proof.exists()
