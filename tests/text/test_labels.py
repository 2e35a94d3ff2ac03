"""Choices and truth values: the marked label decides, else the last one; articles are no labels.
Tables of cases, and real rows."""

import pytest
from hypothesis import strategies as st
from support.data import real_rows
from support.drawn import holds_for

from sar_jax.text.answers.judge import judge, verify

RIGHT, WRONG = True, False
CHOICES = [  # text, truth, choices, right
    ("B", "B", 4, RIGHT),
    ("B", "C", 4, WRONG),
    ("(B)", "B", 4, RIGHT),
    ("B)", "B", 4, RIGHT),
    ("B.", "(B)", 4, RIGHT),
    ("The answer is B.", "B", 4, RIGHT),
    ("The answer is **C**", "C", 4, RIGHT),
    (r"\boxed{D}", "D", 4, RIGHT),
    (r"\boxed{\text{D}}", "D", 4, RIGHT),
    ("(b)", "B", 4, RIGHT),
    (r"\boxed{b}", "B", 4, RIGHT),
    ("Option C", "C", 4, RIGHT),
    # the last one decides
    ("A is tempting, but it is C", "C", 4, RIGHT),
    ("A is tempting, but it is C", "A", 4, WRONG),
    ("C, and not B", "C", 4, RIGHT),
    ("C, and not B", "B", 4, WRONG),
    ("A) one B) two C) three\nMy answer: B", "B", 4, RIGHT),
    # the article is no choice
    ("The answer is B. A train arrives later.", "B", 4, RIGHT),
    ("The answer is B. A train arrives later.", "A", 4, WRONG),
    ("B, since this is A very long road", "A", 4, WRONG),
    ("C\nA Train is not a choice.", "C", 4, RIGHT),
    ("A train arrives.", "A", 4, WRONG),
    ("D. A tumpus is not A wumpus", "D", 4, RIGHT),
    ("B and a train", "B", 4, RIGHT),
    # ... but A is
    ("A", "A", 4, RIGHT),
    ("The answer is A", "A", 4, RIGHT),
    ("A is correct", "A", 4, RIGHT),
    ("Answer: A True", "A", 4, RIGHT),
    ("(A) because it follows", "A", 4, RIGHT),
    ("A because it follows", "A", 4, RIGHT),
    ("It is A, B is wrong: A.", "A", 4, RIGHT),
    ("option A states it", "A", 4, RIGHT),
    ("Option A mentions it", "A", 4, RIGHT),
    ("The answer is A\nThat was easy.", "A", 4, RIGHT),
    ("A) the train", "A", 4, RIGHT),
    ("**A** the train", "A", 4, RIGHT),
    # whole words only
    ("B. DNA", "A", 4, WRONG),
    ("C. Vitamin-B, A's", "C", 4, RIGHT),
    ("D, AB, B2, C_1", "D", 4, RIGHT),
    ("B. A-level", "B", 4, RIGHT),
    (r"B \mathbf{x} \C", "B", 4, RIGHT),
    # as many as there are
    ("E", "E", 5, RIGHT),
    ("The answer is E.", "B", 5, WRONG),
    ("B E", "B", 4, RIGHT),
    ("B E", "E", 5, RIGHT),
    ("B E", "B", 5, WRONG),
    ("B, F", "B", 5, RIGHT),
    ("C", "B", 2, WRONG),
    ("B C", "B", 2, RIGHT),
    ("I think it is B", "B", 10, RIGHT),
    ("B, I think", "B", 10, RIGHT),
    ("B, I", "I", 10, RIGHT),
    ("I am sure: J", "J", 10, RIGHT),
    ("B", "B", 0, RIGHT),
    ("B E", "B", 0, RIGHT),
    # numbered labels
    ("choice_3", "choice_3", 4, RIGHT),
    ("choice_3", "choice_2", 4, WRONG),
    ("Choice 3", "choice_3", 4, RIGHT),
    ("C", "choice_3", 4, RIGHT),
    ("choice_3", "C", 4, RIGHT),
    ("choice_1 is wrong, choice_4 right", "choice_4", 4, RIGHT),
    ("choice_2, choice_0", "choice_2", 4, RIGHT),
    ("choice_2, not choice_7", "choice_2", 4, RIGHT),
    # none
    ("", "A", 4, WRONG),
    ("I do not know", "A", 4, WRONG),
    ("42", "A", 4, WRONG),
]
BOOLEANS = [  # text, truth, right
    ("True", "true", RIGHT),
    ("True", "false", WRONG),
    ("false.", "False", RIGHT),
    ("**TRUE**", "true", RIGHT),
    (r"\boxed{\text{false}}", "false", RIGHT),
    ("Is it true or false? It is false.", "false", RIGHT),
    ("false at first, then true", "true", RIGHT),
    ("untrue", "true", WRONG),
    ("falsehood", "false", WRONG),
    ("truely", "true", WRONG),
    ("It is not true.", "false", RIGHT),
    ("It is not true.", "true", WRONG),
    ("It isn't false", "true", RIGHT),
    ("not at all: true", "true", RIGHT),
    ("", "true", WRONG),
    ("maybe", "false", WRONG),
    # the options A) True B) False
    ("B) False", "B", RIGHT),
    ("B) False", "A", WRONG),
    ("B", "B", RIGHT),
    ("A", "B", WRONG),
    ("(A)", "true", RIGHT),
    ("B", "false", RIGHT),
    ("False", "B", RIGHT),
    ("True", "A", RIGHT),
    ("True", "B", WRONG),
    ("Max is sour. The answer is A) True.", "A", RIGHT),
    ("False. A tumpus is sour.", "B", RIGHT),
    ("False. A tumpus is sour.", "A", WRONG),
    ("C", "A", WRONG),
    ("B) False", "B) False", RIGHT),
    # yes and no, where the truth is one of them
    ("yes", "yes", RIGHT),
    ("Yes, it does.", "yes", RIGHT),
    ("No.", "no", RIGHT),
    ("No.", "yes", WRONG),
    ("Yes: no train is late", "yes", RIGHT),
    ("Yes: no train is late", "no", WRONG),
    ("yes or no? no", "no", RIGHT),
    ("true", "yes", WRONG),
    ("nothing", "no", WRONG),
    ("No, it does not", "no", RIGHT),
]


@pytest.mark.parametrize("text, truth, choices, right", CHOICES)
def test_choice(text, truth, choices, right):
    assert judge(text, truth, "choice", choices) is right


@pytest.mark.parametrize("text, truth, right", BOOLEANS)
def test_boolean(text, truth, right):
    assert judge(text, truth, "boolean") is right


@pytest.mark.parametrize(
    "truth, kind, choices",
    [
        ("E", "choice", 4),
        ("C", "choice", 2),
        ("choice_5", "choice", 4),
        ("choice_0", "choice", 4),
        ("", "choice", 4),
        ("7", "choice", 4),
        ("C", "boolean", 0),
        ("perhaps", "boolean", 0),
    ],
)
def test_a_truth_that_is_no_choice_is_an_error(truth, kind, choices):
    with pytest.raises(ValueError, match="true answer"):
        judge("A", truth, kind, choices)


LETTERS = "ABCDEFGHIJ"


FORMS = ["({})", "{}.", "{},", "**{}**", "choice {}", "{}\n"]


@holds_for(
    [(letters, form) for form in FORMS for letters in ("A", "BA", "AB", "CDE", "EDCBA", "AAAAAA")],
    letters=st.lists(st.sampled_from(LETTERS[:5]), min_size=1, max_size=6),
    form=st.sampled_from(FORMS),
)
def test_the_last_of_several_labels_decides(letters, form):
    text = " then ".join(form.format(letter) for letter in letters)
    assert [letter for letter in LETTERS[:5] if judge(text, letter, "choice", 5)] == [letters[-1]]


@holds_for(
    [
        ("", "A"),
        ("It is B", "C"),
        ("A and B, or C", "E"),
        ("(A) (B) (C)", "B"),
        ("true or false", "D"),
        ("not true, false", "A"),
        ("The answer is", "A"),
        ("a A b B c C", "D"),
        ("A.B.C.D.E", "E"),
        ("choice_1 choice_2", "C"),
        (r"\boxed{ \boxed{B", "B"),
        ("\x00A\n\nB\u2028C", "A"),
        ("Ａ Ｂ", "C"),
        ("A Train, A car", "B"),
        ("**D** untrue", "A"),
    ],
    text=st.text(max_size=80),
    letter=st.sampled_from(LETTERS[:5]),
)
def test_at_most_one_choice_and_one_truth_value_is_right(text, letter):
    for ending, sure in (("", False), (f" ({letter})", True)):
        rights = [x for x in LETTERS[:5] if judge(text + ending, x, "choice", 5)]
        assert rights == [letter] if sure else len(rights) <= 1
        assert (
            judge(text + ending, "true", "boolean") + judge(text + ending, "false", "boolean") <= 1
        )


def test_real_proofs_are_true_or_false_as_they_conclude():
    found = real_rows("prontoqa", "test.jsonl")
    assert len(found) == 500
    for row in found:
        own, other, word = ("A", "B", "True") if row["answer"] == "A" else ("B", "A", "False")
        for ending in (
            f"The answer is {own}.",
            f"So it is {word.lower()}.",
            f"{own}) {word}",
            rf"\boxed{{{own}}}",
        ):
            text = f"{row['question']}\n\n{row['solution']}\n{ending}"
            assert judge(text, own, "boolean") is True, row["id"]
            assert judge(text, other, "boolean") is False, row["id"]
        # a proof alone names no label
        assert judge(row["solution"], own, "boolean") is False, row["id"]


def test_real_choices_verify_against_their_own_label_alone():
    found = real_rows("logicbench_eval", "mcqa.jsonl")
    assert len(found) == 500
    for row in found:
        which = int(row["answer"].removeprefix("choice_")) - 1
        context = row["question"].partition("\n\n")[0]
        shouted = context if "block" in context else context.replace(" a ", " A ")
        # The question's prose stands before and after the label: none of its articles may count.
        for text in (
            f"{row['question']}\n\nThe answer is {row['answer']}.",
            f"{row['question']}\n{LETTERS[which]}",
            f"({LETTERS[which]})\n{context}",
            f"{context} So {row['answer']} follows. {shouted}",
        ):
            rights = [i for i in range(4) if judge(text, f"choice_{i + 1}", "choice", 4)]
            assert rights == [which], row["id"]
            letters = [i for i in range(4) if judge(text, LETTERS[i], "choice", 4)]
            assert letters == [which], row["id"]


def test_real_yes_no_questions_verify_against_their_own_answer_alone():
    found = real_rows("logicbench_eval", "bqa.jsonl")
    assert len(found) == 1520
    for row in found:
        other = "no" if row["answer"] == "yes" else "yes"
        for kind in (judge, verify):
            text = f"{row['question']}\n\nThe answer is {row['answer']}."
            given = (row["answer"], "boolean") if kind is judge else (row["answer"],)
            assert kind(text, *given) is True and kind(text, other, *given[1:]) is False, row["id"]
