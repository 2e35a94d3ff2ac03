"""Mixes of data sets, and which answers are numbers or options."""

import re

import pytest
from support.published import competition, gsm, write

from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.text.answers import judge
from sar_jax.text.tasks import mix, numeric, options
from sar_jax.text.tasks.example import Example, RowError, digest, normalised

# Mixes


def test_a_mix_is_capped_without_duplicates_and_says_so(tmp_path, capsys):
    a = write(tmp_path / "a.jsonl", [gsm(f"What is {i} + 1?", "w", i + 1) for i in range(8)])
    b = write(
        tmp_path / "b.jsonl",
        [competition(f"what  is {i} + 1?", rf"\boxed{{{i + 1}}}") for i in range(4, 12)],
    )
    mixed = tasks.load(f"gsm8k={a}+math={b}", "train")
    assert (len(mixed), mixed.counts, mixed.duplicates) == (12, (8, 8), 4)
    assert (
        f"train: 8 gsm8k={a} + 8 math={b} = 12 questions, 4 duplicates dropped"
        in capsys.readouterr().out
    )
    assert {normalised(mixed[i].question) for i in range(12)} == {
        f"what is {i} + 1?" for i in range(12)
    }
    # the part named first stays
    assert sum(mixed[i].id.startswith("gsm8k") for i in range(12)) == 8
    other = tasks.load(f"math={b}+gsm8k={a}", "train")
    assert [normalised(e.question) for e in other.examples] == [
        normalised(e.question) for e in mixed.examples
    ]
    # not one part after the other
    assert sum(e.id.startswith("gsm8k") for e in mixed.examples[:6]) not in (
        0,
        6,
    )
    capped = tasks.load(f"gsm8k={a}:2+math={b}:3+{a}:1+arithmetic:5", "train")
    assert capped.counts == (2, 3, 1, 5)


def test_each_part_of_a_mix_has_a_cap_without_being_told(tmp_path, monkeypatch):
    assert tasks.MIX_CAP == 10_000
    monkeypatch.setattr(tasks, "MIX_CAP", 6)
    path = write(tmp_path / "a.jsonl", [gsm(f"What is {i} + 1?", "w", i + 1) for i in range(8)])
    assert tasks.load(f"gsm8k={path}+arithmetic", "train").counts == (6, 6)
    assert len(tasks.load(f"gsm8k={path}", "train")) == 8  # alone it has none


def test_a_path_with_a_plus_is_no_mix(tmp_path):
    path = write(tmp_path / "a+b.jsonl", [{"question": "q", "answer": "1"}])
    assert len(tasks.load(str(path), "train")) == 1


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("What is 1 + 1?", " what  IS 1\n+ 1? ", True),
        ("caf\u00e9?", "cafe\u0301?", True),
        ("2 + 3", "2 - 3", False),
        ("x < 3?", "x > 3?", False),
        ("5\u00b2?", "52?", False),
        ("1 2?", "12?", False),
    ],
)
def test_when_two_questions_are_the_same(a, b, same):
    assert (normalised(a) == normalised(b)) == (digest(a) == digest(b)) == same


def test_train_rows_that_an_evaluation_set_holds_are_taken_out():
    train = [Example(str(i), f"What is {i}?", "1") for i in range(6)]
    first, second = (
        [Example("a", "what IS  2?", "9")],
        [Example("b", "What is 4?", "1"), Example("c", "What is 9?", "1")],
    )
    kept, removed = mix.decontaminate(train, [first, second])
    assert [e.id for e in kept] == ["0", "1", "3", "5"] and removed == 2
    assert mix.decontaminate(train, []) == (train, 0)
    # any source, not only lists
    assert mix.decontaminate(mix.combine([train]), [train]) == (
        [],
        6,
    )


# Numbers and options


@pytest.mark.parametrize(
    "answer, number",
    [
        ("5", "5"),
        (" -12.5 ", "-12.5"),
        (r"10,\!000", r"10,\!000"),
        (r"\frac{3}{4}", r"\frac{3}{4}"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\dfrac 35", r"\dfrac{3}{5}"),
        (r"1\frac12", r"1\frac{1}{2}"),
        (r"\$18", r"\$18"),
        (r"50\%", r"50\%"),
        (r"45^\circ", "45"),
        (r"45^{\circ}", "45"),
        (r"5 \text{ cm}", "5"),
        (r"6\text{ m}^2", "6"),
        (r"\sqrt{2}", None),
        (r"2\pi", None),
        ("(3,4)", None),
        ("3, 4", None),
        ("x", None),
        ("x=5", None),
        ("12_8", None),
        (r"\text{yes}", None),
        (r"5 \text{ or } 6", None),
        ("[0,1]", None),
        (r"2\sqrt{3}", None),
        ("", None),
        ("1/0", None),
        ("12345678901234567890", "12345678901234567890"),
        ("123456789012345678901", None),
    ],
)
def test_which_answers_are_numeric(answer, number):
    assert numeric.numeric(answer) == number
    if number is not None:
        assert judge.number(number) is not None and judge.verify(rf"\boxed{{{number}}}", number)


@pytest.mark.parametrize(
    "solution, content",
    [
        (r"a \boxed{1} b \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"so \fbox{3}", "3"),
        (r"$\boxed 5$", "5"),
        ("none", None),
    ],
)
def test_the_last_box_counts(solution, content):
    assert numeric.boxed(solution) == content


@pytest.mark.parametrize(
    "lines",
    [
        "A) yes it is\nB) no",
        "(A) yes it is\n(B) no",
        "A. yes it is\nB. no",
        "choice_1: yes it is\nchoice_2: no",
    ],
)
def test_options_are_read_from_the_last_lines(lines):
    stem, found = options.read(f"A fine day.\n\nIs it?\n{lines}")
    assert stem == "A fine day.\n\nIs it?" and [text for _, text in found] == ["yes it is", "no"]


@pytest.mark.parametrize(
    "question", ["A) is one line", "Is it?\nB) yes\nC) no", "Is it?\nA) yes\nC) no", "Is it?", ""]
)
def test_what_is_no_list_of_options(question):
    assert options.read(question) == (question, [])


@pytest.mark.parametrize(
    "kind, question, answer, fault",
    [
        ("choice", "Is it?", "A", "list no options"),
        ("choice", "Is it?\nA) yes\nB) no", "C", "not one of the options A, B"),
        ("choice", "Is it?\nA) yes\nB)", "A", "1 options"),
        ("boolean", "Is it?", "maybe", "neither true nor false"),
        ("boolean", "Is it?\nA) yes\nB) no", "A", "are true and false"),
        ("truth", "Is it?", "A", "'truth' is not one of math"),
    ],
)
def test_faulty_options_raise(kind, question, answer, fault):
    with pytest.raises(RowError, match=fault):
        options.of_kind(Example("", question, answer), kind)


def test_rows_of_ones_own_may_have_a_kind(tmp_path):
    rows = [
        {
            "question": "Is it?\nA. yes\nB. no\nC. both",
            "answer": "C",
            "kind": "choice",
            "id": "x",
            "solution": "s",
        },
        {"question": "Is it?", "answer": "True", "kind": "boolean"},
        {"question": "1 + 1?", "answer": "2"},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    assert tasks.load(str(path), "test") == [
        Example("x", "Is it?\nA) yes\nB) no\nC) both", "C", "s", "choice", 3),
        Example("1", "Is it?\nOptions: true, false", "true", "", "boolean", 2),
        Example("2", "1 + 1?", "2"),
    ]
    path.write_text(path.read_text() + '\n{"question": "q", "answer": "1", "kind": "choice"}\n')
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}, line 5: .*no options"):
        tasks.load(str(path), "test")
