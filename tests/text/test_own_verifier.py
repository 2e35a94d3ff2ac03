"""A verifier of one's own: what it says counts, and what it does wrong is named."""

import pytest

from sar_jax.config import Verification
from sar_jax.errors import UserError
from sar_jax.text.answers import chosen
from sar_jax.text.answers.verifier import Item, Outcome
from sar_jax.text.tasks.example import Example

SOURCE = """
import os, time, numpy

def check(text, truth, row, word="ok"):
    print("nobody reads this")
    return {
        "one": lambda: 1.0, "zero": lambda: 0, "case": lambda: " Right ",
        "numpy": lambda: numpy.bool_(True), "error": lambda: "error",
        "right": lambda: "right", "wrong": lambda: "wrong",
        "why": lambda: "error: the row is odd", "true": lambda: True, "false": lambda: False,
        "hint": lambda: row["hint"] == word, "none": lambda: None, "number": lambda: 3,
        "raise": lambda: 1 / 0, "exit": lambda: exit(5), "die": lambda: os._exit(4),
        "sleep": lambda: time.sleep(600),
    }.get(text, lambda: text == truth)()

def raises(text, truth, row):
    raise KeyError("hint")

def fussy(text, truth, row):
    return "error: this is no answer that I know"

class Checks:
    def __init__(self, end=""): self.end = end
    def __call__(self, text, truth, row): return text == truth + self.end

async def later(text, truth, row):
    return "right"

def judgement(text, truth, row):
    pass
"""
RIGHT, WRONG, ERROR = Outcome.RIGHT, Outcome.WRONG, Outcome.ERROR


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.py"
    path.write_text(SOURCE)
    return path


def made(name: str, seconds: float = 60.0) -> tuple:
    config = Verification(verifier=name, workers=1, timeout=seconds)
    return chosen.verifier(config, None), config


@pytest.mark.quick
def test_what_it_says_counts(file):
    verifier, _ = made(f"{file}:check(word='no')")
    right = ["right", "true", "hint", "7", "one", "case", "numpy"]
    wrong = ["wrong", "false", "8", "zero"]
    with verifier:
        items = [Item(text, "7", row={"hint": "no"}) for text in right + wrong]
        assert verifier.check(items) == [RIGHT] * len(right) + [WRONG] * len(wrong)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("error", "says error"),
        ("why", "says error: the row is odd"),
        ("none", "returned None: it must return right, wrong or error; does it end without"),
        ("number", "returned 3: it must return right, wrong or error"),
        ("raise", "raised: line 12: ZeroDivisionError: division by zero"),
        ("hint", "raised: line 11: KeyError: 'hint'"),
        ("exit", "raised: line 12: SystemExit: 5"),
        ("die", "died (exit status 4)"),
        ("sleep", "took over 3 seconds"),
    ],
)
def test_what_goes_wrong_is_an_error_of_its_own_answer_with_the_functions_name(file, text, reason):
    verifier, _ = made(f"{file}:check", 3.0)
    with verifier:
        handle = verifier.submit([Item("7", "7"), Item(text, "7"), Item("8", "7")])
        assert handle.result() == [RIGHT, ERROR, WRONG]
    assert f"{file}:check {reason}" in handle.reasons[1]


@pytest.mark.parametrize(
    "name, words",
    [
        ("raises", "raised: line 17: KeyError: 'hint' (of the made-up answer 'The answer is 7.')"),
        ("judgement", "returned None"),
        ("later", "is async: name a plain function"),
        ("chekk", "has no 'chekk': did you mean 'check'?"),
    ],
)
def test_it_is_tried_before_anything_slow_starts(file, name, words):
    verifier, config = made(f"{file}:{name}")
    with verifier, pytest.raises(UserError) as error:
        chosen.rehearse(verifier, config, Example("1", "?", "7"))
    assert words in str(error.value) and "config.verification.verifier" in str(error.value)


def test_a_class_is_made_once_with_its_parameters(file):
    verifier, _ = made(f"{file}:Checks(end='!')")
    with verifier:
        assert verifier.check([Item("7!", "7"), Item("7", "7")]) == [RIGHT, WRONG]


@pytest.mark.parametrize("name", ["check", "fussy"])
def test_a_trial_of_one_that_works_says_nothing(file, capfd, name):
    """One that cannot tell may say so, also of an answer that was made up."""
    verifier, config = made(f"{file}:{name}")
    with verifier:
        chosen.rehearse(verifier, config, Example("1", "?", "7"))
    assert capfd.readouterr() == ("", "")


def test_the_row_has_no_answer_but_all_else():
    example = Example("id-1", "Why?", "7", extra={"hint": "h"})
    row = {"id": "id-1", "question": "Why?", "kind": "math", "choices": 0, "hint": "h"}
    assert example.row() == row
