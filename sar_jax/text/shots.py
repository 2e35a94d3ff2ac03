"""Worked examples that come before every question (few-shot prompts): a JSONL file. No JAX."""

import json
from typing import NamedTuple

from etils import epath

from sar_jax.errors import UserError


class Shot(NamedTuple):
    """A question, and how it is answered."""

    question: str
    solution: str


def read(path: str) -> list[Shot]:
    """The examples of a file, in its order; none for an empty path.

    Raises `UserError` that names the line which is no example.
    """
    if not path:
        return []
    name = "config.prompt.examples"
    try:
        lines = epath.Path(path).expanduser().read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{name} is {path!r}: it cannot be read ({error})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            shot = Shot(row["question"], row["solution"])
            "".join(shot).encode()  # half a surrogate pair is no text
        except (ValueError, KeyError, TypeError, RecursionError):
            shot = None
        if shot is None or not all(isinstance(text, str) and text.strip() for text in shot):
            raise UserError(
                f'{path}, line {number}: an example is a JSON object with the texts "question" and '
                '"solution"'
            )
        found.append(shot)
    if not found:
        raise UserError(f"{name} is {path!r}: there is no example in it")
    return found
