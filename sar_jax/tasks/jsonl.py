"""A user's own rows: one JSON object a line with "question" and "answer", optionally "solution" and "id".

`answer` is the final answer, or a worked answer that ends in one (as GSM8K's "#### 72"): `sar_jax.answers` extracts it.
"""

import json
import pathlib
from typing import Any

from sar_jax.errors import UserError
from sar_jax.tasks.example import Example


def read(path: str, required: tuple[str, ...]) -> list[dict[str, Any]]:
    """The file's objects. Raises `UserError` with file and line number for what is not JSON, lacks a field, or has
    an empty one; blank lines are skipped. Lines end at the newline byte only."""
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such file")
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:   # ValueError: JSONDecodeError, UnicodeDecodeError, digits
            raise UserError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: a JSON object is expected, with {_quoted(required)}")
        for field in required:
            if field not in row:
                raise UserError(f"{path}, line {number}: the field {field!r} is missing")
            if not isinstance(row[field], (str, int, float)) or isinstance(row[field], bool):
                raise UserError(f"{path}, line {number}: the field {field!r} must be text or a number")
            row[field] = str(row[field])
            if not row[field].strip():
                raise UserError(f"{path}, line {number}: the field {field!r} is empty")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: the file has no rows")
    return rows


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _quoted(fields: tuple[str, ...]) -> str:
    return " and ".join(f'"{f}"' for f in fields)


def load(path: str) -> list[Example]:
    """The rows as examples; an id that is missing becomes the row's number."""
    return [Example(str(number if row.get("id") is None else row["id"]), row["question"], row["answer"],
                    str(row.get("solution") or ""))
            for number, row in enumerate(read(path, ("question", "answer")))]
