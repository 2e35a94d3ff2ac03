"""Rows of a function of one's own: as those of a file, and one line for each that is wrong."""

import pytest

from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.text.tasks.example import Columns

SOURCE = """
import itertools

def rows(split):
    for i in range(5 if split == "train" else 2):
        yield {"question": f"{i} + {i}?", "answer": 2 * i, "hint": f"h{i}"}

def fixed(count=3):
    return [{"problem": f"{i}?", "answer": str(i)} for i in range(count)]

def endless():
    return ({"question": f"{i}?", "answer": "1"} for i in itertools.count())

def nothing():
    pass

def empty():
    return []

def text():
    return "question"

def lists():
    yield {"question": "1?", "answer": "1"}
    yield ["question"]

def faulty():
    yield {"question": "1?", "answer": "1"}
    yield {"question": "", "answer": "1"}

def breaks():
    yield {"question": "1?", "answer": "1"}
    raise OSError("no network")
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(SOURCE)


@pytest.mark.quick
@pytest.mark.parametrize(
    "name, split, questions",
    [
        ("my.py:rows", "train", [f"{i} + {i}?" for i in range(5)]),
        ("my.py:rows", "test", ["0 + 0?", "1 + 1?"]),
        ("my.py:rows:2", "train", ["0 + 0?", "1 + 1?"]),
        ("my.py:fixed", "test", ["0?", "1?", "2?"]),
        ("my.py:fixed(count=2)", "train", ["0?", "1?"]),
        ("my.py:endless:4", "train", ["0?", "1?", "2?", "3?"]),
    ],
)
def test_its_rows_are_those_of_any_source(file, name, split, questions):
    found = tasks.load(name, split)
    assert [example.question for example in found] == questions


def test_other_columns_are_kept_and_columns_can_be_named(file):
    found = tasks.load("my.py:rows", "train")
    assert [(e.answer, e.extra) for e in found][3] == ("6", {"hint": "h3"})
    named = tasks.load("my.py:rows", "train", Columns(question="hint"))
    assert [e.question for e in named][:2] == ["h0", "h1"]


def test_it_is_a_part_of_a_mix(file, capsys):
    found = tasks.load("my.py:fixed+my.py:rows:2", "train")
    assert len(found) == 5
    assert tasks.functions("my.py:fixed+my.py:rows(a=1):2+gsm8k") == [
        "my.py:fixed",
        "my.py:rows(a=1)",
    ]


@pytest.mark.parametrize(
    "name, words",
    [
        ("my.py:nothing", "gave None: it must yield rows"),
        ("my.py:empty", "yields no rows"),
        ("my.py:text", "gave 'question': it must yield rows"),
        ("my.py:lists", "my.py:lists, row 2: ['question'] is no row"),
        ("my.py:faulty", "my.py:faulty, row 2: "),
        ("my.py:breaks", "data source 'my.py:breaks': line 33: OSError: no network"),
        ("my.py:rowz", "my.py has no 'rowz': did you mean 'rows'?"),
        ("mi.py:rows", "no such file: mi.py (did you mean my.py?)"),
        ("my.py:rows:0", "at least one row is needed"),
        ("nothing_like_it:rows", "unknown data source 'nothing_like_it:rows'"),
    ],
)
def test_what_is_wrong_is_named(file, name, words):
    with pytest.raises(UserError) as error:
        tasks.load(name, "train")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_rows_without_end_need_a_cap(file, monkeypatch):
    monkeypatch.setattr("sar_jax.text.tasks.own_source._MOST", 1000)
    with pytest.raises(UserError, match=r"yields more than 1000 rows: .* my\.py:endless:ROWS"):
        tasks.load("my.py:endless", "train")
