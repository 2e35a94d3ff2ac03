"""Final answers are found where they are stated, and compared by value: any text, real GSM8K
rows, and what each kind of question asks for."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from support.data import real_rows
from support.drawn import holds_for

from sar_jax.text.answers.judge import LONGEST_TEXT, Pair, final, judge, verify

RIGHT, WRONG = True, False
# Fragments that the grammar reacts to, in any order, between any characters.
PIECES = [
    r"\boxed{",
    "{",
    "}",
    r"\frac{",
    r"\dfrac{",
    "}{",
    "####",
    "answer is",
    "Answer:",
    "-",
    "$",
    ",",
    ".",
    "/",
    "0",
    "12",
    "1,234",
    " ",
    "\n",
    r"\!",
    "e",
    "nan",
    "_",
    "\N{MINUS SIGN}",
    "\u0663",
]
_PARTS = st.lists(st.one_of(st.sampled_from(PIECES), st.characters()), max_size=30)
TEXT = st.one_of(st.text(max_size=60), _PARTS.map("".join))
TEXTS = [
    "",
    "\x00",
    "5",
    "no number, no box",
    r"\boxed{\frac{1}{}} 12",
    r"\boxed{{{} answer is -",
    r"\frac{}{ #### 1,234.e12",
    "Answer: $-1,234/0$ ....",
    "answer is \N{MINUS SIGN}12/\u0663",
    r"12\! 1,2341,234 \dfrac{12",
    "nan nane e12e-e",
    "\n\n####\n\n",
    "\ud800 \udfff",
    "₁² ½ Ⅷ 一二三",
    "𝟙𝟚 \u202e54 \u0000",
    "$" * 60,
]


@holds_for(
    [(a, b, kind) for kind in ("math", "last_number") for a, b in zip(TEXTS, reversed(TEXTS))],
    text=TEXT,
    truth=TEXT,
    kind=st.sampled_from(["math", "last_number"]),
)
def test_judge_never_raises(text, truth, kind):
    judged = judge(text, truth, kind)
    assert (
        judged in (True, False) or isinstance(judged, Pair) and all(len(e) <= 500 for e in judged)
    )


@pytest.mark.parametrize("truth", ["5", "1/2", r"\boxed{x}", "", "-1,234"])
def test_judge_never_raises_on_two_pieces(truth):
    for text in map("".join, itertools.product(PIECES, repeat=2)):
        assert judge(text, truth) in (True, False) or isinstance(judge(text, truth), Pair)


STATED = [r"\boxed{{{}}}", "#### {}", "The answer is ${}$."]
SMALL = st.fractions(-(10**6), 10**6, max_denominator=10**4)


@holds_for(
    [
        (Fraction(value), Fraction(other), form)
        for form in STATED
        for value, other in (
            ("0", "1"),
            ("-1/2", "1/2"),
            ("1/2", "1/3"),
            ("-7/3", "-7/3"),
            ("22/7", "355/113"),
            ("1000000", "1"),
            ("-999999/10000", "-99"),
            ("5/4", "6/5"),
        )
    ],
    value=SMALL,
    other=SMALL,
    form=st.sampled_from(STATED),
)
def test_every_fraction_verifies_against_itself_alone(value, other, form):
    """However it is written, and without computer algebra."""
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    for shown in (
        str(value),
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"\dfrac{{{sign}{3 * top}}}{{{3 * bottom}}}",
        rf"{sign}{top // bottom} {top % bottom}/{bottom}",
    ):
        assert judge(form.format(shown), str(value)) is True
        assert judge(form.format(shown), str(other)) is (value == other)


PERCENT = ["{}%", r"{}\%", "{} percent"]


@holds_for(
    [
        (value, digits, form)
        for form in PERCENT
        for value, digits in ((0, 0), (50, 0), (-3, 0), (125, 1), (-999_999, 6), (7, 3), (100, 2))
    ],
    value=st.integers(-(10**6), 10**6),
    digits=st.integers(0, 6),
    form=st.sampled_from(PERCENT),
)
def test_a_percentage_is_its_number_or_a_hundredth_of_it(value, digits, form):
    number = Fraction(value, 10**digits)
    text = r"\boxed{" + form.format(f"{value}e-{digits}") + "}"
    less = number - 1
    for truth, right in (
        (number, True),
        (number / 100, True),
        (number * 100, not value),
        (less, 100 * less == number),
    ):
        assert judge(text, f"{truth.numerator}/{truth.denominator}") is right


@holds_for(
    [(text, value, other) for text in TEXTS for value, other in ((12, 5), (-1_000_000, 0), (7, 7))],
    text=TEXT,
    value=st.integers(-(10**6), 10**6),
    other=st.integers(-(10**6), 10**6),
)
def test_the_last_box_decides_whatever_stands_before_it(text, value, other):
    before = text.replace("{", "").replace("}", "")
    assert judge(before + rf" \boxed{{{value}}}", str(value)) is True
    assert judge(before + rf" \boxed{{{value}}} and {other}", str(other)) is (value == other)


SAID = [
    r"\boxed{{{}}}",
    "#### {}",
    "The answer is {}.",
    "12 + 3 = {}",
    "Total: ${}$ ",
    r"5 so \boxed{{{}.0}}",
]


@holds_for(
    [
        (value, other, form)
        for form in SAID
        for value, other in (
            (0, 1),
            (-1, 1),
            (12, 3),
            (1000, 1),
            (-123_456, 123_456),
            (10**9, 10**8),
            (1_000_001, 1_000_001),
            (-(10**9), 0),
        )
    ],
    value=st.integers(-(10**9), 10**9),
    other=st.integers(-(10**9), 10**9),
    form=st.sampled_from(SAID),
)
def test_every_number_verifies_against_itself_alone(value, other, form):
    for shown in (str(value), f"{value:,}"):
        assert verify(form.format(shown), str(value))
        assert verify(form.format(shown), f"{value:,}")
        assert verify(form.format(shown), str(other)) is (value == other)


@pytest.mark.parametrize(
    "text",
    [
        "7" * 10_000,
        r"\boxed{" + "7" * 10_000 + "}",
        r"\boxed{\frac{" + "7" * 5_000 + "}{3}}",
        "#### 1/" + "7" * 5_000,
        "1" + ",234" * 3_000,
        "-" * 5_000,
        "{" * 5_000,
        r"\boxed{" * 300,
    ],
)
def test_degenerate_answers_are_wrong_and_do_not_raise(text):
    assert verify(text, "5") is False


@pytest.mark.parametrize("split, count", [("train", 7473), ("test", 1319)])
def test_real_solutions_verify_against_their_own_answer_alone(split, count):
    """Each worked GSM8K solution against its own row's answer, and against the next row's."""
    rows = real_rows("gsm8k", f"{split}.jsonl")
    assert len(rows) == count
    for row, after in itertools.pairwise([*rows, rows[0]]):
        assert verify(row["solution"], row["answer"]), row["id"]
        if Fraction(row["answer"].replace(",", "")) != Fraction(after["answer"].replace(",", "")):
            assert not verify(row["solution"], after["answer"]), row["id"]


@pytest.mark.parametrize(
    "text, truth, right",
    [
        ("The answer is 5 + 3 = 8.", "8", True),
        (r"\boxed{5+3=8}", "8", True),
        (r"\boxed{x = 3}", "3", True),
        ("The answer is 12 * 2 = 24", "24", True),
        ("The answer is 12 * 2 = 24", "12", False),
        ("#### 24\nThe answer is obvious.", "24", True),
        ("The answer is 72.", "72 apples", True),
        ("The answer is 71.", "72 apples", False),
        ("It is 72", "$72 dollars", True),
        ("The answer is no one knows.", "no", False),
        ("The answer is no, they do not.", "no", True),
        ("The answer is A train ride.", "A", False),
        ("The answer is A) the train.", "A", True),
        ("The answer is A) or B", "A", False),
        ("The answer is A) and B).", "A", False),
        ("The answer is (A), (B).", "A", False),
        ("The answer is (A).", "(A)", True),
        (r"\boxed{1}", "x^2+1", False),
    ],
)
def test_stated_expressions_units_and_words(text, truth, right):
    assert verify(text, truth) == right


@pytest.mark.parametrize(
    "text, truth, right",
    [
        ("so it is 72", "72", RIGHT),
        ("72, in 3 hours", "72", WRONG),
        ("72, in 3 hours", "3", RIGHT),
        (r"\frac{3}{4}", "0.75", RIGHT),
        (r"-\frac{3}{4}", "-0.75", RIGHT),
        ("2.50", "2.5", RIGHT),
        ("", "0", WRONG),
        ("none", "0", WRONG),
        (r"\frac{1}{0}", "0", WRONG),
        # its faults, each of which `math` does not have
        ("1,234", "1234", WRONG),
        ("1,234", "234", RIGHT),
        ("10-3", "-3", RIGHT),
        ("10-3", "3", WRONG),
        ("1/2", "0.5", WRONG),
        (r"\dfrac{1}{2}", "0.5", WRONG),
        (r"\boxed{5} in 3 steps", "5", WRONG),
        ("1 1/2", "1.5", WRONG),
        ("2 million", "2000000", WRONG),
    ],
)
def test_last_number_is_the_reference_faults_included(text, truth, right):
    assert judge(text, truth, "last_number") is right


@pytest.mark.parametrize(
    "text, truth, right",
    [
        ("1,234", "1234", RIGHT),
        ("1,234", "234", WRONG),
        (r"\dfrac{1}{2}", "0.5", RIGHT),
        ("1/2", "0.5", RIGHT),
        (r"\boxed{5} in 3 steps", "5", RIGHT),
        ("1 1/2", "1.5", RIGHT),
        ("10-3", "-3", WRONG),
        ("It is 10-3", "-3", WRONG),
    ],
)
def test_math_has_none_of_the_faults_of_the_reference(text, truth, right):
    assert verify(text, truth) is right


def test_numbers_never_need_computer_algebra_and_expressions_do():
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") is True and judge(r"\boxed{50\%}", "7") is False
    assert judge(r"\boxed{2\sqrt{3}}", r"\sqrt{12}") == Pair(r"2\sqrt{3}", r"\sqrt{12}")
    assert judge(r"\boxed{cat}", "act") is False and judge("The answer is nobody.", "x") is False


def test_a_comparison_that_raises_is_not_right(monkeypatch):
    def fail(given, truth):
        raise TypeError

    monkeypatch.setattr("sar_jax.text.answers.algebra.equal", fail)
    assert verify(r"\boxed{2\sqrt{3}}", r"\sqrt{12}") is False


def test_only_the_end_of_a_long_text_is_read():
    filler = "and so on " * (LONGEST_TEXT // 10)
    assert judge(r"\boxed{5} " + filler, "5") is False
    assert judge(filler + r"\boxed{5}", "5") is True


def test_an_unknown_kind_is_refused_by_name():
    known = "'maths'.*math, last_number, choice, boolean, exact, contains, json and regex"
    with pytest.raises(ValueError, match=known):
        judge("5", "5", "maths")


@pytest.mark.parametrize(
    "text",
    [
        "$" * 20_000,
        r"\(" * 10_000,
        r"\text{" * 3_000,
        r"\boxed{5cm" + " ^2" * 150 + "!=}",
        "1 " * 10_000,
        "1,234" * 4_000,
        "answer is " * 2_000,
        r"\frac{" * 3_000,
        "1" + " " * 19_000 + "x",
        "A" * 20_000,
        "(a" * 10_000,
        "#### " + "1/" * 9_000,
    ],
)
@pytest.mark.parametrize(
    "kind, truth",
    [
        ("math", "5"),
        ("math", r"\sqrt{2}"),
        ("last_number", "5"),
        ("choice", "B"),
        ("boolean", "true"),
    ],
)
def test_judging_does_not_blow_up(text, kind, truth):
    """Exponential or cubic backtracking in any pattern would never end here."""
    assert judge(text, truth, kind) is False or isinstance(judge(text, truth, kind), Pair)


@pytest.mark.parametrize(
    "same",
    [
        [
            "The answer is 1,234.",
            "#### 1234",
            "so \\boxed{1234}",
            "we get $1{,}234$",
            "It is 1234.0",
        ],
        ["\\boxed{\\dfrac{1}{2}}", "The answer is 0.5", "= 1/2"],
        ["\\boxed{x + 1}", "The answer is $x + 1$."],
        ["The answer is Yes.", "\\boxed{\\text{yes}}"],
    ],
)
def test_equal_final_answers_are_equal_text(same):
    finals = {final(text) for text in same}
    assert len(finals) == 1 and None not in finals
    assert final("The answer is 77.") not in finals


@pytest.mark.parametrize(
    "text, kind, choices, expected",
    [
        ("B) fits, not A.\nThe answer is C", "choice", 4, "C"),
        ("It is E.", "choice", 4, None),
        ("It is E.", "choice", 5, "E"),
        ("That is not true.", "boolean", 2, "false"),
        ("Answer: A", "boolean", 2, "true"),
        ("Hm.", "boolean", 2, None),
        ("I do not know.", "math", 0, None),
        ("", "math", 0, None),
    ],
)
def test_final_answers_by_kind(text, kind, choices, expected):
    assert final(text, kind, choices) == expected
