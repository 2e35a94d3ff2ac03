"""Answers that somebody brings to be scored: a JSONL or parquet file, or a run's samples/."""

import pathlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sar_jax.errors import UserError
from sar_jax.text.tasks import jsonl
from sar_jax.text.tasks.example import as_json

_REQUIRED = ("question", "answer")


def read(path: str) -> list[dict[str, Any]]:
    """The rows, each with a question and an answer, and whatever else JSON can hold.

    path   a .jsonl or .parquet file, or a folder of parquet files, in the order of their names

    Raises `UserError` that names the file, and row or line, of what is missing, empty or damaged.
    """
    place = pathlib.Path(path).expanduser()
    if place.is_dir():
        found = sorted(place.glob("*.parquet"))
        if not found:
            raise UserError(f"{place}: the folder has no .parquet file")
        return [row for file in found for row in _parquet(file)]
    if place.suffix == ".parquet":
        return _parquet(place)
    return jsonl.read(str(place), _REQUIRED)


def _parquet(file: pathlib.Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        rows = pq.read_table(file).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        line = str(error).partition("\n")[0]
        raise UserError(f"{file}: not a parquet file that can be read ({line})") from None
    if not rows:
        raise UserError(f"{file}: the file has no rows")
    for name in _REQUIRED:
        if name not in rows[0]:
            columns = ", ".join(rows[0])
            raise UserError(f"{file}: there is no column {name!r}, only {columns}")
    for number, row in enumerate(rows, 1):
        for name in _REQUIRED:
            if not isinstance(row[name], str) or not row[name].strip():
                raise UserError(f"{file}, row {number}: the field {name!r} is empty or no text")
    return [as_json(row) for row in rows]
