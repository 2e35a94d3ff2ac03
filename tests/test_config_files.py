"""Files that --config names: what one may hold, and the one line for each that cannot be used."""

import os

import pytest
from support.commands import one_error, run_command
from support.training import small

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.training.settings import config_files

GOOD = "from sar_jax.config import *\ndef get_config(*words):\n    return TrainConfig()\n"
HEAD = "from sar_jax.config import *\n\ndef get_config():\n    config = TrainConfig()\n"


def error_of(tmp_path, content: str | bytes, words: str = "") -> str:
    """The error of a file with this content, without the file's name."""
    path = tmp_path / "own.py"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        config_files.load_config(f"{path}{words}", TrainConfig)
    message = str(error.value)
    assert message.startswith(f"--config: {path}") and "\n" not in message
    return message.removeprefix(f"--config: {path}")


@pytest.mark.parametrize(
    "line, words",
    [
        ("config.optimizer.lrr = 1", "config.optimizer has no field 'lrr': did you mean 'lr'?"),
        ("config.steps = '10'", "config.steps is '10': it must be a whole number"),
        ("config.loss = dict(kl=1)", "config.loss is a dict: it must be a sar_jax.config.Loss"),
        ("config.loss = Loss(kll=1)", "config.loss has no field 'kll': did you mean 'kl'?"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ValueError('of two\\nlines')", "ValueError: of two lines"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named"),
        ("open('nowhere.txt')", "FileNotFoundError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("assert False", "AssertionError"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, line, words):
    found = error_of(tmp_path, f"{HEAD}    {line}\n    return config\n")
    assert found.startswith(f", line 5: {words}")


def test_a_mistake_in_what_the_file_calls_has_the_files_own_line(tmp_path):
    content = "import json\ndef helper():\n    return json.loads('{')\n" + GOOD
    found = error_of(tmp_path, content.replace("TrainConfig()", "helper()"))
    assert found.startswith(", line 3: JSONDecodeError: ")


@pytest.mark.parametrize(
    "content, words",
    [
        ("def get_config(:\n    pass\n", ", line 1: SyntaxError: "),
        ("x = 1\nif x:\nprint(x)\n", ", line 3: IndentationError: "),
        ("x = 'caf\xe9'".encode("latin-1"), "SyntaxError: "),
        (GOOD.encode("utf-16"), "SyntaxError: "),
        ("", ": it defines no function get_config()"),
        ("get_config = 3", ": it defines no function get_config()"),
        ("def getconfig():\n    pass\n", ": it defines no function get_config()"),
        ("def get_config():\n    pass\n", ": get_config() must return a TrainConfig, not None"),
        (
            "def get_config():\n    return {}\n",
            ": get_config() must return a TrainConfig, not a dic",
        ),
        (
            GOOD.replace("TrainConfig", "PretrainConfig"),
            "must return a TrainConfig, not a Pretrain",
        ),
        ("def get_config(size):\n    pass\n", ": get_config() needs a text"),
    ],
)
def test_a_file_that_gives_no_config(tmp_path, content, words):
    assert words in error_of(tmp_path, content)


def test_a_text_after_the_colon_is_given_to_get_config(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(GOOD.replace("TrainConfig()", "TrainConfig(steps=int(*words))"))
    assert config_files.load_config(f"{path}:7", TrainConfig).steps == 7
    assert ": get_config() takes no text" in error_of(tmp_path, HEAD, ":7")


def test_a_file_is_read_as_it_is_now(tmp_path):
    """The same size within the same second: a cache of compiled files would not see it."""
    path = tmp_path / "own.py"
    for steps in (3, 4):
        path.write_text(GOOD.replace("TrainConfig()", f"TrainConfig(steps={steps})"))
        assert config_files.load_config(str(path), TrainConfig).steps == steps
    assert os.listdir(tmp_path) == ["own.py"]


def test_what_is_no_file(tmp_path):
    fifo = tmp_path / "fifo.py"
    os.mkfifo(fifo)
    for path, words in (
        (tmp_path, "is a folder"),
        (fifo, "is no file"),
        (tmp_path / "nowhere.py", "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            config_files.load_config(str(path), TrainConfig)


@pytest.mark.parametrize(
    "override, words",
    [
        ("--config.optimizer.lrr=1", "config.optimizer has no field 'lrr': did you mean 'lr'?"),
        ("--config.lr=1", "config has no field 'lr': did you mean 'critic.lr' or 'optimizer.lr'?"),
        ("--config.optimizer=build", "config.optimizer is a section"),
        ("--config.steps=1e3", "flag --config.steps=1e3: invalid literal for int()"),
        ("--config.steps=99999999999999999999", "config.steps is 99999999999999999999: it must"),
        ("--config.lora.rank=1000000", "config.lora.rank is 1000000: no matrix of config.lora"),
        ("--config.rollout.slots=1000000000", "config.rollout.slots is 1000000000: their cache"),
        ("--config.packing.rows_per_microbatch=1000000000", "config.packing.rows_per_microbatch"),
    ],
)
def test_an_override_that_cannot_be_is_one_line(tmp_path, override, words):
    done = run_command("sar_jax.train", *small(), override, f"--workdir={tmp_path}/run")
    assert one_error(done).startswith(f"error: {words}")
