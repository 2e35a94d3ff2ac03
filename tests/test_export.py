"""Exports: the step, the dtype and the shards that were asked for."""

import numpy as np
import pytest
from support.commands import (
    one_error,
    run_command,
)
from support.training import (
    read_metrics,
    state_of,
)


def test_export_writes_the_step_that_was_asked_for(finished, hf_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    workdir, _ = finished
    output = tmp_path / "hf"
    run_command(
        "sar_jax.export", f"--workdir={workdir}", "--step=3", f"--output={output}", check=True
    )
    norm = AutoModelForCausalLM.from_pretrained(output).model.norm.weight.detach().numpy()
    in_step = lambda step: any(
        x.shape == norm.shape and (x == norm).all() for x in state_of(workdir, step)
    )
    assert in_step(3) and not in_step(4)
    again = run_command("sar_jax.export", f"--workdir={workdir}", f"--output={output}")
    assert "not an empty folder" in one_error(again)
    missing = run_command(
        "sar_jax.export", f"--workdir={workdir}", "--step=9", f"--output={tmp_path / 'x'}"
    )
    assert "there are: 1, 2, 3, 4" in one_error(missing)


def test_export_in_another_dtype_and_in_shards_with_a_card(finished, hf_folder, tmp_path):
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    workdir, _ = finished
    outputs = {}
    for dtype in ("float32", "bfloat16"):
        outputs[dtype] = tmp_path / dtype
        done = run_command(
            "sar_jax.export",
            f"--workdir={workdir}",
            f"--output={outputs[dtype]}",
            f"--dtype={dtype}",
            "--max-shard-size=60KB",
            check=True,
        )
        assert dtype in done.stdout
        assert max(f.stat().st_size for f in outputs[dtype].glob("*.safetensors")) < 70_000
        assert str(AutoModelForCausalLM.from_pretrained(outputs[dtype]).dtype) == f"torch.{dtype}"
    read = lambda folder: {
        n: t for f in folder.glob("*.safetensors") for n, t in load_file(f).items()
    }
    whole, half = read(outputs["float32"]), read(outputs["bfloat16"])
    assert whole.keys() == half.keys() == load_file(hf_folder / "model.safetensors").keys()
    for name, tensor in whole.items():  # rounded once, from the float32 masters
        np.testing.assert_array_equal(tensor.astype(half[name].dtype), half[name])
    card = (outputs["bfloat16"] / "README.md").read_text()
    lines = read_metrics(workdir)
    for accuracy in (lines[0]["eval/accuracy"], lines[4]["eval/accuracy"]):
        assert f"| {100 * accuracy:.1f} |" in card
    assert '"max_answer_tokens": 12' in card and "self_aligned (weight 0.2)" in card


@pytest.mark.parametrize(
    "options, words",
    [
        (["--dtype=int8"], "--dtype is 'int8'"),
        (["--max-shard-size=big"], "--max-shard-size is 'big'"),
    ],
)
def test_export_refuses_options_that_cannot_be(finished, tmp_path, options, words):
    done = run_command(
        "sar_jax.export", f"--workdir={finished[0]}", f"--output={tmp_path / 'x'}", *options
    )
    assert words in one_error(done)
    assert not (tmp_path / "x").exists()
