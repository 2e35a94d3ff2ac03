"""Comparisons by name: exact, contains, json and regex."""

import pytest

from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.text.answers import judge
from sar_jax.text.answers.verifier import Item, Outcome, Verifier


@pytest.mark.quick
@pytest.mark.parametrize(
    "kind, text, truth, right",
    [
        ("exact", "Paris", "Paris", True),
        ("exact", " Paris\n", "Paris", True),
        ("exact", "<think>Rome?</think>\nParis", "Paris", True),
        ("exact", "It is <answer> Paris </answer>", "Paris", True),
        ("exact", r"So \boxed{Paris}", "Paris", True),
        ("exact", "paris", "Paris", False),
        ("exact", "Paris.", "Paris", False),
        ("exact", "<think>Paris", "Paris", False),
        ("exact", "", "Paris", False),
        ("exact", r"\boxed{x}", r"\boxed{x}", True),
        ("contains", "I think it is paris, France.", "Paris", True),
        ("contains", "in New\n  York today", "new york", True),
        ("contains", "Comparisons", "Paris", False),
        ("contains", "It is 13.", "3", False),
        ("contains", "It is 3.5.", "3", False),
        ("contains", "It is 1,3.", "3", False),
        ("contains", "It is -3.", "3", False),
        ("contains", "It is 3.", "3", True),
        ("contains", "<think>Paris</think> Rome", "Paris", False),
        ("contains", "f(x) = x", "f(x)", True),
        ("contains", "C++ it is", "C++", True),
        ("contains", "", "x", False),
        ("json", '{"a": 1, "b": [true, null]}', '{"b": [true, null], "a": 1.0}', True),
        ("json", 'Here:\n```json\n{"a": 1}\n```\nDone.', '{"a": 1}', True),
        ("json", 'First {"a": 2}, then {"a": 1}.', '{"a": 1}', True),
        ("json", 'First {"a": 1}, then {"a": 2}.', '{"a": 1}', False),
        ("json", '{"x": {"a": 1}}', '{"a": 1}', False),
        ("json", 'It is {"x": {"a": 1}}', '{"a": 1}', False),
        ("json", '{"a": true}', '{"a": 1}', False),
        ("json", "[1, 2]", "[2, 1]", False),
        ("json", "42", "42", True),
        ("json", "{", "{}", False),
        ("json", "no value", "[]", False),
        ("json", '<answer>{"a": 1}</answer>', '{"a": 1}', True),
        ("regex", "It is 42 km", r"\b42\s*km\b", True),
        ("regex", "It is 142 km", r"\b42\s*km\b", False),
        ("regex", "<think>42 km</think> no", "42", False),
        ("regex", "a\nb", r"(?s)a.b", True),
    ],
)
def test_by_hand(kind, text, truth, right):
    found = judge.judge(text, truth, kind)
    if isinstance(found, judge.Match):
        with Verifier(1, 60) as verifier:
            (outcome,) = verifier.check([Item(text, truth, kind)])
        found = outcome is Outcome.RIGHT
    assert found is right


def test_a_search_that_does_not_end_is_an_error_and_the_next_one_is_judged():
    items = [Item("a" * 40 + "!", r"(a+)+$", "regex"), Item("b", "b", "regex")]
    with Verifier(1, 2) as verifier:
        handle = verifier.submit(items)
        assert handle.result() == [Outcome.ERROR, Outcome.RIGHT]
    assert handle.reasons == {0: "took over 2 seconds"}


@pytest.mark.parametrize("kind, answer", [("regex", "(a"), ("json", "{'a': 1}"), ("exakt", "x")])
def test_a_truth_that_cannot_be_compared_is_named_with_its_row(tmp_path, kind, answer):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"question": "?", "answer": "{answer}", "kind": "{kind}"}}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl, line 1: the (answer|kind)"):
        tasks.load(str(path), "train")


def test_rows_may_have_different_kinds(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"question": "a?", "answer": "Do it at once.", "kind": "exact"}\n'
        '{"question": "b?", "answer": "7", "kind": "math"}\n'
        '{"question": "c?", "answer": "[1]", "kind": "json"}\n'
    )
    assert [e.kind for e in tasks.load(str(path), "train")] == ["exact", "math", "json"]


def test_one_kind_for_all_rows():
    with Verifier(1, 60, kind="contains") as verifier:
        items = [Item("It is 7 or 8.", "7"), Item("B", "A", "choice", 2)]
        assert verifier.check(items) == [Outcome.RIGHT, Outcome.WRONG]
