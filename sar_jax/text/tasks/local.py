"""Rows of a local copy: a file, or a folder laid out as the hub's repository is.

    path -> files, by the first pattern that matches -> (where, row)

The formats are Parquet, JSON lines, JSON and CSV; `where` is "file, row 7" for error messages. A
JSON file holds a list of objects, one object, or an object with the list under "samples"
(LogicBench). CSV cells are text. The readers are our own and not the `datasets` library's: it
guesses types from the first rows, keeps a second copy of every file in a cache, and cannot say
which row is faulty.
"""

import csv
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text.tasks import jsonl

Row = dict[str, Any]
# of a folder that holds several, the first one is read
SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")


def rows(path: str, patterns: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """The rows of a file, or of files in a folder.

    patterns   of the files in a folder, without suffix: the first that matches any is used
    columns    that are read of Parquet, where the rest may be gigabytes

    Raises `UserError` that names the file, and the row where one is faulty.
    """
    for file in _files(pathlib.Path(path).expanduser(), patterns):
        try:
            yield from _READERS[file.suffix](file, columns)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"{file}: cannot be read as {file.suffix[1:]} ({_first_line(error)})"
            ) from None


def _files(path: pathlib.Path, patterns: Sequence[str]) -> list[pathlib.Path]:
    if path.is_file():
        if path.suffix not in _READERS:
            raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    for pattern in patterns:
        for suffix in SUFFIXES:
            found = [f for f in path.glob(pattern + suffix) if f.is_file()]
            shown = [f for f in found if not _is_hidden(f.relative_to(path))]
            if shown:
                return sorted(shown)
    raise UserError(
        f"{path}: found no file named {' or '.join(patterns)} ending in {', '.join(SUFFIXES)}: "
        "give the file itself"
    )


def _is_hidden(path: pathlib.Path) -> bool:
    """Is it in a folder such as a download's .cache?"""
    return any(part.startswith(".") for part in path.parts)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _parquet(file: pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    # here and not above: half a second that those who only import the task names need not wait
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            present = [name for name in columns if name in table.schema_arrow.names]
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=present):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", row
    except pyarrow.ArrowException as error:
        raise UserError(f"{file}: cannot be read as parquet ({_first_line(error)})") from None


def _jsonl(file: pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    for number, row in jsonl.lines(str(file)):
        yield f"{file}, line {number}", row


def _json(file: pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):  # one object a line, under this name
            yield from _jsonl(file, columns)
            return
        raise UserError(f"{file}: not JSON ({_first_line(error)})") from None
    if isinstance(content, dict):
        content = content["samples"] if isinstance(content.get("samples"), list) else [content]
    if not isinstance(content, list):
        raise UserError(f"{file}: expected a list of JSON objects")
    for number, row in enumerate(content, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{file}, row {number}: expected a JSON object")
        yield f"{file}, row {number}", row


def _csv(file: pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        for number, row in enumerate(csv.DictReader(stream, strict=True), start=1):
            if None in row or None in row.values():
                raise UserError(
                    f"{file}, row {number}: it does not have as many cells as the header"
                )
            yield f"{file}, row {number}", row


_READERS = {".parquet": _parquet, ".jsonl": _jsonl, ".json": _json, ".csv": _csv}
