"""Answers as models write them, each with a truth and the verdict of a careful grader.

`answer_pairs.jsonl` was written by hand before the code that reads answers was looked at:
`docs/data.md` says how. Where a statement is ambiguous, the verdict is wrong."""

import collections
import json
import pathlib

import pytest
from support.commands import PATIENCE

from sar_jax.text.answers.verifier import Item, Outcome, Verifier

PAIRS = [
    json.loads(line)
    for line in pathlib.Path(__file__)
    .with_name("answer_pairs.jsonl")
    .read_text("utf-8")
    .split("\n")
    if line
]
# right answers that are judged wrong; the list may only shrink
MISSED = {
    "boolean-041",  # "The claim is correct."
    "third-267",  # "\\boxed{17{:}20}"
    "third-318",  # "The area is 9π square units."
    "third-467",  # "The price is ₹5,00,000, i.e. \\boxed{5,00,000} rupees."
    "third-468",  # "Das Auto kostet \\boxed{1.234,50} Euro."
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    items = [Item(pair["text"], pair["truth"], pair["kind"], pair["choices"]) for pair in PAIRS]
    with Verifier(2, PATIENCE) as verifier:
        return dict(zip([pair["name"] for pair in PAIRS], verifier.check(items)))


def test_the_set_is_large_and_balanced():
    names = [pair["name"] for pair in PAIRS]
    assert len(PAIRS) >= 300 and len(set(names)) == len(names)
    assert 0.4 < sum(pair["right"] for pair in PAIRS) / len(PAIRS) < 0.5
    assert set(collections.Counter(pair["kind"] for pair in PAIRS)) == {"math", "choice", "boolean"}


def test_no_wrong_answer_is_right(outcomes):
    assert not [p for p in PAIRS if not p["right"] and outcomes[p["name"]] is not Outcome.WRONG]


def test_right_answers_are_right_but_for_the_listed_ones(outcomes):
    missed = {p["name"] for p in PAIRS if p["right"] and outcomes[p["name"]] is not Outcome.RIGHT}
    assert missed == MISSED
    assert len(missed) <= 0.05 * len(PAIRS)
