"""The short diffs of CONTRIBUTING.md: each applies to the package as it is, and does what it is
for."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from support import docs
from support.commands import ROOT

DIFFS = docs.fences((ROOT / "CONTRIBUTING.md").read_text(), "diff")

# What is tried in a copy of the package with the diff, in a Python of its own.
REWARD = """
import numpy as np
from sar_jax import config
from sar_jax.rl import rewards
from sar_jax.training.settings import derived

signals = rewards.Signals(
    correct=np.array([[True, False, True]]),
    lengths=np.array([[25, 25, 100]]),
    mean_logp=np.zeros((1, 3)),
    mean_logp_alone=np.zeros((1, 3)),
    max_length=100,
)
own = config.Rewards(self_aligned=0.0, short_and_right=2.0)
weights = derived.reward_weights(config.TrainConfig(rewards=own))
total, parts = rewards.total(weights, signals)
assert parts["short_and_right"].tolist() == [[0.75, 0, 0]]
assert total.tolist() == [[2.5, 0, 1]]
"""
TASK = """
import json, pathlib, sys
from sar_jax.errors import UserError
from sar_jax.text import tasks

folder = pathlib.Path(sys.argv[1])
rows = [
    {"Body": "Dan had $ 3 left.", "Question": "How much?", "Answer": 1.0, "Type": "x"},
    {"Body": "Eve has 2 cats. ", "Question": "How many?", "Answer": "2"},
]
(folder / "test.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
found = tasks.load(f"svamp={folder}", "test")
assert {(e.question, e.answer) for e in found} == {
    ("Dan had $ 3 left. How much?", "1"),
    ("Eve has 2 cats. How many?", "2"),
}
own = {"question": "1 + 1?", "answer": "2", "solution": "It is 2."}
(folder / "own.jsonl").write_text(json.dumps(own))
(example,) = tasks.load(f"svamp={folder}/own.jsonl", "test")
assert (example.question, example.answer, example.solution) == ("1 + 1?", "2", "It is 2.")
(folder / "own.jsonl").write_text(json.dumps(own | {"answer": "two"}))
try:
    tasks.load(f"svamp={folder}/own.jsonl", "test")
except UserError as error:
    assert "the answer 'two' is not a number" in str(error)
else:
    raise AssertionError("a faulty row is not named")
"""
FAMILY = """
import json, pathlib, runpy, sys
sys.path.insert(0, "tests")
import support.environment
import torch
from support.models import load_torch, make_hf_folder
from sar_jax import config
from sar_jax.text import prompts

scratch = pathlib.Path(sys.argv[1])
folder = make_hf_folder(scratch / "model", family="seed_oss")
row = {"question": "How many are 3 and 4?", "answer": "3 + 4 = 7. The answer is 7."}
(scratch / "in.jsonl").write_text(json.dumps(row))
files = [f"--input={scratch}/in.jsonl", f"--output={scratch}/out.jsonl"]
sys.argv = ["sar_jax.explain", f"--model={folder}", *files]
try:
    runpy.run_module("sar_jax.explain", run_name="__main__")
except SystemExit as end:
    assert not end.code
ours = json.loads((scratch / "out.jsonl").read_text())["ppl_conditional"]

prompter = prompts.Prompter(prompts.load_tokenizer(str(folder)), config.Prompt())
prompt, answer = prompter.prompt(row["question"]), prompter.answer(row["answer"])
with torch.no_grad():
    logits = load_torch(folder)(torch.tensor([prompt + answer])).logits[0].double()
logps = torch.log_softmax(logits, -1)[range(len(prompt) - 1, len(prompt + answer) - 1), answer]
assert abs(ours / float(torch.exp(-logps.mean())) - 1) < 1e-3
"""


@pytest.mark.parametrize(
    "diff, tried",
    [*zip(DIFFS, (REWARD, TASK, FAMILY), strict=True)],
    ids=["reward", "task", "family"],
)
def test_a_diff_applies_and_does_what_it_is_for(diff, tried, tmp_path):
    copy, scratch = tmp_path / "copy", tmp_path / "scratch"
    scratch.mkdir()
    for folder in ("sar_jax", "tests/support"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(copy), "GIT_CEILING_DIRECTORIES": str(tmp_path)}

    def run(*command: str | pathlib.Path, **more) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, **more
        )

    applied = run("git", "apply", "--whitespace=error", "-", input=diff)
    assert applied.returncode == 0, applied.stderr
    done = run(sys.executable, "-c", tried, scratch)
    assert done.returncode == 0, done.stderr
