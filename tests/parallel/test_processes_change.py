"""A run goes on with another number of processes: two, then one, then two."""

import pyarrow.parquet as pq
from support.several import finished
from support.training import read_metrics, timeless


def test_two_then_one_then_two_ask_the_same_questions(tmp_path):
    """No question is asked twice or left out, and numbers agree but for the order of sums."""
    alone, workdir = tmp_path / "alone", tmp_path / "run"
    common = ["--config.data.eval=", "--config.optimizer.final_lr_fraction=1"]
    common += ["--config.checkpoint.every_steps=1", "--config.logging.samples_every_steps=1"]
    assert finished(1, alone, *common, "--config.steps=3")[0] == [0]
    for processes, steps in ((2, 1), (1, 2), (2, 3)):
        statuses, outputs = finished(processes, workdir, *common, f"--config.steps={steps}")
        assert statuses == [0] * processes, outputs
        if steps > 1:
            assert f"process(es) saved step {steps - 1}, and {processes} go on" in outputs[0]
    ours, theirs = ([timeless(line) for line in read_metrics(w)] for w in (workdir, alone))
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [0, 1, 2, 3]
    asked = [
        sorted(row["question"] for row in samples(w, step))
        for w in (workdir, alone)
        for step in (1, 2, 3)
    ]
    assert asked[:3] == asked[3:]


def samples(workdir, step):
    return pq.read_table(workdir / "samples" / f"step_{step:06d}.parquet").to_pylist()
