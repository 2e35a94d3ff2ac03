"""Exports: the step, the dtype and the shards that were asked for."""

import json

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard
from support import hub as hub_lib
from support.commands import (
    one_error,
    run_command,
)
from support.training import (
    read_metrics,
    small,
    state_of,
)

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.training.commands import card, exported


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
    data = ModelCard(card).data
    assert data.library_name == "transformers" and data.metrics == ["accuracy"]
    assert data.base_model is None  # a folder here
    snippet = card.partition("```python\n")[2].partition("```")[0]
    compile(snippet, "README.md", "exec")
    assert str(outputs["bfloat16"]) in snippet


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


def test_a_card_names_the_hub_s_base_and_data_sets():
    config = config_lib.TrainConfig()
    config.model.path = "Qwen/Qwen3-1.7B-Base"
    config.data.train, config.data.eval = "gsm8k:100+arithmetic+math=/data/math", "gsm8k"
    metrics = [
        {"step": 0, "eval/accuracy": 0.5, "eval/length": 90.0},
        {"step": 3, "loss": 1.0},
        {"step": 4, "eval/accuracy": 0.625, "eval/length": 80.0},
        {"step": 8, "eval/accuracy": 0.75, "eval/length": 70.0},
    ]
    data = ModelCard(card.model_card(config, 4, metrics, "someone/trained")).data
    assert data.base_model == "Qwen/Qwen3-1.7B-Base"
    assert data.datasets == ["openai/gsm8k", tasks.TASKS["math"].id]
    (result,) = data.eval_results
    assert (result.dataset_type, result.metric_value) == ("openai/gsm8k", 62.5)
    assert "someone/trained" in card.model_card(config, 4, [], "someone/trained", adapter=True)


def test_adapters_of_a_run_are_exported_and_are_the_merged_model(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    workdir = tmp_path / "run"
    options = small("steps=1", "lora.rank=2", "lora.targets=q_proj,o_proj", "optimizer.lr=0.1")
    run_command("sar_jax.train", *options, f"--workdir={workdir}", check=True)
    for name, more in (("adapter", ["--adapter"]), ("merged", [])):
        output = f"--output={tmp_path / name}"
        run_command("sar_jax.export", f"--workdir={workdir}", output, *more, check=True)
    row = {"question": "What is 3 + 4?", "answer": "3 + 4 = 7. The answer is 7."}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    found = {}
    for name in ("adapter", "merged"):
        files = [f"--input={tmp_path / 'in.jsonl'}", f"--output={tmp_path / f'{name}.jsonl'}"]
        run_command("sar_jax.explain", f"--model={tmp_path / name}", *files, check=True)
        found[name] = json.loads((tmp_path / f"{name}.jsonl").read_text())
    for key in ("ppl_conditional", "ppl_standalone"):
        assert found["adapter"][key] == pytest.approx(found["merged"][key], rel=1e-2)
    assert not list((tmp_path / "adapter").glob("model*"))
    assert (tmp_path / "adapter/sar_jax.json").read_bytes() == (
        tmp_path / "merged/sar_jax.json"
    ).read_bytes()


@pytest.mark.parametrize(
    "name, token, words",
    [
        ("model", "x", "give the model's id on the hub, such as USER/NAME"),
        ("a/b/c", "x", "give the model's id on the hub"),
        ("someone/a model", "x", "give the model's id on the hub"),
        ("someone/model", "", "--push needs a token of the hub"),
        ("someone/model", "x", "the hub does not take the token"),  # nothing answers
    ],
)
def test_what_cannot_be_sent_to_the_hub_is_refused_before_anything_is_read(
    tmp_path, monkeypatch, name, token, words
):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token or None)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.hf_api.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        exported.check_push(name)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_adapters_of_a_run_without_any_are_refused(finished, tmp_path):
    done = run_command(
        "sar_jax.export", f"--workdir={finished[0]}", f"--output={tmp_path / 'x'}", "--adapter"
    )
    assert "has no adapters (config.lora.rank is 0)" in one_error(done)


def test_an_export_is_sent_to_the_hub(finished, tmp_path):
    workdir, output = finished[0], tmp_path / "out"
    command = ("sar_jax.export", f"--workdir={workdir}", f"--output={output}")
    with hub_lib.running() as hub:
        where = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
        refused = run_command(*command, "--push=someone/made", real=True, HF_TOKEN="no", **where)
        assert "the hub does not take the token" in one_error(refused)
        assert not output.exists() and not hub.repositories
        done = run_command(
            *command, "--push=someone/made", real=True, check=True, HF_TOKEN="hf_right", **where
        )
        assert hub.private == {"someone/made"}
        sent = hub.repositories["someone/made"]
    assert sent == {path.name: path.read_bytes() for path in output.iterdir()}
    assert f"{hub.url}/someone/made" in done.stdout
    assert b"'someone/made'" in sent["README.md"]
