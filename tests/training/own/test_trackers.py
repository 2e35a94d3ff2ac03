"""A tracker of one's own: a function or a class, called by the thread that every tracker has."""

import json

import pytest
from etils import epath

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.training.reporting import loggers

SOURCE = """
import json, time

def log(step, metrics, name="log.jsonl"):
    with open(name, "a") as file:
        print(json.dumps([step, metrics]), file=file)

class Whole:
    def __init__(self, name="whole.jsonl"): self.calls = open(name, "a")
    def open(self, begun): print(json.dumps(["open", begun.project]), file=self.calls)
    def write(self, step, metrics): print(json.dumps([step, metrics]), file=self.calls)
    def answers(self, step, name, table): print(json.dumps([name, table.rows]), file=self.calls)
    def alert(self, step, text): print(json.dumps([step, text]), file=self.calls)
    def close(self, finished):
        print(json.dumps(["close", finished]), file=self.calls)
        self.calls.close()

class Least:
    def write(self, step, metrics): log(step, metrics, "least.jsonl")

class Nothing: pass
def one(step): pass
def raises(step, metrics): raise OSError("no network")
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(SOURCE)
    return tmp_path


def config(to: str) -> TrainConfig:
    made = TrainConfig()
    made.logging.to = to
    return made


def run(to: str, folder) -> None:
    """Two steps, an answer, an alarm, and the end."""
    found = config(to)
    loggers.check(found)
    made = loggers.Loggers(found, epath.Path(folder / "run"), "id")
    (folder / "run").mkdir(exist_ok=True)
    made.begin([])
    made.write(1, {"loss": 0.5})
    made.answers(1, "step", [{"question": "?", "answer": "!"}])
    made.alert(1, "odd")
    made.write(2, {"loss": 0.25})
    made.finished = True
    made.close()


def lines(path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.quick
def test_functions_and_classes_get_every_step(file):
    run("my.py:log, my.py:log(name='b.jsonl'), my.py:Whole, my.py:Least", file)
    steps = [[1, {"loss": 0.5}], [2, {"loss": 0.25}]]
    for name in ("log", "b", "least"):
        assert lines(file / f"{name}.jsonl") == steps
    assert lines(file / "whole.jsonl") == [
        ["open", "sar_jax"],
        steps[0],
        ["samples/step", [["?", "!"]]],
        [1, "odd"],
        steps[1],
        ["close", True],
    ]


def test_one_that_fails_is_told_once_and_left(file, capfd):
    run("my.py:raises,my.py:log", file)
    said = capfd.readouterr().out
    assert said.count("warning: logging to my.py:raises has ended (no network)") == 1
    assert len(lines(file / "log.jsonl")) == 2


@pytest.mark.parametrize(
    "to, words",
    [
        ("my.py:Nothing", "the class my.py:Nothing has no method write(step, metrics)"),
        ("my.py:one", "my.py:one cannot be called with step and metrics"),
        ("my.py:logg", "my.py has no 'logg': did you mean 'log'?"),
        ("mi.py:log", "no such file: mi.py"),
    ],
)
def test_one_that_cannot_be_used_is_named_before_the_run(file, to, words):
    with pytest.raises(UserError) as error:
        loggers.check(config(to))
    assert words in str(error.value) and "config.logging.to" in str(error.value)
