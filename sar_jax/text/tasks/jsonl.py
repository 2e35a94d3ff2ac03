"""A user's own rows: one JSON object a line.

question   as it is put to the model
answer     the final answer, or a worked answer that ends in one (as GSM8K's "#### 72"):
           `sar_jax.text.answers.judge` extracts it
solution   optional: a worked answer for supervised training
id         optional
kind       optional: "math"; or "choice", where the question's last lines list the options
           (A) ..., B) ...) and the answer is a letter; or "boolean", where it is true or false
"""

import codecs
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text.tasks import options
from sar_jax.text.tasks.example import Example, RowError, text_of


def lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The file's objects with their line numbers, from 1; blank lines are skipped.

    Lines end at the newline byte only. Raises `UserError` with file and line number for what is not
    a JSON object in UTF-8.
    """
    found = False
    content = _read(path)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(
                line.decode("utf-8-sig" if number == 1 else "utf-8"),
                parse_constant=_refuse,
                parse_float=_number,
            )
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number}: not UTF-8 text ({error})") from None
        except (ValueError, RecursionError) as error:
            # ValueError: JSONDecodeError, too many digits
            raise UserError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(
                f'{path}, line {number}: expected a JSON object with "question" and "answer"'
            )
        found = True
        yield number, row
    if not found:
        raise UserError(f"{path}: the file has no rows")


def _read(path: str) -> bytes:
    """The file's bytes. Raises `UserError` for what is no file, and for another encoding."""
    file = pathlib.Path(path)
    if not file.is_file():
        if not file.exists():
            raise UserError(f"{path}: no such file")
        raise UserError(f"{path}: is {'a folder' if file.is_dir() else 'no regular file'}")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise UserError(f"{path}: the file is in UTF-16 or UTF-32: save it as UTF-8")
    return content


def read(path: str, required: tuple[str, ...]) -> list[dict[str, Any]]:
    """The file's objects.

    Raises `UserError` with file and line number, also for one that lacks a required field or has an
    empty one.
    """
    return [_checked(path, number, row, required) for number, row in lines(path)]


def _checked(
    path: str, number: int, row: dict[str, Any], required: tuple[str, ...]
) -> dict[str, Any]:
    """The row with its fields as text."""
    for field in required:
        if field not in row:
            raise UserError(f"{path}, line {number}: the field {field!r} is missing")
    for field in (*required, "solution", "id"):
        if row.get(field) is None and field not in required:
            continue
        # an id may be anything, such as another database's {"$oid": ...}
        value = str(row[field]) if field == "id" else row[field]
        try:
            row[field] = text_of(value)
        except RowError as error:
            raise UserError(f"{path}, line {number}: the field {field!r} {error}") from None
        if field in required and not row[field].strip():
            raise UserError(f"{path}, line {number}: the field {field!r} is empty")
    return row


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"the number {text:.20} is too large")
    return value


def load(path: str) -> list[Example]:
    """The rows as examples; an id that is missing becomes the row's number."""
    examples: list[Example] = []
    for number, row in lines(path):
        _checked(path, number, row, ("question", "answer"))
        id = str(len(examples)) if row.get("id") is None else row["id"]
        solution, place = row.get("solution") or "", f"{path}, line {number}"
        example = Example(id, row["question"], row["answer"], solution, place=place)
        try:
            examples.append(options.of_kind(example, row.get("kind") or "math"))
        except RowError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    return examples
