"""The runs that soaks interrupt: six steps, compared with a run that nothing interrupted."""

import json

import pyarrow.parquet as pq
from support.training import assert_same_state, read_metrics, small, timeless

STEPS = 6
KINDS = {
    "plain": [],
    "LoRA": ["lora.rank=4", "optimizer.lr=1e-3"],
    "PPO": ["advantage.estimator=critic", "loss.minibatch_questions=2"],
}


def command(workdir, kind):
    options = small(
        f"steps={STEPS}", "data.eval=arithmetic:8", "evaluation.every_steps=2", *KINDS[kind]
    )
    return ["sar_jax.train", *options, f"--workdir={workdir}"]


def digests(workdir):
    """Of every array of the last step, wherever it was when it was saved."""
    file = workdir / f"checkpoints/{STEPS:08d}/meta/metadata"
    return json.loads(file.read_text())["arrays"]


def assert_same_run(one, other, *names):
    """names: of states that are read too; those of several processes need these."""
    assert digests(one) == digests(other)
    for name in names:
        assert_same_state(one, other, STEPS, name)
    ours, theirs = ([timeless(line) for line in read_metrics(w)] for w in (one, other))
    assert ours == theirs
    for file in sorted((one / "samples").iterdir()):
        again = other / "samples" / file.name
        assert pq.read_table(file) == pq.read_table(again), file.name
