"""Final answers are found where they are stated, and compared by value: a table of cases, any text, real GSM8K rows."""

import itertools
import json
import os
import pathlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sar_jax.answers import extract, number, verify

RIGHT, WRONG = True, False
CASES = [
    # boxed: the last closed one, braces nested to any depth, before any other place
    (r"So we get \boxed{42}.", "42", RIGHT),
    (r"So we get \boxed{41}.", "42", WRONG),
    (r"\boxed{ 42 }", "42", RIGHT),
    (r"\boxed{\frac{1}{2}}", "0.5", RIGHT),
    (r"\boxed{\frac{1}{2}}", "2", WRONG),
    (r"\boxed{-\frac{3}{4}}", "-0.75", RIGHT),
    (r"\boxed{-\frac{3}{4}}", "0.75", WRONG),
    (r"\boxed{\dfrac{7}{3}}", "7/3", RIGHT),
    (r"\boxed{\tfrac{6}{4}}", "1.5", RIGHT),
    (r"\boxed{x = 5}", "5", RIGHT),
    (r"\boxed{\mathbf{{8}}}", "8", RIGHT),
    (r"\boxed{12} in 3 hours", "12", RIGHT),
    (r"\boxed{12} in 3 hours", "3", WRONG),
    (r"First \boxed{3}, then \boxed{9}", "9", RIGHT),
    (r"First \boxed{3}, then \boxed{9}", "3", WRONG),
    (r"\boxed{\boxed{7}}", "7", RIGHT),
    (r"\boxed{4} and at last \boxed{5", "4", RIGHT),
    (r"\boxed{4} and at last \boxed{5", "5", WRONG),
    (r"It ends in \boxed{17", "17", RIGHT),
    (r"\boxed{5}, so the answer is 6", "5", RIGHT),
    (r"\boxed{5}, so the answer is 6", "6", WRONG),
    (r"\boxed{}", "0", WRONG),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", RIGHT),
    # markers: what follows the last one, before any other number
    ("48/2 = 24, 48 + 24 = 72\n#### 72", "72", RIGHT),
    ("48/2 = 24, 48 + 24 = 72\n#### 72", "24", WRONG),
    ("#### 1,250", "1250", RIGHT),
    ("####72", "72", RIGHT),
    ("#### 5\n#### 6", "6", RIGHT),
    ("The answer is 54.", "54", RIGHT),
    ("The answer is: 54", "54", RIGHT),
    ("Final Answer: **54**", "54", RIGHT),
    ("ANSWER = 54", "54", RIGHT),
    ("The answer is 54. I checked all 3 steps.", "54", RIGHT),
    ("The answer is 54. I checked all 3 steps.", "3", WRONG),
    ("The answer is 5. No, the answer is 6.", "6", RIGHT),
    ("The answer is 5. No, the answer is 6.", "5", WRONG),
    ("The answer is\n54", "54", RIGHT),
    ("The answer is -3.", "-3", RIGHT),
    ("The answer is -3.", "3", WRONG),
    (r"The answer is $\dfrac{9}{12}$.", "0.75", RIGHT),
    # otherwise the last number
    ("47 + 25 = 72. 72 - 18 = 54.", "54", RIGHT),
    ("47 + 25 = 72. 72 - 18 = 54.", "72", WRONG),
    ("54 is what I started from, 12 is left", "54", WRONG),
    ("In the end 7 are left", "7", RIGHT),
    # thousands and decimals
    ("1,234", "1234", RIGHT),
    ("1,234,567.50", "1234567.5", RIGHT),
    ("1,234", "234", WRONG),
    ("1234", "1,234", RIGHT),
    ("There were 3, 4 of them red", "34", WRONG),
    ("It costs 12.0", "12", RIGHT),
    ("It costs .5", "0.5", RIGHT),
    ("It costs 0.50", "1/2", RIGHT),
    ("0.333", "1/3", WRONG),
    ("0.1", "0.10000000000000001", WRONG),
    ("007", "7", RIGHT),
    # fractions
    ("3/4", "0.75", RIGHT),
    ("3 / 4", "0.75", RIGHT),
    ("3/4", "4", WRONG),
    ("-3/4", "-0.75", RIGHT),
    ("5/0", "0", WRONG),
    (r"\boxed{\frac{5}{0}}", "0", WRONG),
    # a minus is a sign, or an operator after a digit or a bracket
    ("10-3", "-3", WRONG),
    ("10-3", "3", RIGHT),
    ("10 -3", "-3", WRONG),
    ("(2+8)-3", "-3", WRONG),
    ("10-3 = 7", "7", RIGHT),
    ("4 - 7 = -3", "-3", RIGHT),
    ("4 - 7 = -3", "3", WRONG),
    ("(-3)", "-3", RIGHT),
    # currency and units, full stops
    ("She earns $18.", "18", RIGHT),
    ("She earns $1,018.50!", "1018.5", RIGHT),
    ("-$5", "-5", RIGHT),
    (r"\boxed{\$18}", "18", RIGHT),
    ("$18$", "18", RIGHT),
    ("18 dollars", "$18", RIGHT),
    ("The answer is 30 km/h.", "30", RIGHT),
    (r"\boxed{5 \text{ apples}}", "5", RIGHT),
    (r"\boxed{50\%}", "50", RIGHT),
    ("18.", "18", RIGHT),
    ("18.", "18.", RIGHT),
    # text answers
    ("The answer is B.", "B", RIGHT),
    ("The answer is B.", "C", WRONG),
    ("The answer is  New   York.", "new york", RIGHT),
    (r"\boxed{True}", "true", RIGHT),
    (r"\boxed{True}", "false", WRONG),
    (r"\boxed{True}", "7", WRONG),
    ("7", "true", WRONG),
    # nothing to find
    ("", "5", WRONG),
    ("   \n", "5", WRONG),
    ("I do not know.", "5", WRONG),
    ("####", "5", WRONG),
    ("The answer is", "5", WRONG),
    # the truth may be a worked answer
    ("The answer is 72.", "48/2 = 24 clips\n#### 72", RIGHT),
    ("The answer is 24.", "48/2 = 24 clips\n#### 72", WRONG),
    (r"\boxed{72}", r"24 and then \boxed{72}", RIGHT),
]
# Worse than a miss: a wrong answer that would be paid, or a common notation that is not read.
NOTATIONS = [
    ("The result is -3.", "-3", RIGHT),      # a minus after a word is a sign
    ("The result is -3.", "3", WRONG),
    ("She loses -$5", "-5", RIGHT),
    ("The answer is \N{MINUS SIGN}5.", "-5", RIGHT),
    ("The answer is \N{MINUS SIGN}5.", "5", WRONG),
    (r"\boxed{1 1/2}", "11/2", WRONG),       # mixed numbers
    (r"\boxed{1 1/2}", "1.5", RIGHT),
    (r"\boxed{1\frac{1}{2}}", "1/2", WRONG),
    (r"\boxed{1\frac{1}{2}}", "3/2", RIGHT),
    (r"\boxed{3, 4}", "34", WRONG),          # a list is not a number with separators
    (r"\boxed{1,2}", "12", WRONG),
    (r"\boxed{1{,}234}", "1234", RIGHT),     # LaTeX's thousands separator
    (r"\boxed{1{,}234}", "234", WRONG),
    (r"\boxed{12\text{ m}^2}", "12", RIGHT),   # the exponent of a unit
    (r"\boxed{\text{yes}}", "yes", RIGHT),
]


@pytest.mark.parametrize("text, truth, right", CASES)
def test_verify(text, truth, right):
    assert verify(text, truth) is right


@pytest.mark.parametrize("text, truth, right", NOTATIONS)
def test_verify_reads_common_notations(text, truth, right):
    assert verify(text, truth) is right


@pytest.mark.parametrize("text, answer", [
    (r"\boxed{\frac{1}{2}} or 3", r"\frac{1}{2}"), (r"\boxed{4} \boxed{", "4"), ("#### 1,250 clips", "1,250"),
    ("The answer is 5.\nIt took 3 steps.", "5"), ("the answer is (D).", "(D)"), ("1 2 3", "3"), ("10-3", "3"),
    ("nothing", None), ("", None)])
def test_extract(text, answer):
    assert extract(text) == answer


@pytest.mark.parametrize("text, value", [
    ("1,234", 1234), ("-$1,234.5", Fraction(-2469, 2)), (r"\dfrac{2}{-4}", Fraction(-1, 2)), ("2/4", Fraction(1, 2)),
    (r"10,\!000", 10_000), ("1/0", None), (r"\frac{1}{0}", None), ("12 apples", None), ("1e5", None), ("", None)])
def test_number_is_exact(text, value):
    assert number(text) == value


# Fragments that the grammar reacts to, in any order, between any characters.
PIECES = st.sampled_from([r"\boxed{", "{", "}", r"\frac{", r"\dfrac{", "}{", "####", "answer is", "Answer:", "-", "$",
                          ",", ".", "/", "0", "12", "1,234", " ", "\n", r"\!", "e", "nan", "_", "\N{MINUS SIGN}",
                          "\u0663"])
TEXT = st.one_of(st.text(max_size=60), st.lists(st.one_of(PIECES, st.characters()), max_size=30).map("".join))


@settings(deadline=None, max_examples=500)
@given(TEXT, TEXT)
def test_verify_never_raises(text, truth):
    assert verify(text, truth) in (True, False)


@settings(deadline=None)
@given(st.integers(-10**9, 10**9), st.integers(-10**9, 10**9), st.sampled_from([
    r"\boxed{{{}}}", "#### {}", "The answer is {}.", "12 + 3 = {}", "Total: ${}$ ", r"5 so \boxed{{{}.0}}"]))
def test_every_number_verifies_against_itself_alone(value, other, form):
    for shown in (str(value), f"{value:,}"):
        assert verify(form.format(shown), str(value))
        assert verify(form.format(shown), f"{value:,}")
        assert verify(form.format(shown), str(other)) is (value == other)


@pytest.mark.parametrize("text", [
    "7" * 10_000, r"\boxed{" + "7" * 10_000 + "}", r"\boxed{\frac{" + "7" * 5_000 + "}{3}}", "#### 1/" + "7" * 5_000,
    "1" + ",234" * 3_000, "-" * 5_000, "{" * 5_000, r"\boxed{" * 300])
def test_degenerate_answers_are_wrong_and_do_not_raise(text):
    assert verify(text, "5") is False


@pytest.mark.skipif("SAR_JAX_TEST_DATA" not in os.environ, reason="SAR_JAX_TEST_DATA names no folder of data")
@pytest.mark.parametrize("split, count", [("train", 7473), ("test", 1319)])
def test_real_solutions_verify_against_their_own_answer_alone(split, count):
    """Each worked GSM8K solution against its own row's answer, and against the next row's."""
    file = pathlib.Path(os.environ["SAR_JAX_TEST_DATA"]) / "gsm8k" / f"{split}.jsonl"
    rows = [json.loads(line) for line in file.read_bytes().split(b"\n") if line]
    assert len(rows) == count
    for row, after in itertools.pairwise([*rows, rows[0]]):
        assert verify(row["solution"], row["answer"]), row["id"]
        if Fraction(row["answer"].replace(",", "")) != Fraction(after["answer"].replace(",", "")):
            assert not verify(row["solution"], after["answer"]), row["id"]


@pytest.mark.parametrize("text, truth, right", [
    ("The answer is 5 + 3 = 8.", "8", True), (r"\boxed{5+3=8}", "8", True), (r"\boxed{x = 3}", "3", True),
    ("The answer is 12 * 2 = 24", "24", True), ("The answer is 12 * 2 = 24", "12", False),
    ("#### 24\nThe answer is obvious.", "24", True),
    ("The answer is 72.", "72 apples", True), ("The answer is 71.", "72 apples", False), ("It is 72", "$72 dollars", True),
    ("The answer is no one knows.", "no", False), ("The answer is no, they do not.", "no", True),
    ("The answer is A train ride.", "A", False), ("The answer is (A).", "(A)", True),
    (r"\boxed{1}", "x^2+1", False),
])
def test_stated_expressions_units_and_words(text, truth, right):
    assert verify(text, truth) == right
