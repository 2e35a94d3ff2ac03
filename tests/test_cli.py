"""How commands begin: a configuration file that cannot be used, and overrides of choices."""

import os
import subprocess
import sys

import pytest
from support.commands import ROOT, one_error, run_command

from sar_jax import cli

OVERRIDES = ["", "--config.steps=3"]


def train(*arguments: str) -> str:
    """The error of a training command, without its name."""
    done = run_command("sar_jax.train", *[word for word in arguments if word])
    return one_error(done).removeprefix("error: ")


@pytest.mark.parametrize("given", [["--config=nowhere.py"], ["--config", "nowhere.py"]])
@pytest.mark.parametrize("override", OVERRIDES)
def test_a_config_file_that_is_not_there_is_named(given, override):
    assert train(*given, override) == "--config: no such file: nowhere.py"


@pytest.mark.parametrize("override", OVERRIDES)
def test_what_a_config_file_misses_is_not_taken_for_the_file(tmp_path, override):
    path = tmp_path / "config.py"
    path.write_text("def get_config():\n    open('prompts.txt')\n")
    error = train(f"--config={path}", override)
    assert error.startswith(f"--config: {path}, line 2: ")
    assert "No such file" in error and "prompts.txt" in error


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_config_that_is_a_folder_is_named(tmp_path, override):
    error = train(f"--config={tmp_path}", override)
    assert error == f"--config: {tmp_path}: is a folder"


@pytest.mark.parametrize(
    "override, words",
    [
        ("--config.loss.ratio=tokens", "config.loss.ratio is 'tokens': it must be "),
        ("--config.rollout.cache_dtype=int4", "config.rollout.cache_dtype is 'int4': it must be "),
        # what is allowed is taken over: the error is of another field
        ("--config.advantage.estimator=leave_one_out", "config.rollout.samples is 0"),
        ("--config.rollout.cache_dtype=", "config.rollout.samples is 0"),
    ],
)
def test_a_choice_is_overridden_as_text_and_then_checked(override, words):
    """A choice that is not allowed comes first: nothing else is wrong with these."""
    samples = "--config.rollout.samples=" + ("0" if "samples" in words else "4")
    assert words in train("--config=configs/tiny.py", override, samples)


@pytest.mark.parametrize(
    "word, read",
    [
        ("--workdir=~/runs/a", "--workdir=HOME/runs/a"),
        ("--config.data.train=~/rows.jsonl:5", "--config.data.train=HOME/rows.jsonl:5"),
        ("--config.data.train=gsm8k=~/gsm8k", "--config.data.train=gsm8k=HOME/gsm8k"),
        ("~/runs/a", "HOME/runs/a"),
        ("--config.prompt.system=about ~/5", "--config.prompt.system=about ~/5"),
        ("--config.prompt.system=~5", "--config.prompt.system=~5"),
        ("a~/b", "a~/b"),
    ],
)
def test_a_home_folder_in_an_option_is_found(word, read, monkeypatch):
    monkeypatch.setenv("HOME", "/some/HOME")
    assert cli._at_home(word) == read.replace("HOME", "/some/HOME")


def test_a_character_that_the_locale_lacks_ends_no_command():
    code = "from sar_jax import cli; cli.run(lambda: print('3 \\u2192 4'), '')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "3 \\u2192 4\n"), done.stderr
