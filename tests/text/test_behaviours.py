"""Reasoning behaviours are told apart by their words, and ordinary solutions have none."""

import re

import pytest
from support.data import real_rows

from sar_jax.text import behaviours

SHOWN = {
    "backtracking": [
        "So x = 5. Wait, that is wrong: 3 * 2 = 6.",
        "That gives 12. Hmm, I made a small mistake in the second line.",
        "This doesn't work. Let me try a different approach.",
        "But wait \u2014 she gave two away first.",
        "That can't be right. Let's start over.",
        "I need to go back to the first equation.",
    ],
    "verification": [
        "The answer is 8. Let\u2019s check: 3 + 5 = 8.",
        "Let me double-check the sum.",
        "To verify, multiply 4 by 6.",
        "Substituting x = 2 into the original equation gives 4.",
        "As a sanity check, 10 % of 50 is 5.",
        "Checking the result: 7 * 8 = 56.",
        "We can verify that the total is 30.",
    ],
    "subgoals": [
        "First, we need to find how many eggs are left.",
        "Step 1: count the eggs.\n**Step 2**: sell them.",
        "Now calculate the tax.",
        "Let's break this into parts.",
        "The next step is to add them.",
        "Then we find the price of one.",
    ],
    "enumeration": [
        "Case 1: n is even. Case 2: n is odd.",
        "Try n = 3: 9 is too small.",
        "Let's try 15.",
        "We list all possible pairs.",
        "If n = 4, then 16 > 10.",
        "The possible values are 2, 3 and 5.",
    ],
}
ORDINARY = [
    "They wait 5 minutes at each of the 3 lights.",
    "Janet sells 16 - 3 - 4 = 9 duck eggs a day.\nShe makes 9 * 2 = 18 dollars.",
    "He cashed a check for 20 dollars and checks in 2 bags.",
    "Substituting this value back into b = 5s - 4, we get b = 96.",
    "She wants to try 100 - 75 = 25 more flavors.",
    "We can solve for T = 10 - L = 4.",
    "In that case, 3 of them are in the suitcase.",
    "It takes 3 steps to reach the first part of the house.",
    "Then there are 7 left. First she eats two.",
    "",
]


@pytest.mark.parametrize(
    "name, text", [(name, text) for name, texts in SHOWN.items() for text in texts]
)
def test_a_behaviour_is_seen_by_its_words(name, text):
    assert behaviours.found(text)[name], text
    assert behaviours.found(text.upper())[name]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_solutions_show_none(text):
    assert not any(behaviours.found(text).values()), behaviours.found(text)


def test_shares_are_of_answers_that_show_it_once_or_more():
    texts = ["Wait, no. Wait, that is wrong.", "It is 4.", "Let me check it.", "Step 1: add."]
    found = behaviours.shares(texts)
    assert found == {"backtracking": 0.25, "verification": 0.25, "subgoals": 0.25, "enumeration": 0}
    assert behaviours.shares([]) == {}
    assert len(behaviours.found(texts[0])["backtracking"]) == 3


def unbounded(pattern: str) -> list[str]:
    """Repetitions without a limit: *, + and {n,}."""
    without_sets = re.sub(r"\\.|\[[^\]]*\]", "x", pattern)
    return re.findall(r"[^\\][*]|[^\\]\+|\{\d+,\}", without_sets)


@pytest.mark.parametrize("name", behaviours.NAMES)
def test_every_pattern_looks_at_a_bounded_stretch(name):
    """So that no text is read more than a fixed number of times, whatever it repeats."""
    assert not [p for p in behaviours._PATTERNS[name] if unbounded(p)]
    assert unbounded("a*") and unbounded("(a|b)+") and unbounded(r"\w{2,}")
    assert not unbounded(r"a{1,9}\*[*+]b?")


def test_worked_solutions_are_not_called_what_they_are_not():
    """GSM8K's solutions neither take steps back nor check results; some name their next step."""
    found = behaviours.shares(row["solution"] for row in real_rows("gsm8k", "test.jsonl"))
    assert found["backtracking"] == found["verification"] == found["enumeration"] == 0
    assert 0.02 < found["subgoals"] < 0.2
