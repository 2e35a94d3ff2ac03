"""docs/plugins.md, followed as it is written: its functions in one file, and its commands."""

import json
import re

import numpy as np
import pytest
from support import docs
from support.commands import ROOT, run_command
from support.judge import Server
from support.models import load_torch, make_hf_folder
from support.training import read_metrics, small, write_lines

from sar_jax.text import prompts

PAGE = ROOT / "docs/plugins.md"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """All functions of the page in one my.py."""
    blocks = docs.fences(PAGE.read_text(), "python")
    path = tmp_path_factory.mktemp("page") / "my.py"
    path.write_text("\n\n".join(blocks))
    return path


def commands(words: str, file, **places) -> list[list[str]]:
    """The arguments of the page's commands that have these words in them."""
    found = []
    for command in docs.commands():
        if command.page == PAGE and words in " ".join(command.words):
            line = [re.sub(r"\bmy\.py\b", str(file), word) for word in command.words[2:]]
            for place, value in places.items():
                line = [word.replace(place, str(value)) for word in line]
            found.append(line)
    return found


def train(line: list[str], workdir, *more: str) -> dict[str, float]:
    given = [word for word in line if word.startswith("--config.")]
    short = [word for word in small("steps=1", "loss.minibatch_questions=4", *more)]
    run_command(line[0], *short, *given, f"--workdir={workdir}", check=True)
    return read_metrics(workdir)[-1]


def test_each_function_takes_less_than_twenty_lines():
    blocks = docs.fences(PAGE.read_text(), "python")
    assert len(blocks) == 6
    for block in blocks:
        assert len([line for line in block.splitlines() if line.strip()]) < 20


def test_rewards(file, tmp_path):
    (line,) = commands("rewards.custom", file)
    last = train(line, tmp_path / "run")
    assert {"reward/no_wait/mean", "reward/shortest/mean", "time/reward"} <= last.keys()
    assert {"advantage_share/no_wait"} <= last.keys()


def test_a_verifier(file, tmp_path):
    (line,) = commands("verification.verifier=my.py", file)
    assert train(line, tmp_path / "run")["verifier/error_share"] == 0


def test_a_judge(file, tmp_path):
    with Server("WRONG") as server:
        (line,) = commands("verifier=judge", file)
        line = [word.replace("http://localhost:8000/v1", server.url) for word in line]
        line = [word.replace("workers=16", "workers=1") for word in line]
        last = train(line, tmp_path / "run")
    assert last["verifier/judge_calls"] == len(server.requests) > 0 == last["accuracy"]


def test_data_and_prompts(file, tmp_path):
    plain, with_prompts = commands("data.train=my.py:rows", file)
    train(plain, tmp_path / "plain")
    train(with_prompts, tmp_path / "prompts")
    for name in ("plain", "prompts"):
        fields = json.loads((tmp_path / name / "plugins.json").read_text())
        assert any("config.data.train" in key for key in fields)


def test_a_tracker(file, tmp_path):
    (line,) = commands("logging.to", file)
    train(line, tmp_path / "run")
    assert (tmp_path / "run/loggers.json").is_file()


def test_a_family_scores_as_torch_does_and_a_run_is_exported_and_evaluated(file, tmp_path):
    """Seed-OSS, which `transformers` has and we have not."""
    folder = make_hf_folder(
        tmp_path / "model",
        family="seed_oss",
        head_dim=10,
        attention_bias=True,
        attention_out_bias=True,
        mlp_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 777.0},
    )
    (line,) = commands("model.path=HF_DIR", file, HF_DIR=folder)
    workdir = tmp_path / "run"
    train(line, workdir, "data.train=arithmetic:100")
    hf = tmp_path / "hf"
    run_command("sar_jax.export", f"--workdir={workdir}", f"--output={hf}", check=True)
    exported = load_torch(hf)
    assert exported.config.model_type == "seed_oss"
    rows = write_lines(tmp_path / "in.jsonl", [{"question": "2 + 3?", "answer": "It is 5."}])
    out = tmp_path / "out.jsonl"
    explain = ["sar_jax.explain", f"--model={workdir}", f"--input={rows}", f"--output={out}"]
    run_command(*explain, check=True)
    found = json.loads(out.read_text())
    assert np.isfinite(found["self_aligned"])
    assert found["ppl_conditional"] == pytest.approx(by_torch(exported, workdir), rel=1e-4)
    evaluate = ["sar_jax.evaluate", f"--model={workdir}", "--tasks=arithmetic:2"]
    run_command(*evaluate, f"--output={tmp_path / 'results'}", check=True)


def by_torch(network, workdir) -> float:
    """ppl(a|q) of the row, by torch in float64."""
    import torch

    from sar_jax.training.storage import workdir as workdir_lib

    config = workdir_lib.read_config(workdir_lib.epath.Path(workdir))
    tokenizer = prompts.load_tokenizer(config.model.path)
    prompter = prompts.Prompter(tokenizer, config.prompt)
    context, answer = prompter.prompt("2 + 3?"), prompter.answer("It is 5.")
    ids = torch.tensor([[*context, *answer]])
    with torch.no_grad():
        logps = network.double()(ids).logits[0].log_softmax(-1)
    at = range(len(context) - 1, ids.shape[1] - 1)
    picked = [logps[i, token].item() for i, token in zip(at, answer)]
    return float(np.exp(-np.mean(picked)))
