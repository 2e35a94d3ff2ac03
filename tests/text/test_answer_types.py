"""The kinds of answers that are made of a worked solution, and which of them are right."""

import random
import re

import pytest

from sar_jax.text import answer_types
from sar_jax.text.answers import judge
from sar_jax.text.tasks import arithmetic
from sar_jax.text.tasks.example import Example

GSM = [
    Example(
        "a",
        "A box has 1,200 nuts. Ann eats 0.5 of them and 0 bolts. How many are left?",
        "600",
        "She eats 1,200*.5=<<1200*.5=600>>600 nuts.\nSo it is over.\nLeft are 1,200-600=600.\n"
        "#### 600",
    ),
    Example(
        "b",
        "Tom has 3 hens with 4 eggs each and sells 5. How many eggs has he?",
        "7",
        "He has 3*4=<<3*4=12>>12 eggs.\nThen 12-5=<<12-5=7>>7 are left.\n#### 7",
    ),
    Example("c", "What is 2 + 2?", "4", "2 + 2 = 4\n#### 4"),  # one step
    Example("d", "Who is it?", "Bob", "1 man.\n2 men.\n#### Bob"),  # no number
    Example("e", "What is 5 + 2?", "7"),  # no solution
]


def by_kind(rows, question):
    return {row["kind"]: row for row in rows if row["question"] == question}


def numbers(text):
    return re.findall(r"\d+(?:[.,]\d+)*", text)


def test_rows_without_two_steps_are_left_out_and_counted():
    made = answer_types.make(GSM)
    assert made.left_out == 3 and len(made.rows) == 2 * len(answer_types.KINDS)
    assert [row["kind"] for row in made.rows] == 2 * list(answer_types.KINDS)
    # one row has no other question, or none with another answer
    assert answer_types.make(GSM[:1]) == ([], 1)
    assert answer_types.make([GSM[0], GSM[0]]) == ([], 2)


def test_the_kinds_of_a_solution_by_hand():
    found = by_kind(answer_types.make(GSM).rows, GSM[0].question)
    first, second = "She eats 1,200*.5=600 nuts.", "Left are 1,200-600=600."
    text = {kind: row["answer"] for kind, row in found.items()}
    assert text["concise"] == f"{first}\n{second}\nThe answer is 600."
    assert text["without_thought"] == "The answer is 600."
    assert text["echo"] == GSM[0].question
    assert text["restated"] == f"{GSM[0].question}\n{text['concise']}"
    assert text["off_topic"] == ("He has 3*4=12 eggs.\nThen 12-5=7 are left.\nThe answer is 7.")
    start, _, end = text["partly_right"].partition("\nThe answer is ")
    assert start == first and re.fullmatch(r"[1-9]\d\d\.", end) and end != "600."
    lines = text["redundant"].split("\n")
    assert [line for line in lines if re.search(r"\d", line)] == text["concise"].split("\n")
    assert len(lines) == 3 + 5


@pytest.mark.parametrize("seed", range(5))
def test_wrong_numbers_are_others_of_as_many_digits_each_time_the_same(seed):
    rows = answer_types.make(GSM, seed).rows
    found = by_kind(rows, GSM[0].question)
    right, wrong = (numbers(found[kind]["answer"]) for kind in ("concise", "wrong"))
    changed = dict(zip(right, wrong, strict=True))
    assert len(set(zip(right, wrong))) == len(changed)  # the same number by the same one
    for old, new in changed.items():
        assert old != new and re.sub(r"\d", "0", old) == re.sub(r"\d", "0", new)
    words = lambda kind: re.sub(r"\d", "0", found[kind]["answer"])
    assert words("concise") == words("wrong")


def test_a_zero_has_another_digit_too():
    """And a fraction begins with its 0."""
    for seed in range(50):
        text = answer_types.other_numbers("0 and 0.5 and 00", {}, random.Random(seed))
        zero, half, zeros = numbers(text)
        assert zero in "123456789" and half.startswith("0.") and half != "0.5" and zeros != "00"


def test_the_same_seed_gives_the_same_answers_and_another_seed_others():
    source = arithmetic.Arithmetic("test")
    first, again, other = (answer_types.make(source, seed, 20) for seed in (0, 0, 1))
    assert first == again and first != other


def test_which_kinds_are_right_is_what_the_judge_says():
    made = answer_types.make(arithmetic.Arithmetic("test"), count=150)
    right = {"concise", "redundant", "without_thought", "restated"}
    assert len(made.rows) == 150 * 8
    for row in made.rows:
        assert row["correct"] == judge.verify(row["answer"], row["truth"])
        if row["kind"] != "echo":  # whose last number may happen to be the answer
            assert row["correct"] == (row["kind"] in right), row
    assert sum(r["correct"] for r in made.rows if r["kind"] == "echo") < 15
