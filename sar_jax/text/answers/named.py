"""Comparisons that a row or a config asks for by name: exact, contains, json, regex. No JAX.

Each looks at the part of a text that is its answer, without its thought (`sections`). `exact` and
`json` take the content of the last \\boxed{} there for it, where there is one.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from sar_jax.text.answers import statements
from sar_jax.text.answers.sections import answered

_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)
_BEGINS = re.compile(r"[\[{]")
_TRIES = 64  # places at which a JSON value may begin
_SPACE = r"\s+"


def exact(text: str, truth: str, choices: int = 0) -> bool:
    """Is the answer this text, white space at its ends aside?"""
    return any(found.strip() == truth.strip() for found in _whole(text))


def contains(text: str, truth: str, choices: int = 0) -> bool:
    """Are the truth's words in the answer, one after the other and as whole words?

    White space and case do not count: "New  York" is in "in new york.", and 3 is not in 13 or 3.5.
    """
    section = answered(text)
    words = [re.escape(word) for word in truth.split()]
    if section is None or not words:
        return False
    before = r"(?<!\w)" if truth.strip()[0].isalnum() else ""
    after = r"(?!\w)" if truth.strip()[-1].isalnum() else ""
    if truth.strip()[0].isdigit():
        before += r"(?<![\d][.,])(?<!-)"
    if truth.strip()[-1].isdigit():
        after += r"(?![.,]\d)"
    pattern = f"{before}{_SPACE.join(words)}{after}"
    return re.search(pattern, section.text, re.IGNORECASE) is not None


def same_json(text: str, truth: str, choices: int = 0) -> bool:
    """Is the answer the same JSON value? The order of an object's fields does not count.

    The answer is the whole text, else its last code block, else the last list or object in it.
    Raises ValueError where the truth is no JSON.
    """
    wanted = _plain(json.loads(truth))
    values = (value for found in _whole(text) for value in _values(found))
    return any(_plain(value) == wanted for value in _first(values))


def matches(text: str, pattern: str) -> bool:
    """Does the pattern match somewhere? To be called where it can be killed: it may not end."""
    return re.search(pattern, text) is not None


def check(truth: str, kind: str) -> None:
    """Raises ValueError, in words that follow "the answer", for a truth that cannot be compared."""
    if kind == "regex":
        try:
            re.compile(truth)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"is no regular expression ({error})") from None
    if kind == "json":
        try:
            json.loads(truth)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"is no JSON ({error})") from None


def _whole(text: str) -> Iterator[str]:
    """What may be all of a text's answer."""
    section = answered(text)
    if section is None:
        return
    if boxes := statements.boxes(section.text):
        yield boxes[-1].content
    yield section.text


def _first(values: Iterator[Any]) -> Iterator[Any]:
    """The first one alone, if there is any."""
    for value in values:
        yield value
        return


def _values(text: str) -> Iterator[Any]:
    """The JSON values that a text may state, the likeliest first."""
    fences = _FENCE.findall(text)
    for part in (text, *fences[-1:]):
        try:
            yield json.loads(part)
        except (ValueError, RecursionError):
            continue
    decoder, last, end = json.JSONDecoder(), None, 0
    starts = [match.start() for match in _BEGINS.finditer(text)]
    for start in starts[-_TRIES:]:
        if start < end:
            continue
        try:
            last, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
    if end:
        yield last


def _plain(value: Any) -> Any:
    """A value whose truth values are no numbers, as in JSON; in Python, True equals 1."""
    if isinstance(value, bool):
        return ("truth value", value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value
