"""The parts of a text that are its answer, words about numbers, and clock times."""

import pytest

from sar_jax.text.answers import sections, spoken, times
from sar_jax.text.answers.judge import final, judge, verify

OPENING = ("<think>", "<Thinking>", "<thought>", "<reasoning>", "<|begin_of_thought|>", "[THINK]")
CLOSING = (
    "</think>",
    "</Thinking>",
    "</thought>",
    "</reasoning>",
    "<|end_of_thought|>",
    "[/THINK]",
)


@pytest.mark.parametrize("opening, closing", list(zip(OPENING, CLOSING)))
@pytest.mark.parametrize(
    "text, left",
    [
        ("{0}7{1}8", "8"),
        ("7{1}8", "8"),
        ("{0}7", None),
        ("5{0}7", None),
        ("5{0}7{1}8", "5 8"),
        ("{0}1{1}5{0}7{1}8", "5 8"),
        ("5{0}6{0}7{1}8", "5 8"),
        ("5{0}6{1}7{1}8", "8"),
        ("5", "5"),
    ],
)
def test_thoughts_are_taken_out(opening, closing, text, left):
    found = sections.answered(text.format(opening, closing))
    assert (found and " ".join(found.text.split())) == left


@pytest.mark.parametrize(
    "text, left",
    [
        (
            "<|channel|>analysis<|message|>7<|end|><|start|>assistant<|channel|>final<|message|>8",
            "8",
        ),
        ("<|channel|>final<|message|>7<|end|><|channel|>final<|message|>8<|return|>", "8"),
        ("<|channel|>analysis<|message|>7", None),
        ("analysis7 it is.assistantfinal8", "8"),
        ("analysisWe have 7", None),
        ("analysis of 7", "analysis of 7"),
        ("1<answer>7</answer>2<answer> 8 </answer>3", "8"),
        ("<ANSWER>8", "8"),
        ("<answer>8</answer><answer> </answer>", "8"),
        ("<answer></answer>8", "<answer></answer>8"),
        ("<think><answer>7</answer></think>8", "8"),
    ],
)
def test_channels_and_answers(text, left):
    found = sections.answered(text)
    assert (found and found.text.strip()) == left


def test_a_thought_that_begins_before_the_part_that_is_read_is_one():
    assert judge("<think>" + "word " * 10_000 + "</think>The answer is 5.", "5") is True
    assert judge("<think>" + "word " * 10_000 + "The answer is 5.", "5") is False


@pytest.mark.parametrize("name", ["math", "choice", "boolean"])
def test_every_kind_reads_in_the_same_order(name):
    right, other, third = {
        "math": ("5", "6", "7"),
        "choice": ("B", "C", "D"),
        "boolean": ("true", "false", "false"),
    }[name]
    for text in (
        f"The answer is {other}. \\boxed{{{right}}} {third}",
        f"\\boxed{{{other}}} The final answer is {right}.",
        f"\\boxed{{{other}}} <answer>{right}</answer> \\boxed{{{third}}}",
        f"\\boxed{{{right}}}\\boxed{{}} {other}",
        f"{other} The answer is {right}. {third}",
        f"The answer is {other}. No: the answer is {right}. {third}",
        f"<think>\\boxed{{{other}}}</think> {right}",
        f"{other}. Then {right}",
    ):
        assert judge(text, right, name, 4) is True, text
        assert judge(text, other, name, 4) is False, text


@pytest.mark.parametrize(
    "words, symbols",
    [
        ("twenty-four", "24"),
        ("two thousand three hundred", "2300"),
        ("a hundred and five", "105"),
        ("two point five", "2.5"),
        ("no one", "no one"),
        ("one of them", "one of them"),
        ("four-legged", "four-legged"),
        ("seven eight", "seven eight"),
        ("5 million", "5 million"),
        ("two thirds", "2/3"),
        ("one-half", "1/2"),
        ("3 tenth", "3 tenth"),
        ("1 quarters", "1 quarters"),
        ("5 and three quarters", "5 3/4"),
        ("half of 12", "1/2*12"),
        ("a quarter of 20", "1/4*20"),
        ("30% of 20", "30/100*20"),
        ("minus 5", "-5"),
        ("7 minus 5", "7 - 5"),
        ("8 plus 5", "8 + 5"),
        ("8 times 5", "8*5"),
        ("8 divided by 5", "8/5"),
        ("twice 5", "2*5"),
        ("triple 5", "3*5"),
        ("5 squared", "5^2"),
        ("5 cubed", "5^3"),
        ("5 to the power of 4", "5^4"),
        ("5 to the fourth power", "5^4"),
        ("the square root of 5", "the \\sqrt{5}"),
        ("the cube of 5", "the 5^3"),
        ("5 factorial", "5!"),
        ("12 degrees below zero", "-12 degrees"),
        ("half a dozen", "6"),
        ("a dozen", "1 dozen"),
        ("3 dollars and 5 cents", "3.05 dollars"),
        ("five (5)", "5"),
        ("five (6)", "5 (6)"),
    ],
)
def test_words_about_numbers_become_symbols(words, symbols):
    assert spoken.symbols(words) == symbols


def test_where_a_sentence_has_digits_cardinals_may_count_nothing():
    assert verify("So one can see that 5 are left, one for each.", "5")
    assert verify("So five are left.", "5") and not verify("So one of five is left.", "5")


@pytest.mark.parametrize(
    "given, truth, same",
    [
        ("3:30", "3:30", True),
        ("03:30", "3:30", True),
        ("3:31", "3:30", False),
        ("4:30", "3:30", False),
        ("3:30 PM", "3:30", True),
        ("3:30 a.m.", "3:30", True),
        ("15:30", "3:30 PM", True),
        ("15:30", "3:30", False),
        ("3:30", "3:30 PM", False),
        ("3:30", "3:30 AM", True),
        ("12:30 AM", "0:30", True),
        ("12:30 AM", "12:30 PM", False),
        ("3 PM", "3:00 pm", True),
    ],
)
def test_clock_times(given, truth, same):
    assert times.same(times.time(given), times.time(truth)) is same
    assert verify(rf"\boxed{{{given}}}", truth) is same


@pytest.mark.parametrize("text", ["3", "3:5", "25:00", "3:60", "13:00 PM", "0 PM", "at 3:30", "x"])
def test_what_is_no_time(text):
    assert times.time(text) is None


@pytest.mark.parametrize("given, truth", [("8:00", "7"), ("3:04", "6:08"), ("0:00", "1:0")])
def test_a_time_is_no_ratio(given, truth):
    assert judge(rf"\boxed{{{given}}}", truth) is False


@pytest.mark.parametrize(
    "answer, truth, right",
    [
        (r"\{x : x > 2\}", r"(2,\infty)", True),
        (r"\{x \mid x \ge 2\}", r"(2,\infty)", False),
        (r"x < 1 \text{ or } x > 3", r"(-\infty,1)\cup(3,\infty)", True),
        (r"x < 1 \text{ or } x > 4", r"(-\infty,1)\cup(3,\infty)", False),
        (r"x < 1 \text{ or } y > 3", r"(-\infty,1)\cup(3,\infty)", False),
        ("]0,1]", "(0,1]", True),
        ("]0,1[", "[0,1]", False),
        (r"\cos(60^\circ)", "1/2", True),
        (r"\sin 30", "1/2", False),
        (r"\lceil n/2 \rceil", r"\lfloor n/2 \rfloor", False),
        (r"\lceil x/2 \rceil", r"\lfloor (x+1)/2 \rfloor", False),  # x may be no whole number
        ("f'(x)", "f(x)", False),
        ("3:4", "6/8", True),
        ("1.234.567", "1234567", True),
        ("1.234", "1234", False),
        ("1_000", "1000", True),
        ("٢٥", "25", True),
        ("2⁻³", "1/8", True),
        ("7⅞", "63/8", True),
    ],
)
def test_more_notations(answer, truth, right):
    assert verify(rf"\boxed{{{answer}}}", truth) is right


def test_final_answers_in_words_are_the_number():
    assert final("The answer is twenty-four.") == final(r"\boxed{24}") == "24"
    assert final("<think>The answer is 5.") is None


@pytest.mark.parametrize(
    "text, truth, right",
    [
        ("The answer is B, but it is C.", "B", False),
        ("The answer is B, but A and C fit.", "B", False),
        ("The answer is B, but A and C are close.", "B", True),
        ("Neither A nor B. So C.", "C", True),
        ("So A, B and C are wrong.", "C", False),
        ("D fits. A, B and C are wrong.", "D", True),
        ("(C) 5 apples", "C", True),
    ],
)
def test_choices(text, truth, right):
    assert judge(text, truth, "choice", 4) is right
