"""Lines of JSON, strictly: each fault is one line with file and place."""

import json
import math
from collections.abc import Iterator
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text.tasks import reading
from sar_jax.text.tasks.example import RowError, text_of


def lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The file's objects with their line numbers, from 1; blank lines are skipped.

    Lines end at the newline byte only. Raises `UserError` with file and line number for what is not
    a JSON object in UTF-8.
    """
    found = False
    content = reading.text(path)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            seems = reading.encoding(content)
            raise UserError(f"{path}, line {number}: not UTF-8 text ({error}){seems}") from None
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


def parse(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for NaN and a number that is too large, too."""
    return json.loads(text, parse_constant=_refuse, parse_float=_number)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"the number {text:.20} is too large")
    return value
