"""Questions with labelled options: written into the question text, and read back from it.

    choice    ...which conclusion fits?    answer "B", choices 2
              A) He will rest.
              B) He will run.

    boolean   ...true or false?            answer "true"
              Options: true, false

Rows of one's own may label options as "A)", "(A)", "A.", "A:" or "choice_1:" in the question's last
lines.
"""

import dataclasses
import re
import string
from collections.abc import Sequence
from typing import Any

from sar_jax.text.answers import named
from sar_jax.text.tasks.example import KINDS, Example, RowError

_LINE = re.compile(r"\s*(?:\(?([A-Z])[).:]|choice_(\d+):)(?:\s+(.*))?")
_BOOLEAN = "Options: true, false"
_LETTERS = list(string.ascii_uppercase)
_NUMBERED = [f"choice_{number}" for number in range(1, len(_LETTERS) + 1)]


def choice(stem: str, options: Sequence[tuple[str, str | None]], right: str) -> Example:
    """A question of several options, which become A, B, ...

    options   (label, text) of each; those without text are left out
    right     the label of the true one

    Raises `RowError` if fewer than two options are left, or `right` is not one of them.
    """
    kept = [(label, " ".join(text.split())) for label, text in options if text and text.strip()]
    if not 2 <= len(kept) <= len(_LETTERS):
        raise RowError(f"there are {len(kept)} options; 2 to {len(_LETTERS)} are needed")
    labels = [label for label, _ in kept]
    if right not in labels:
        raise RowError(f"the answer {right!r:.60} is not one of the options {', '.join(labels)}")
    lines = [f"{letter}) {text}" for letter, (_, text) in zip(_LETTERS, kept)]
    question = "\n".join([stem.strip(), *lines])
    answer = _LETTERS[labels.index(right)]
    return Example("", question, answer, kind="choice", choices=len(kept))


def boolean(stem: str, answer: str) -> Example:
    """A question that "true" or "false" answers. Raises `RowError` for any other answer."""
    answer = answer.strip().casefold()
    if answer not in ("true", "false"):
        raise RowError(f"the answer {answer!r:.60} is neither true nor false")
    stem = stem.strip().removesuffix(_BOOLEAN).strip()
    return Example("", f"{stem}\n{_BOOLEAN}", answer, kind="boolean", choices=2)


def read(question: str) -> tuple[str, list[tuple[str, str]]]:
    """The question without the labelled lines at its end, and those as (label, text).

    Labels run from A or choice_1.
    """
    lines = question.rstrip().split("\n")
    found: list[tuple[str, str]] = []
    for start in range(len(lines) - 1, -1, -1):
        if (match := _LINE.fullmatch(lines[start])) is None:
            break
        letter, number, text = match.groups()
        found.insert(0, (letter or f"choice_{number}", text or ""))
        if letter == "A" or number == "1":
            expected = _LETTERS if letter else _NUMBERED
            labels = [label for label, _ in found]
            if len(found) > 1 and labels == expected[: len(found)]:
                return "\n".join(lines[:start]), found
            break
    return question, []


def of_kind(example: Example, kind: Any) -> Example:
    """The example as one of this kind, with its options read from the question text.

    Raises `RowError` for an unknown kind, and for options or an answer that do not fit it.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise RowError(f"the kind {kind!r:.60} is not one of {', '.join(KINDS)}")
    if kind == "math":
        return example
    if kind not in ("choice", "boolean"):
        try:
            named.check(example.answer, kind)
        except ValueError as error:
            raise RowError(f"the answer {example.answer!r:.60} {error}") from None
        return dataclasses.replace(example, kind=kind)
    stem, found = read(example.question)
    if kind == "choice":
        if not found:
            raise RowError("the question's last lines list no options as A) ..., B) ...")
        made = choice(stem, found, example.answer.strip())
    else:
        texts = {label: text.strip().rstrip(".").casefold() for label, text in found}
        if found and set(texts.values()) != {"true", "false"}:
            raise RowError("the options of a boolean question are true and false")
        made = boolean(stem, texts.get(example.answer.strip(), example.answer))
    return dataclasses.replace(
        made,
        id=example.id,
        solution=example.solution,
        place=example.place,
        extra=example.extra,
    )
