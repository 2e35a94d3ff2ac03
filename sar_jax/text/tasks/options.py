"""Questions with labelled options: written into the question text, and read back from it.

    choice     ...which conclusion fits?      answer "B", choices 2        boolean   ...true or false?     answer "true"
               A) He will rest.                                                      Options: true, false
               B) He will run.

Rows of one's own may label options as "A)", "(A)", "A.", "A:" or "choice_1:" in the question's last
lines."""

import dataclasses
import re
import string
from collections.abc import Sequence

from sar_jax.text.tasks.example import KINDS, Example, RowError

_LINE = re.compile(r"\s*(?:\(?([A-Z])[).:]|choice_(\d+):)(?:\s+(.*))?")
_BOOLEAN = "Options: true, false"


def choice(stem: str, options: Sequence[tuple[str, str]], right: str) -> Example:
    """A question of several options (label, text), of which the one labelled `right` is true; they
    become A, B, ...

    Options without text are left out. Raises `RowError` if fewer than two are left, or `right` is
    none of them."""
    kept = [(label, " ".join(text.split())) for label, text in options if text and text.strip()]
    if not 2 <= len(kept) <= len(string.ascii_uppercase):
        raise RowError(f"{len(kept)} options; 2 to {len(string.ascii_uppercase)} are needed")
    labels = [label for label, _ in kept]
    if right not in labels:
        raise RowError(f"the answer {right!r} is none of the options {', '.join(labels)}")
    lines = [f"{letter}) {text}" for letter, (_, text) in zip(string.ascii_uppercase, kept)]
    return Example(
        "",
        "\n".join([stem.strip(), *lines]),
        string.ascii_uppercase[labels.index(right)],
        kind="choice",
        choices=len(kept),
    )


def boolean(stem: str, answer: str) -> Example:
    """A question that "true" or "false" answers. Raises `RowError` for any other answer."""
    answer = answer.strip().casefold()
    if answer not in ("true", "false"):
        raise RowError(f"the answer {answer!r} is neither true nor false")
    stem = stem.strip().removesuffix(_BOOLEAN).strip()
    return Example("", f"{stem}\n{_BOOLEAN}", answer, kind="boolean", choices=2)


def read(question: str) -> tuple[str, list[tuple[str, str]]]:
    """The question without the labelled lines at its end, and those as (label, text); labels run
    from A or choice_1."""
    lines = question.rstrip().split("\n")
    found: list[tuple[str, str]] = []
    for start in range(len(lines) - 1, -1, -1):
        if (match := _LINE.fullmatch(lines[start])) is None:
            break
        letter, number, text = match.groups()
        found.insert(0, (letter or f"choice_{number}", text or ""))
        if letter == "A" or number == "1":
            expected = [
                string.ascii_uppercase[i] if letter else f"choice_{i + 1}"
                for i in range(min(len(found), 26))
            ]
            if len(found) > 1 and [label for label, _ in found] == expected:
                return "\n".join(lines[:start]), found
            break
    return question, []


def of_kind(example: Example, kind: str) -> Example:
    """The example as one of this kind, with its options read from the question text. Raises
    `RowError`."""
    if kind not in KINDS:
        raise RowError(f"the kind {kind!r} is none of {', '.join(KINDS)}")
    if kind == "math":
        return example
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
    return dataclasses.replace(made, id=example.id, solution=example.solution)
