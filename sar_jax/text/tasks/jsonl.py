"""A user's own rows: one JSON object a line.

question   as it is put to the model
answer     the final answer, or a worked answer that ends in one (as GSM8K's "#### 72"):
           `sar_jax.text.answers.judge` extracts it
solution   optional: a worked answer for supervised training
id         optional
kind       optional: "math"; or "choice", where the question's last lines list the options
           (A) ..., B) ...) and the answer is a letter; or "boolean", where it is true or false
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text.tasks import options
from sar_jax.text.tasks.example import Example, RowError


def lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The file's objects with their line numbers, from 1; blank lines are skipped.

    Lines end at the newline byte only. Raises `UserError` with file and line number for what is not
    a JSON object.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such file")
    found = False
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            # ValueError: JSONDecodeError, UnicodeDecodeError, too many digits
            raise UserError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(
                f'{path}, line {number}: expected a JSON object with "question" and "answer"'
            )
        found = True
        yield number, row
    if not found:
        raise UserError(f"{path}: the file has no rows")


def read(path: str, required: tuple[str, ...]) -> list[dict[str, Any]]:
    """The file's objects.

    Raises `UserError` with file and line number, also for one that lacks a required field or has an
    empty one.
    """
    return [_checked(path, number, row, required) for number, row in lines(path)]


def _checked(
    path: str, number: int, row: dict[str, Any], required: tuple[str, ...]
) -> dict[str, Any]:
    for field in required:
        if field not in row:
            raise UserError(f"{path}, line {number}: the field {field!r} is missing")
        if not isinstance(row[field], (str, int, float)) or isinstance(row[field], bool):
            raise UserError(f"{path}, line {number}: the field {field!r} must be text or a number")
        row[field] = str(row[field])
        if not row[field].strip():
            raise UserError(f"{path}, line {number}: the field {field!r} is empty")
    return row


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def load(path: str) -> list[Example]:
    """The rows as examples; an id that is missing becomes the row's number."""
    examples: list[Example] = []
    for number, row in lines(path):
        _checked(path, number, row, ("question", "answer"))
        id = str(len(examples) if row.get("id") is None else row["id"])
        example = Example(id, row["question"], row["answer"], str(row.get("solution") or ""))
        try:
            examples.append(options.of_kind(example, row.get("kind") or "math"))
        except RowError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    return examples
