"""What training refuses, before anything is made, and what other commands do."""

import pytest
from support.commands import (
    one_error,
    run_command,
)
from support.models import make_hf_folder
from support.training import (
    train_command,
)


def test_a_model_made_for_fewer_positions_is_refused(tmp_path):
    folder = make_hf_folder(tmp_path / "model", max_position_embeddings=100)
    done = run_command(*train_command(folder, tmp_path / "run"))
    assert "is 132: the model supports only 100 positions" in one_error(done)
    assert not (tmp_path / "run").exists()


def test_workdir_of_another_config_is_refused_and_untouched(finished, hf_folder):
    workdir, _ = finished
    before = (workdir / "config.json").read_text(), (workdir / "metrics.jsonl").read_text()
    done = run_command(*train_command(hf_folder, workdir, "--config.rewards.self_aligned=0.3"))
    assert one_error(done) == (
        f"error: {workdir} holds a run with a different config "
        "(config.rewards.self_aligned: 0.2 there, 0.3 now): "
        "choose another --workdir, or use the old settings to continue"
    )
    assert before == (
        (workdir / "config.json").read_text(),
        (workdir / "metrics.jsonl").read_text(),
    )


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--config.rewards.self_alinged=1", "self_alinged"),
        ("--config.optimizer.lr=fast", "config.optimizer.lr"),
        ("--config.rollout.max_answer_tokens=0", "config.rollout.max_answer_tokens is 0"),
        ("--config.rollout.slots=0", "config.rollout.slots is 0"),
        ("--config.rollout.temperature=-1", "config.rollout.temperature is -1.0"),
        ("--config.rollout.top_p=0", "config.rollout.top_p is 0.0"),
        (
            "--config.data.max_prompt_tokens=3",
            "all 40 prompts are longer than config.data.max_prompt_tokens = 3",
        ),
        ("--config.model.path=nowhere", "nowhere: no such folder"),
        ("--config.data.train=nowhere.jsonl", "nowhere.jsonl: no such file"),
        ("--config.data.train=nosuchset", "unknown data source 'nosuchset'"),
        ("--config.rollout.max_answer_tokens=400", "config.packing.row_tokens is 144"),
        ("--config.rewards.self_aligned=nan", "config.rewards.self_aligned is nan"),
        ("--config.mesh.fsdp=3", "does not multiply to the 1 devices"),
        ("--config=nowhere.py", "nowhere.py"),
        ("--cofnig.steps=3", "cofnig"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_made(hf_folder, tmp_path, flag, words):
    done = run_command(*train_command(hf_folder, tmp_path / "run", flag))
    assert words in one_error(done)
    assert not (tmp_path / "run").exists()


def test_own_jsonl_errors_name_file_and_line(hf_folder, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?", "answer": " "}\n'
    )
    done = run_command(*train_command(hf_folder, tmp_path / "run", f"--config.data.train={file}"))
    assert one_error(done) == f"error: {file}, line 2: the field 'answer' is empty"


def test_questions_of_the_evaluation_set_are_not_trained_on(hf_folder, tmp_path):
    train, test = hf_folder.parent / "rows.jsonl", tmp_path / "test.jsonl"
    own = train_command(hf_folder, tmp_path / "run", f"--config.data.eval={test}")
    lines = train.read_text().splitlines()
    test.write_text("\n".join(lines[:3]).replace('?"', '? "'))  # the same but for white space
    done = run_command(
        *own,
        "--config.steps=1",
        "--config.evaluation.batch=2",
        "--config.data.eval_questions=1",
        check=True,
    )
    assert f" questions from {train}; 3 left out because they are in {test}" in done.stdout
    test.write_text(train.read_text())
    refused = run_command(
        *train_command(hf_folder, tmp_path / "run2", f"--config.data.eval={test}")
    )
    assert "every question is also in the evaluation set" in one_error(refused)
    assert not (tmp_path / "run2").exists()


@pytest.mark.parametrize(
    "command, words",
    [
        (["sar_jax.export"], "both --workdir and --output are required"),
        (
            ["sar_jax.export", "--workdir=nowhere", "--output=x"],
            "not the workdir of a training run",
        ),
        (["sar_jax.explain", "--model=nowhere"], "--input is missing"),
        (["sar_jax.evaluate", "--model=nowhere", "--output=x"], "--tasks is missing"),
        (
            ["sar_jax.explain", "--model=nowhere", "--input=nowhere.jsonl", "--output=x.jsonl"],
            "nowhere.jsonl: no such file",
        ),
    ],
)
def test_other_commands_name_what_is_missing(command, words):
    done = run_command(*command)
    assert words in one_error(done)


@pytest.mark.parametrize("command", ["train", "pretrain", "export", "explain", "evaluate", "plan"])
def test_help(command):
    done = run_command(f"sar_jax.{command}", "--help")
    assert f"python -m sar_jax.{command}" in done.stdout and "Traceback" not in done.stderr


def test_a_command_that_the_tests_fork_is_what_the_system_starts():
    real, forked = (run_command("sar_jax.train", "--help", real=real) for real in (True, False))
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        real.returncode,
        real.stdout,
        real.stderr,
    )
