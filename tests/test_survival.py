"""A run and what happens to its files: it goes on as if nothing had been, or says why not."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.commands import one_error, run_command, start_in_background, wait_for
from support.saving import arrays_of
from support.training import assert_same_state, read_metrics, timeless, train_command, write_lines


@pytest.fixture
def workdir(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def damage(workdir: pathlib.Path, step: int) -> None:
    """Most of the large files' numbers become others."""
    for file in arrays_of(workdir, step):
        data = bytearray(file.read_bytes())
        if len(data) > 10_000:
            inside = slice(len(data) // 20, -(len(data) // 20))
            data[inside] = bytes(len(data[inside]))
            file.write_bytes(data)


def test_from_the_step_before_a_damaged_one_the_run_ends_the_same(finished, hf_folder, workdir):
    for step in (3, 4):
        damage(workdir, step)
    done = run_command(*train_command(hf_folder, workdir), check=True)
    told = re.findall(r"warning: the checkpoint of step (\d) is damaged", done.stdout)
    assert sorted(told) == ["3", "4"] and "resumed at step 2" in done.stdout
    assert_same_state(finished[0], workdir, 4)
    ours, theirs = ([timeless(line) for line in read_metrics(w)] for w in (workdir, finished[0]))
    assert ours == theirs
    assert {p.name for p in (workdir / "damaged").iterdir()} == {"00000003-1", "00000004-1"}


def test_an_evaluation_that_a_stop_left_out_is_made_up(finished, hf_folder, workdir):
    """As a signal leaves it during step 2, which is due for one: saved, not evaluated."""
    for step in (3, 4):
        shutil.rmtree(workdir / f"checkpoints/{step:08d}")
    lines = [line for line in read_metrics(workdir) if line["step"] <= 2]
    lines[2] = {name: value for name, value in lines[2].items() if not name.startswith("eval/")}
    write_lines(workdir / "metrics.jsonl", lines)
    (workdir / "samples/eval_000002.parquet").unlink()
    done = run_command(*train_command(hf_folder, workdir), check=True)
    assert "resumed at step 2" in done.stdout and "evaluation at step 2" in done.stdout
    ours, theirs = ([timeless(line) for line in read_metrics(w)] for w in (workdir, finished[0]))
    assert ours == theirs
    assert (workdir / "samples/eval_000002.parquet").is_file()


def test_a_damaged_step_is_neither_exported_nor_explained_nor_evaluated(workdir, tmp_path):
    damage(workdir, 4)
    pairs = write_lines(tmp_path / "pairs.jsonl", [{"question": "1 + 1?", "answer": "2"}])
    commands = [
        ("sar_jax.export", f"--workdir={workdir}"),
        ("sar_jax.explain", f"--model={workdir}", f"--input={pairs}"),
        ("sar_jax.evaluate", f"--model={workdir}", "--tasks=arithmetic:4"),
    ]
    for i, command in enumerate(commands):
        error = one_error(run_command(*command, f"--output={tmp_path / str(i)}"))
        assert "the checkpoint of step 4 is damaged: " in error and "other steps: 1, 2, 3" in error
        assert str(workdir / "checkpoints/00000004/state") in error
        assert not (tmp_path / "0").exists()


def model_of(workdir, hf_folder, tmp_path) -> list[str]:
    """The command that goes on in a workdir, with a copy of its model."""
    folder = shutil.copytree(hf_folder, tmp_path / "elsewhere/model")
    data = [
        f"--config.data.{split}={hf_folder.parent / name}"
        for split, name in (("train", "rows.jsonl"), ("eval", "test.jsonl"))
    ]
    command = train_command(hf_folder, workdir)
    return [*command, *data, f"--config.model.path={folder}", "--config.steps=5"]


def edit(name, **fields):
    def change(folder):
        file = folder / name
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | fields))

    return change


def one_weight(folder):
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = np.nextafter(tensors[name].flat[-1], np.float32(9))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def template(folder):
    """In the file of its own, or in the tokenizer's, wherever it is."""
    own = folder / "chat_template.jinja"
    if own.exists():
        own.write_text(own.read_text() + " ")
    else:
        known = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
        edit("tokenizer_config.json", chat_template=f"{known} ")(folder)


CHANGES = {
    "config.json": edit("config.json", rope_theta=12345.0),
    "generation_config.json": edit("generation_config.json", eos_token_id=[1, 2]),
    "the weights": one_weight,
    "the chat template": template,
    "the tokenizer": edit("special_tokens_map.json", pad_token="<|im_end|>"),
}


def test_the_same_model_elsewhere_is_the_same_model(workdir, hf_folder, tmp_path):
    """Also after another program has written its own name into its config."""
    command = model_of(workdir, hf_folder, tmp_path)
    notes = edit("config.json", transformers_version="0.0", _name_or_path="mine/model")
    notes(tmp_path / "elsewhere/model")
    done = run_command(*command, check=True)
    assert "resumed at step 4" in done.stdout
    assert "changed since the last start: config.model.path" in done.stdout


@pytest.mark.parametrize("part", CHANGES)
def test_another_model_in_its_place_is_refused_by_name(workdir, hf_folder, tmp_path, part):
    command = model_of(workdir, hf_folder, tmp_path)
    CHANGES[part](tmp_path / "elsewhere/model")
    error = one_error(run_command(*command))
    assert f"trained on another model: since then there has been a change in {part} of" in error
    assert (workdir / "checkpoints/00000004").is_dir()


def test_a_second_run_in_the_workdir_is_refused_while_the_first_goes_on(hf_folder, tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "printed"
    command = train_command(hf_folder, workdir, "--config.steps=1000")
    first = start_in_background(*command, output=output)
    try:
        wait_for((workdir / "metrics.jsonl").is_file, first, output)
        error = one_error(run_command(*command))
        assert f"{workdir} is in use by process {first.pid} on " in error
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()


def test_updates_that_are_all_skipped_end_the_run_and_leave_the_batch(hf_folder, tmp_path):
    workdir = tmp_path / "run"
    done = run_command(
        *train_command(
            hf_folder,
            workdir,
            "--config.steps=9",
            "--config.optimizer.lr=1e30",
            "--config.guards.skipped_updates=4",
        )
    )
    assert "were all left out" in one_error(done)
    assert "ALARM" in done.stdout and "not finite" in done.stdout
    (batch,) = workdir.glob("batch_*.npz")
    arrays = np.load(batch)
    assert any(name.endswith("tokens") for name in arrays) and len(arrays) > 4
    lines = (workdir / "metrics.jsonl").read_text()
    assert "NaN" not in lines and "Infinity" not in lines
    assert read_metrics(workdir)[-1]["alarm/skipped"] == 1


def test_an_export_is_asked_and_rewarded_as_its_workdir(finished, tmp_path):
    """Without a word about prompts on the command line; so is what is trained from it."""
    workdir, exported = finished[0], tmp_path / "hf"
    run_command("sar_jax.export", f"--workdir={workdir}", f"--output={exported}", check=True)
    pairs = write_lines(tmp_path / "pairs.jsonl", [{"question": "1 + 1?", "answer": "It is 2."}])
    rewards, told = [], []
    for model in (workdir, exported):
        output = tmp_path / f"{model.name}.jsonl"
        done = run_command(
            "sar_jax.explain", f"--model={model}", f"--input={pairs}", f"--output={output}",
            check=True,
        )  # fmt: skip
        rewards.append(json.loads(output.read_text())["self_aligned"])
        told += [line for line in done.stdout.splitlines() if line.startswith("prompt: ")]
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-5)  # other chunks of the vocabulary
    assert "from the run's config" in told[0] and f"from {exported}/sar_jax.json" in told[1]
    assert told[0].partition(" (from")[0] == told[1].partition(" (from")[0]
