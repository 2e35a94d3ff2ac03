"""Whole runs of what is not the default: eight devices, variants, other families, real rows."""

import math

import pytest
from support.commands import (
    one_error,
    run_command,
)
from support.data import real
from support.environment import XLA_QUICK
from support.models import make_hf_folder
from support.training import (
    read_metrics,
    train_command,
)


def test_eight_devices_train_like_one(finished, hf_folder, tmp_path):
    """The same command on a mesh of eight: same answers and rewards, same weights but for the order
    of sums."""
    more = [
        "--config.mesh.data=2",
        "--config.mesh.fsdp=2",
        "--config.mesh.tensor=2",
        "--config.packing.rows_per_microbatch=4",
    ]
    run_command(
        *train_command(hf_folder, tmp_path / "run", *more),
        XLA_FLAGS=f"--xla_force_host_platform_device_count=8 {XLA_QUICK}",
        check=True,
    )
    ours, theirs = (read_metrics(w) for w in (finished[0], tmp_path / "run"))
    for name in ("reward/mean", "completions/mean_length", "entropy", "kl", "loss", "grad_norm"):
        assert ours[1][name] == pytest.approx(theirs[1][name], rel=2e-3, abs=1e-6), name
    again = run_command(
        *train_command(
            hf_folder, tmp_path / "run2", *more, "--config.packing.rows_per_microbatch=2"
        ),
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    assert (
        "config.packing.rows_per_microbatch is 2: it must be a multiple of the 4 devices"
        in one_error(again)
    )


def test_variants_all_at_once_train_with_finite_metrics(hf_folder, tmp_path):
    """What the default does not compute: whole answers' sums, the sampler's logps, a weight that
    rises and falls."""
    run_command(
        *train_command(
            hf_folder,
            tmp_path / "run",
            "--config.steps=2",
            "--config.advantage.estimator=leave_one_out",
            "--config.advantage.divide_by_std=true",
            "--config.loss.average=sequences",
            "--config.loss.ratio=sequence",
            "--config.loss.clip_low=3e-4",
            "--config.loss.clip_high=4e-4",
            "--config.loss.importance_cap=2",
            "--config.loss.kl_estimator=k2",
            "--config.self_aligned.form=log",
            "--config.self_aligned.cap=50",
            "--config.self_aligned.adaptive=false",
            "--config.self_aligned.peak_at=0.5",
        ),
        check=True,
    )
    lines = read_metrics(tmp_path / "run")
    assert all(math.isfinite(v) for line in lines for v in line.values())
    assert [line["alpha"] for line in lines[1:]] == [0.1, 0.1]  # at 1/4 and at 3/4 of the run
    assert (
        lines[1]["importance/weight"] == pytest.approx(1, abs=1e-3)
        and lines[1]["importance/capped"] == 0
    )
    assert lines[2]["compilations"] == 0 and lines[2]["grad_norm"] > 0


def test_real_gsm8k_rows_train_with_finite_metrics(tmp_path):
    """Real text of real lengths, from a JSONL file, in bfloat16; the baselines' rewards all at
    once."""
    folder = make_hf_folder(tmp_path / "model", max_position_embeddings=1024)
    data = real("gsm8k")
    rewards = [
        f"--config.rewards.{n}=0.1"
        for n in ("entropy_min", "o1_pruner", "efficient_reasoner", "length")
    ]
    done = run_command(
        *train_command(
            folder,
            tmp_path / "run",
            f"--config.data.train={data}/train.jsonl:1000",
            f"--config.data.eval={data}/test.jsonl",
            "--config.data.max_prompt_tokens=400",
            "--config.rollout.max_answer_tokens=16",
            "--config.packing.row_tokens=432",
            "--config.packing.logprob_chunk=128",
            "--config.model.dtype=bfloat16",
            "--config.model.remat=dots",
            "--config.steps=2",
            *rewards,
        ),
        check=True,
    )
    assert "left out because their prompts are longer than 400 tokens" in done.stdout
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 3
    assert all(math.isfinite(v) for line in lines for v in line.values())
    assert all(
        f"reward/{name}/mean" in lines[1]
        for name in (
            "verifiable",
            "self_aligned",
            "entropy_min",
            "o1_pruner",
            "efficient_reasoner",
            "length",
        )
    )


# phi3 shares all but its layout with these, and that tests/model/test_hf.py holds
@pytest.mark.parametrize("family", [pytest.param("phi3", marks=pytest.mark.explore), "gemma3_text"])
def test_other_families_train_and_come_back(family, tmp_path):
    """Two steps in bfloat16 with a reference, drawn from weights and a cache of eight bits, then
    export: finite metrics, tokens weighed by what the rounding changed, a folder that
    `transformers` loads."""
    from transformers import AutoModelForCausalLM

    folder = make_hf_folder(tmp_path / "model", family=family)
    workdir = tmp_path / "run"
    run_command(
        *train_command(
            folder,
            workdir,
            "--config.steps=2",
            "--config.model.dtype=bfloat16",
            "--config.model.remat=dots",
            "--config.rollout.weights_dtype=int8",
            "--config.rollout.cache_dtype=int8",
            "--config.loss.importance_cap=2",
        ),
        check=True,
    )
    lines = read_metrics(workdir)
    assert (
        0
        < abs(lines[1]["importance/weight"] - 1)
        < 0.05
        < 0.3
        > lines[1]["sampling/logp_difference/max"]
        > 1e-4
    )
    assert len(lines) == 3 and all(math.isfinite(v) for line in lines for v in line.values())
    assert lines[2]["compilations"] == 0
    output = tmp_path / "hf"
    run_command("sar_jax.export", f"--workdir={workdir}", f"--output={output}", check=True)
    assert AutoModelForCausalLM.from_pretrained(output).config.model_type == family
