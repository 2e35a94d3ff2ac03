"""The benchmarks of score, update, step and lengths: every program does the same work, and the
figures are what they are called."""

import importlib.metadata
import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
from peers import meter, turns
from peers import work as work_lib
from peers.work import Work
from support.commands import ROOT
from support.environment import CACHE, XLA_QUICK
from support.models import make_hf_folder

from sar_jax.model import hf, parameters

SCRIPTS = "against_peers lengths real_model rollout roofline score step update".split()
SMALL = (
    "rollout.questions=2",
    "rollout.samples=2",
    "rollout.slots=4",
    "rollout.max_answer_tokens=8",
    "loss.minibatch_questions=1",
    "packing.row_tokens=96",
    "packing.rows_per_microbatch=1",
    "data.train=arithmetic:64",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A random Qwen3 whose positions go as far as the lengths."""
    made = tmp_path_factory.mktemp("model")
    return str(make_hf_folder(made, max_position_embeddings=1024))


def run(script: str, *words: str) -> list[dict]:
    """A script's figures: every line of its output is one."""
    done = subprocess.run(
        [sys.executable, ROOT / f"benchmarks/{script}.py", *words],
        cwd=ROOT,
        env=os.environ | CACHE | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": XLA_QUICK},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("task", ("score", "update"))
@pytest.mark.parametrize("divisor", (0, 64))
def test_sar_jax_and_torch_compute_the_same(folder, task, divisor):
    """Answers of one length, and of many: packed here, padded there. Torch takes them in parts."""
    from peers import with_sar_jax, with_torch

    work = Work(folder, task, questions=4, minibatch=2, prompt=7, answer=9, divisor=divisor, rows=4)
    ours, theirs = with_sar_jax.Program(work)(), with_torch.Program(work)()
    assert abs(ours) > 1e-3
    assert ours == pytest.approx(theirs, rel=2e-4)


def test_a_step_scores_and_learns(folder):
    """Its value is the score's, and the next one's is that of a policy that has learnt."""
    from peers import with_sar_jax

    overrides = ("optimizer.lr=0.01",)
    work = Work(folder, "step", questions=2, minibatch=1, prompt=7, answer=9, overrides=overrides)
    program = with_sar_jax.Program(work)
    score = with_sar_jax.Program(
        Work(folder, "score", questions=2, prompt=7, answer=9, minibatch=2)
    )
    first, second = program(), program()
    assert first == pytest.approx(score(), rel=1e-5)
    assert abs(second - first) > 1e-3 * abs(first)


def test_answers_have_the_published_lengths():
    work = Work("", "step", questions=128, samples=6, divisor=8)
    prompts, answers = work_lib.lengths(work)
    assert (len(prompts), len(answers)) == (128, 768)
    assert answers.mean() == pytest.approx(900 / 8, rel=0.01)
    assert answers.max() == 4096 / 8 and answers.min() >= 1
    assert np.log(answers[answers < answers.max()]).std() == pytest.approx(1, abs=0.1)
    assert prompts.min() >= 60 / 8 - 0.5 and prompts.max() <= 400 / 8


def test_padding_is_on_the_outside_and_no_token_is_lost():
    work = Work("", "step", questions=3, samples=2, divisor=64)
    found, rows = work_lib.sequences(work, 4096), work_lib.padded(work, 4096)
    for b in range(6):
        prompt = rows.prompts[b][rows.prompt_mask[b]]
        assert prompt.tolist() == found.prompts[b // 2].tolist()
        assert rows.answers[b][rows.answer_mask[b]].tolist() == found.answers[b].tolist()
        assert (np.diff(rows.prompt_mask[b].astype(int)) >= 0).all()
        assert (np.diff(rows.answer_mask[b].astype(int)) <= 0).all()


def test_a_peak_is_that_of_its_own_call():
    large = meter.measured(lambda: float(np.ones(2**26).sum()))  # 512 MiB
    small = meter.measured(lambda: 1.0)
    assert large.value == 2**26 and small.value == 1
    assert large.peak - small.peak > 0.4


def test_a_ratio_is_the_median_of_the_rounds(capsys):
    """A machine that was slow in one round was so for both."""
    used = lambda seconds, peak: [meter.Used(2 * s, s, peak, 0.0) for s in seconds]
    turns.report("x", {"ours": used((1, 10, 3), 1.0), "theirs": used((2, 40, 4), 4.0)}, dtype="d")
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {(f["figure"], f["of"], f.get("to")): f["value"] for f in figures}
    assert found["x.processor", "ours", "theirs"] == 0.5
    assert found["x.peak", "ours", "theirs"] == 0.25
    assert found["x.processor", "ours", None] == 3 and found["x.wall", "theirs", None] == 8
    assert {f["dtype"] for f in figures} == {"d"}


def test_programs_take_turns_and_end(folder, tmp_path):
    """Two checkouts, which are one here."""
    figures = run(
        "against_peers",
        f"--environments={tmp_path}",
        "--peers=",
        "--only=score",
        f"--beside={ROOT}",
        f"--model={folder}",
        "--questions=2",
        "--prompt=7",
        "--answer=9",
        "--rounds=2",
    )
    first = {f["of"]: f["value"] for f in figures if f["figure"] == "first_value"}
    assert list(first) == ["sar_jax", str(ROOT)] and len(set(first.values())) == 1
    ratios = [f["figure"] for f in figures if f.get("to") == str(ROOT)]
    assert ratios == ["score.processor", "score.wall", "score.peak"]


@pytest.mark.parametrize(
    "line, said", [("exit 1", "^x has ended: its message"), ("kill -9 $$", "^x was killed")]
)
def test_a_program_that_ends_early_is_named(tmp_path, line, said):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{line}\n")
    python.chmod(0o755)
    with pytest.raises(SystemExit, match=said):
        turns.start(turns.Side("x", "module", str(python)), Work("", "score"))


def test_a_steps_shares_are_of_all_of_it():
    figures = run("step", "--steps=3", *(f"--set={field}" for field in SMALL))
    found = {f["figure"]: f["value"] for f in figures}
    shares = [value for name, value in found.items() if name.count(".") > 1 and "wall" in name]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert found["step.compilations"] == 0
    names = {name.rpartition(".")[0] for name in found}
    assert names >= {"step.score", "step.rollout.decode", "step.update.accumulate", "step.outside"}


def test_a_roofline_is_compared_function_by_function(folder):
    words = ("--sizes=", f"--model={folder}", "--rounds=1", "--seconds=0.01")
    figures = run("roofline", *words)
    found = {f["figure"]: f["value"] for f in figures}
    assert all(np.isfinite(value) and value > 0 for value in found.values())
    limits = {"peak.float32", "peak.bfloat16", "bandwidth"}
    functions = {"score", "gradient", "apply", "decode"}
    compared = {f"roofline.{name}.{kind}" for name in functions for kind in ("plan", "shapes")}
    assert set(found) >= limits | compared | {"roofline.step.plan", "roofline.step.shapes"}
    assert {f["model"] for f in figures if "model" in f} == {folder}


@pytest.mark.parametrize("name, millions", [("tiny", 0.66), ("width256", 5.0)])
def test_the_models_of_a_roofline_are_as_large_as_their_names_say(tmp_path, name, millions):
    scope = runpy.run_path(str(ROOT / "benchmarks/roofline.py"))
    scope["_write"](tmp_path / "model", scope["SIZES"][name])
    cfg = hf.load_config(tmp_path / "model", 256)
    assert parameters.count_params(cfg) == pytest.approx(millions * 1e6, rel=0.01)
    assert (tmp_path / "model/model.safetensors").stat().st_size >= 4e6 * millions * 0.99


def called(script: str, capsys, monkeypatch, *words: str) -> str:
    """What a script prints in this process."""
    monkeypatch.setattr(sys, "argv", [script, *words])
    runpy.run_path(str(ROOT / f"benchmarks/{script}.py"), run_name="__main__")
    return capsys.readouterr().out


def test_segments_leave_less_to_attention_where_answers_are_shorter(capsys, monkeypatch):
    """A share of less than 1 each; rows of one answer skip padding alone, and share nothing."""
    monkeypatch.chdir(ROOT)
    long, short, alone = (
        [json.loads(line)["value"] for line in printed.splitlines()]
        for printed in (
            called("segments", capsys, monkeypatch, "--steps=1", f"--answer_tokens={n}")
            for n in (900, 200, 4096)
        )
    )
    assert all(0.2 < s < l < 1 for s, l in zip(short, long))
    assert all(value > 0.8 for value in alone) and alone[-1] == 1


def test_shares_of_rows_count_every_token(capsys, monkeypatch):
    words = ("--divisor=8", "--questions=16", "--rows=4,8")
    printed = called("lengths", capsys, monkeypatch, *words)
    figures = [json.loads(line) for line in printed.splitlines()]
    prompts, answers = work_lib.lengths(Work("", "step", questions=16, samples=6, divisor=8))
    real = (6 * prompts.sum() + answers.sum(), 5 * len(answers) + answers.sum())
    for rows in (4, 8):
        found = {f["figure"]: f["value"] for f in figures if f.get("rows_per_microbatch") == rows}
        for name, tokens in zip(("asked", "alone", "all"), (*real, sum(real)), strict=True):
            assert found[f"lengths.{name}.rows"] % rows == 0
            computed = found[f"lengths.{name}.rows"] * 640
            assert found[f"lengths.{name}.filled"] == pytest.approx(tokens / computed, rel=1e-3)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_a_script_measures(script, capsys, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        called(script, capsys, monkeypatch, "--help")
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"python benchmarks/{script}.py" in printed and "one line of JSON a figure" in " ".join(
        printed.lower().split()
    ).replace("one line of json", "one line of JSON")


def test_a_model_is_compared_with_transformers(folder, tmp_path):
    """The torch of this Python is the environment's; paths are from where the script is started."""
    (tmp_path / "torch").symlink_to(sys.prefix)
    model = os.path.relpath(folder, ROOT)
    words = (f"--output={os.path.relpath(tmp_path, ROOT)}", f"--model={model}")
    words += ("--sequences=2", "--tokens=6")
    figures = run("real_model", *words, "--data=arithmetic:5")
    found = {f["figure"]: f["value"] for f in figures}
    assert 0 < found["logits.difference"] < 1e-4 < found["logits.largest"]
    assert found["greedy.same"] == 2 and found["ids.same"] == 10


def test_an_environment_is_kept_and_one_that_cannot_be_made_is_named(tmp_path):
    """The torch of this Python, as an environment that is there already."""
    from peers import environments

    (tmp_path / "torch").symlink_to(sys.prefix)
    assert environments.python("torch", tmp_path) == f"{tmp_path}/torch/bin/python"
    version = importlib.metadata.version("torch")
    assert f"torch {version}" in environments.described("torch", sys.executable)
    with pytest.raises(SystemExit, match="tunix needs python0.1, which is not installed"):
        environments.python("tunix", tmp_path, "python0.1")


def test_finished_runs_are_compared_and_drawn(tmp_path):
    """Of four runs of two steps: means of two seeds in the table, and both pictures."""
    ends = {("GRPO", 0): (50, 80), ("GRPO", 1): (60, 70), ("R_SA alone", 0): (0, 9)}
    ends["R_SA alone", 1] = (10, 11)
    for (variant, seed), (accuracy, length) in ends.items():
        workdir = tmp_path / f"{variant.replace(' ', '_')}_seed{seed}"
        workdir.mkdir()
        step = {"accuracy": accuracy / 100, "completions/mean_length": length}
        lines = [{"step": 0}, {"step": 1, **step}, {"step": 2, **step}]
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        kept = {"variant": variant, "seed": seed, "phases": {"step": 2.0, "update": 1.0}}
        kept |= {"accuracy": [40, accuracy], "length": [76, length]}
        workdir.with_suffix(".json").write_text(json.dumps(kept))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/reproduce.py", f"--output={tmp_path}", "--seeds=2"]
        + ["--variants=GRPO,R_SA alone"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [[c.strip() for c in line.split("|")[1:4]] for line in done.stdout.splitlines()[2:5]]
    assert rows == [["before training", "40.0", "76.0"], ["GRPO", "55.0", "75.0"]] + [
        ["R_SA alone", "5.0", "10.0"]
    ]
    for name in ("pareto.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_curve_is_the_mean_of_five_steps():
    scope = runpy.run_path(str(ROOT / "benchmarks/reproduce.py"))
    values = [3, 5, 1, 8, 3, 13, 0]
    assert scope["smoothed"](values) == [3, 4, 3, 4.25, 4, 6, 5]
