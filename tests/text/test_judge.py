"""Final answers are found where they are stated, and compared by value: tables of cases, any text,
real GSM8K rows."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from support.data import real_rows
from support.drawn import holds_for

from sar_jax.text.answers.judge import LONGEST_TEXT, Pair, extract, final, judge, number, verify

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
    ("10-3", "3", WRONG),
    ("10-3", "7", WRONG),  # broken off, or the question once more
    ("Take 10-3", "3", RIGHT),
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
    ("The result is -3.", "-3", RIGHT),  # a minus after a word is a sign
    ("The result is -3.", "3", WRONG),
    ("She loses -$5", "-5", RIGHT),
    ("The answer is \N{MINUS SIGN}5.", "-5", RIGHT),
    ("The answer is \N{MINUS SIGN}5.", "5", WRONG),
    (r"\boxed{1 1/2}", "11/2", WRONG),  # mixed numbers
    (r"\boxed{1 1/2}", "1.5", RIGHT),
    (r"\boxed{1\frac{1}{2}}", "1/2", WRONG),
    (r"\boxed{1\frac{1}{2}}", "3/2", RIGHT),
    (r"\boxed{3, 4}", "34", WRONG),  # a list is not a number with separators
    (r"\boxed{1,2}", "12", WRONG),
    (r"\boxed{1{,}234}", "1234", RIGHT),  # LaTeX's thousands separator
    (r"\boxed{1{,}234}", "234", WRONG),
    (r"\boxed{12\text{ m}^2}", "12", RIGHT),  # the exponent of a unit
    (r"\boxed{\text{yes}}", "yes", RIGHT),
]

# Boxes, sentences and formulas of which some need computer algebra.
EXPRESSIONS = [
    (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", RIGHT),
    (r"\boxed{2\sqrt{3}}", "2", WRONG),
    (r"\boxed{2\sqrt{3}}", "3", WRONG),
    (r"\boxed{\sqrt{16}}", "4", RIGHT),
    (r"\boxed{2^{10}}", "1024", RIGHT),
    (r"\boxed{3+4}", "7", RIGHT),
    (r"\boxed{2\pi}", "2", WRONG),
    (r"\boxed{2\pi}", r"2\pi", RIGHT),
    (r"\boxed{2*pi}", r"2\pi", RIGHT),
    ("The answer is 2π.", r"2\pi", RIGHT),
    (r"\boxed{\frac{\pi}{2}}", r"0.5\pi", RIGHT),
    (r"\boxed{\{1,2,3\}}", r"\{3,2,1\}", RIGHT),
    (r"\boxed{\{1,2\}}", r"\{1,2,3\}", WRONG),
    (r"\boxed{1, 2}", "2, 1", RIGHT),
    (r"\boxed{(1, 2)}", "(2, 1)", WRONG),
    (r"\boxed{(1, 2)}", "(1,2)", RIGHT),
    (r"\boxed{[0, 1)}", "[0,1)", RIGHT),
    (r"\boxed{[0, 1]}", "[0,1)", WRONG),
    (r"\boxed{(-\infty, 3]}", r"(-\infty,3]", RIGHT),
    (r"\boxed{(-\infty, 3]}", r"(-\infty,3)", WRONG),
    (r"\boxed{(-\infty,1)\cup(2,\infty)}", r"(2,\infty)\cup(-\infty,1)", RIGHT),
    (
        r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}}",
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        RIGHT,
    ),
    (
        r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}}",
        r"\begin{pmatrix}1&2\\3&5\end{pmatrix}",
        WRONG,
    ),
    (
        r"\boxed{\begin{bmatrix} 1 \\ 2 \end{bmatrix}}",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        RIGHT,
    ),
    (r"\boxed{x^2+2x+1}", "(x+1)^2", RIGHT),
    (r"\boxed{x^2+1}", "x^2-1", WRONG),
    (r"\boxed{x^2+1}", "1", WRONG),
    (r"\boxed{y = 2x + 3}", "y=3+2x", RIGHT),
    (r"\boxed{2x+3}", "y=2x+3", RIGHT),
    (r"\boxed{y = 2x + 3}", "2x+3", RIGHT),
    (r"\boxed{x < 5}", "x<5", RIGHT),
    (r"\boxed{x \le 5}", r"x\leq 5", RIGHT),
    (r"\boxed{x<5}", "x<6", WRONG),
    (r"\boxed{5}", "x<5", WRONG),
    (r"\boxed{50\%}", "0.5", RIGHT),
    (r"\boxed{50\%}", "50", RIGHT),
    (r"\boxed{50}", r"50\%", RIGHT),
    (r"\boxed{5\%}", r"50\%", WRONG),
    (r"\boxed{5000\%}", r"50\%", WRONG),
    (r"\boxed{1.5\times10^3}", "1500", RIGHT),
    ("1.5e3", "1500", RIGHT),
    (r"\boxed{3 \cdot 10^{-2}}", "0.03", RIGHT),
    ("#### 2 million", "2,000,000", RIGHT),
    ("The profit was 2 million.", "2000000", RIGHT),
    ("10^3", "1000", RIGHT),
    (r"\boxed{90^\circ}", "90", RIGHT),
    (r"\boxed{90^{\circ}}", "90", RIGHT),
    ("90°", "90", RIGHT),
    (r"\boxed{5\text{ cm}^2}", "5", RIGHT),
    ("#### 5 m/s", "5", RIGHT),
    (r"\boxed{5x}", "5", WRONG),
    (r"\boxed{5 xy}", "5", WRONG),
    (r"\boxed{5 \text{ A}}", "5", RIGHT),
    (r"\boxed{3\sin x}", "3", WRONG),
    (r"\boxed{3 sin x}", "3", WRONG),
    (r"\boxed{\text{The answer is } 5}", "5", RIGHT),
    (r"\boxed{\text{6 apples}}", "6", RIGHT),
    (r"\boxed{5\text{ million}}", "5000000", RIGHT),
    (r"\boxed{\frac12}", "0.5", RIGHT),
    (r"\boxed{\frac1{2}}", "0.5", RIGHT),
    (r"\boxed{\frac{1}2}", "0.5", RIGHT),
    (r"\boxed{1\frac12}", "1.5", RIGHT),
    ("2½", "2.5", RIGHT),
    (r"\boxed{10\,000}", "10000", RIGHT),
    (r"\boxed{-\,5}", "-5", RIGHT),
    (r"\boxed{- 5}", "-5", RIGHT),
    (r"\boxed{+5}", "5", RIGHT),
    (r"\boxed{(5)}", "5", RIGHT),
    (r"\boxed{\left(1, 2\right)}", "(1,2)", RIGHT),
    (r"\boxed{x=1, y=2}", "2", WRONG),
    (r"\boxed{x=1, y=2}", "x=1,y=2", RIGHT),
    (r"\boxed{x=1 \text{ or } x=2}", r"x=2 \text{ or } x=1", RIGHT),
    (r"\boxed{\pm 3}", r"\{3,-3\}", RIGHT),
    (r"\boxed{\pm3}", "3", WRONG),
    (r"\boxed{\text{(B)}}", "B", RIGHT),
    (r"\boxed{\textbf{(B)}}", "(B)", RIGHT),
    (r"\boxed{B}", "C", WRONG),
    (r"\boxed{cat}", "act", WRONG),
    (r"\boxed{cat}", "cat", RIGHT),
    (r"The answer is $\frac{1}{2}$ of 12.", "1/2", RIGHT),
    ("The answer is $18 and not $20", "18", RIGHT),
    ("The answer is $5-$10", "5", WRONG),
    (r"The answer is 3\sqrt{2}.", "3", WRONG),
    ("The answer is 3√2.", r"3\sqrt{2}", RIGHT),
    ("The answer is sqrt(2).", r"\sqrt2", RIGHT),
    ("The answer is x^2.", "2", WRONG),
    ("The answer is (3, 4).", "(3,4)", RIGHT),
    ("The answer is (3, 4).", "3", WRONG),
    ("The answer is 3, 4", "3", WRONG),
    ("The answer is 5 (five).", "5", RIGHT),
    ("The answer is approximately 5.", "5", RIGHT),
    ("The answer is 10-3.", "7", RIGHT),
    ("The answer is 10-3.", "3", WRONG),
    ("The answer is 54 - I checked.", "54", RIGHT),
    ("The answer is 5:30.", "5:30", RIGHT),
    ("The answer is 5:30 pm.", "5", WRONG),
    (r"so $x = \frac{3\sqrt{5}}{2}$.", r"\frac{3\sqrt5}{2}", RIGHT),
    ("x^2+1", "1+x^2", RIGHT),
    (r"\boxed{1{,}234{,}567}", "1234567", RIGHT),
    (r"\boxed{\$1,234.50}", "1234.5", RIGHT),
    (r"\boxed{1+2i}", "2i+1", RIGHT),
    (r"\boxed{\log_2 8}", "3", RIGHT),
    (r"\boxed{3!}", "6", RIGHT),
    (r"\boxed{\binom{5}{2}}", "10", RIGHT),
    (r"\boxed{0.5\overline{3}}", r"\frac{8}{15}", RIGHT),
    (r"\boxed{0.\overline{3}}", r"\frac{1}{3}", RIGHT),
    (r"\boxed{1010_2}", "1010_2", RIGHT),
    (r"\boxed{1,234,5}", "5, 234, 1", RIGHT),
    (r"\boxed{5\%}", "5 million", WRONG),
    ("The answer is 5, as $x = 7$ shows.", "5", RIGHT),
    ("The answer is 5x.", "5", WRONG),
    ("The answer is 5x.", "5x", RIGHT),
    ("The answer is no.\nThe answer is yes.", "yes", RIGHT),
    ("The answer is no.\nThe answer is yes.", "no", WRONG),
    ("#### 5 cm²", "5", RIGHT),
    (r"\boxed{x²}", "x^2", RIGHT),
    (r"\boxed{\frac{22}{7} \approx 3.14}", "22/7", RIGHT),
    (r"\boxed{\frac{22}{7} \approx 3.14}", "3.14", WRONG),
    ("It is n-3", "-3", WRONG),
    ("It is n-3", "3", RIGHT),
    (r"\boxed{\boxed{7} or 8}", "7", RIGHT),
    ("The answer is 54 = $50 + 4$.", "54", RIGHT),
    (r"\boxed{3 choose x}", "3", WRONG),
    (r"\boxed{5 or x}", "5", WRONG),
    (r"\boxed{e^{2}}", "e^2", RIGHT),
    (r"\boxed{\infty}", r"\infty", RIGHT),
    (r"\boxed{∞}", r"\infty", RIGHT),
    (r"\boxed{\emptyset}", r"\emptyset", RIGHT),
    (r"\boxed{\tan^{-1}(1)}", r"\frac{\pi}{4}", RIGHT),
    (r"\boxed{1.414214}", r"\sqrt2", RIGHT),
    (r"\boxed{1.41}", r"\sqrt2", WRONG),
    ("**Answer:** 5", "5", RIGHT),
    (r"The final answer is: $\boxed{5}$", "5", RIGHT),
    (r"Answer: \(5\)", "5", RIGHT),
    (r"Answer: \[5\]", "5", RIGHT),
    (r"\boxed{5 \text{ and } 6}", "5", WRONG),
    (r"\boxed{5 or 6}", "5", WRONG),
    ("The answers are 3 and 4.", "3, 4", RIGHT),
    (r"\boxed{xy}", "yx", RIGHT),
    (r"\boxed{3 : 4}", "3:4", RIGHT),
    (r"\boxed{\dfrac{-7}{2}}", "-3.5", RIGHT),
    (r"\boxed{\frac{7}{-2}}", "-3.5", RIGHT),
    (r"\boxed{2\frac{1}{2}\text{ hours}}", "2.5", RIGHT),
    ("It takes 2 1/2 hours", "2.5", RIGHT),
    (r"\boxed{5^{th}}", "5", RIGHT),
    ("The answer is the 5th.", "5", RIGHT),
    (r"\boxed{1010_2}", "1010_3", WRONG),
    (r"\boxed{1010_2}", "1010_2", RIGHT),
    (r"\boxed{x_1}", "x_2", WRONG),
    (r"\boxed{1/2, 1/3}", "1/3,1/2", RIGHT),
    (r"\boxed{[1,2]}", "(1,2)", WRONG),
    (r"\boxed{0.33333}", r"\frac{1}{3}", WRONG),
    (r"\boxed{3.14}", r"\pi", WRONG),
    (r"\boxed{3.141593}", r"\pi", RIGHT),
    (r"\boxed{\frac{22}{7}}", r"\pi", WRONG),
    (r"\boxed{\text{no solution}}", "0", WRONG),
    (r"\boxed{-\frac{\sqrt{2}}{2}}", r"-\frac{1}{\sqrt2}", RIGHT),
    (r"\boxed{\sqrt[3]{8}}", "2", RIGHT),
    (r"\boxed{1.0\overline{3}}", "31/30", RIGHT),
    (r"\boxed{\frac{x}{2}}", r"\frac12x", RIGHT),
    (r"\boxed{f(x)=x+1}", "x+1", RIGHT),
    (r"\boxed{|-3|}", "3", RIGHT),
    (r"\boxed{\frac{3}{4}\text{ cups}}", "0.75", RIGHT),
    (r"\boxed{\begin{pmatrix}1&2\end{pmatrix}}", "(1,2)", WRONG),
    (r"\boxed{1,2,3}", "6", WRONG),
    (r"\boxed{x=5}", "x=6", WRONG),
    (r"\boxed{x = 5}", "y=5", WRONG),
    (r"\boxed{a}", "b", WRONG),
    (r"\boxed{12 or 13}", "13", WRONG),
    (r"\boxed{\mathbb{R}}", r"(-\infty,\infty)", RIGHT),
    (r"\boxed{-\infty}", r"\infty", WRONG),
    (r"\boxed{\sin(x)^2+\cos(x)^2}", "1", RIGHT),
    (r"\boxed{[19,109)}", "[19,109)", RIGHT),
    (r"\boxed{[19,90+19)}", "[19,109)", RIGHT),
    (r"\boxed{\{100,200\}}", r"\{200,100\}", RIGHT),
    (r"\boxed{(1,234)}", "1234", WRONG),
    (r"\boxed{\frac{}{}}", "0", WRONG),
]


@pytest.mark.parametrize("text, truth, right", CASES + EXPRESSIONS)
def test_verify(text, truth, right):
    assert verify(text, truth) is right


@pytest.mark.parametrize("text, truth, right", NOTATIONS)
def test_verify_reads_common_notations(text, truth, right):
    assert verify(text, truth) is right


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"\boxed{\frac{1}{2}} or 3", r"\frac{1}{2}"),
        (r"\boxed{4} \boxed{", "4"),
        ("#### 1,250 clips", "1250"),
        ("The answer is 5.\nIt took 3 steps.", "5"),
        ("the answer is (D).", "(D)"),
        ("1 2 3", "3"),
        ("10-3", None),
        ("1 000", "1000"),
        ("so $x = 3$", "3"),
        ("nothing", None),
        ("", None),
    ],
)
def test_extract(text, answer):
    assert extract(text) == answer


@pytest.mark.parametrize(
    "text, value",
    [
        ("1,234", 1234),
        ("-$1,234.5", Fraction(-2469, 2)),
        (r"\dfrac{2}{-4}", Fraction(-1, 2)),
        ("2/4", Fraction(1, 2)),
        (r"10,\!000", 10_000),
        ("1/0", None),
        (r"\frac{1}{0}", None),
        ("12 apples", None),
        ("1e5", 100_000),
        ("", None),
        ("50%", 50),
        ("2 million", None),
        ("1.5e-3", Fraction(3, 2000)),
        (r"3\times 10^{2}", 300),
        ("2^{-2}", Fraction(1, 4)),
        ("7" * 9 + "^999", None),
        ("1" * 201, None),
    ],
)
def test_number_is_exact(text, value):
    assert number(text) == value


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
    with pytest.raises(ValueError, match="'maths'.*math, last_number, choice and boolean"):
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
