"""The small projects in examples/, by the commands that their page shows, made shorter."""

import runpy
import subprocess
import sys

import pytest
from support import docs
from support.commands import ROOT, run_command
from support.training import read_metrics

# so little that a step takes a second, and the shapes of other tests' runs
_SHORT = {
    "steps": 2,
    "data.eval_questions": 4,
    "data.max_prompt_tokens": 120,
    "evaluation.batch": 4,
    "model.remat": "none",
    "rollout.questions": 4,
    "rollout.samples": 3,
    "rollout.slots": 8,
    "rollout.max_answer_tokens": 12,
    "loss.minibatch_questions": 2,
    "packing.row_tokens": 144,
    "packing.logprob_chunk": 144,
    "packing.rows_per_microbatch": 2,
}


def shown(words: str, **places) -> list[str]:
    """The arguments of the command on the page of examples that has these words in it."""
    page = ROOT / "examples/README.md"
    (command,) = [c for c in docs.commands() if c.page == page and words in " ".join(c.words)]
    found = " ".join(command.words)
    for place, value in places.items():
        found = found.replace(f"/tmp/{place}", str(value))
    return found.split()[2:] if " -m " in found else found.split()[1:]


def train(command: list[str], workdir) -> list[dict[str, float]]:
    short = [f"--config.{name}={value}" for name, value in _SHORT.items()]
    run_command(*command, *short, f"--workdir={workdir}", check=True)
    return read_metrics(workdir)


def test_a_reward_of_ones_own(tmp_path):
    few = ("--config.data.train=arithmetic:1000",)
    last = train([*shown("own_reward"), *few], tmp_path / "run")[-1]
    assert 0 < last["reward/no_filler/mean"] <= 1
    assert 0 <= last["reward/shortest_right/mean"] <= 1 / 3 and "kl" in last


def test_data_of_ones_own(tmp_path):
    make = shown("make_rows.py", rows=tmp_path / "rows")
    subprocess.run([sys.executable, *make], cwd=ROOT, check=True, capture_output=True)
    assert {f.name for f in (tmp_path / "rows").iterdir()} == {"train.parquet", "test.parquet"}
    lines = train(shown("own_data/config.py", rows=tmp_path / "rows"), tmp_path / "run")
    assert "eval/accuracy" in lines[0] and len(lines) == 3


def test_a_cold_start(tmp_path):
    pretrain = shown("cold_start/pretrain.py", cold_start=tmp_path / "cold")
    short = ["--config.steps=3", "--config.data.eval_questions=4", "--config.batch_examples=8"]
    run_command(*pretrain, *short, check=True)
    lines = train(shown("cold_start/train.py", cold_start=tmp_path / "cold"), tmp_path / "run")
    assert len(lines) == 3


@pytest.mark.quick
def test_rows_of_the_cold_start_are_right():
    rows = runpy.run_path(str(ROOT / "examples/cold_start/rows.py"))["rows"]
    train, test = ([*rows(split)] for split in ("train", "test"))
    for row in train[:50] + test[:50]:
        number = row["question"].split()[-1].rstrip("?")
        assert int(row["answer"]) == sum(int(digit) for digit in number)
        assert row["solution"].endswith(f"The answer is {row['answer']}.")
    assert len(train) == 2000 and len(test) == 200
