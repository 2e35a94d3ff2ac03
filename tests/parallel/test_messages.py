"""What processes tell each other is JSON that comes back as it was, and nothing that could run."""

import dataclasses
import enum
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import strategies as st
from support.drawn import holds_for

from sar_jax.parallel import messages, signing
from sar_jax.text.prompts import Question
from sar_jax.text.tasks.example import Example

TEXTS = ["", "a\n\0b", "ü", "\u2028", "\ud800", "</script>", "1" * 5000]
SCALARS = [None, True, False, 0, -1, 2**63, 10**40, 0.1, -0.0, 5e-324, 1.7976931348623157e308]
VALUES = [*SCALARS, *TEXTS, [], {}, [[], {}], {"a": [1, 1.0, True, "1", None], "": {"b": -0.0}}]


def same(a, b) -> bool:
    """Equal in value and in every type; floats bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


@holds_for(
    VALUES,
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_what_is_sent_comes_back_as_it_was(value):
    assert same(messages.decode(messages.encode(value)), value)


class Colour(enum.Enum):
    RED = "red"


class Word(str):
    pass


@dataclasses.dataclass
class Record:
    x: int = 1


@pytest.mark.parametrize(
    "value, kind",
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        ((1, 2), "tuple"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (np.float64(1.0), "float64"),
        (np.int32(1), "int32"),
        (np.zeros(2), "ndarray"),
        (Colour.RED, "Colour"),
        (Word("a"), "Word"),
        (Record(), "Record"),
        ({1: 2}, "the key 1"),
        (print, "builtin"),
    ],
)
def test_what_would_come_back_as_something_else_is_a_mistake_of_the_program(value, kind):
    with pytest.raises(TypeError, match=f"value.*{kind}"):
        messages.encode(value)
    with pytest.raises(TypeError, match=r"value\['deep'\]\[1\].*" + kind):
        messages.encode({"deep": [0, value]})


@pytest.mark.parametrize("text", TEXTS)
def test_a_question_comes_back_as_it_was(text):
    example = Example("id", text, text, solution=text, kind="choice", choices=4)
    question = Question(example, [1, 2, 3])
    sent = messages.encode(question.to_json())
    assert Question.from_json(messages.decode(sent)) == question


def test_a_code_depends_on_the_token_and_on_every_part(monkeypatch):
    codes = set()
    for token in ("", "a", "b"):
        monkeypatch.setenv(signing.TOKEN, token)
        parts = [("key", "text"), ("key", "texT"), ("kez", "text"), ("keyt", "ext"), ("key",), ()]
        codes |= {signing.sign(*part) for part in parts}
        assert signing.is_signed(signing.sign("key", "text"), "key", "text")
    assert len(codes) == 18
    assert not any(signing.is_signed(code, "key", "text") for code in (None, 1, "", "é", b"x"))
    monkeypatch.delenv(signing.TOKEN)
    assert signing.sign("key") != json.dumps("key")
