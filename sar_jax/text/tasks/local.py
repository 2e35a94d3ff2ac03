"""Rows of a file, of a folder of files, or of a bucket.

    path -> files, by the first pattern that matches -> (where, row)

The formats are Parquet, JSON lines, JSON, CSV, TSV and Arrow (`datasets`' save_to_disk), perhaps
compressed; `where` is "file, row 7" for error messages. A JSON file holds a list of objects, one
object, or an object with the list under "samples" (LogicBench). CSV cells are text. The readers are
our own and not the `datasets` library's: it guesses types from the first rows, keeps a second copy
of every file in a cache, and cannot say which row is faulty.
"""

import csv
import fnmatch
import io
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from sar_jax import files as files_lib
from sar_jax.errors import UserError
from sar_jax.text.tasks import jsonl, reading

Row = dict[str, Any]
# of a folder that holds several, the first one is read
SUFFIXES = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
COMPRESSED = ("", ".gz", ".bz2", ".xz")
_NAME = re.compile(rf".*({'|'.join(map(re.escape, SUFFIXES))})(?:\.(?:gz|bz2|xz))?")


def rows(
    path: str, patterns: Sequence[str], columns: Sequence[str] | None = None
) -> Iterator[tuple[str, Row]]:
    """The rows of a file, or of files in a folder.

    patterns   of the files in a folder, without suffix: the first that matches any is used
    columns    that are read of Parquet, where the rest may be gigabytes; None for all

    Raises `UserError` that names the file, and the row where one is faulty.
    """
    for file in files(path, patterns):
        suffix = _suffix(file)
        try:
            yield from _READERS[suffix](file, columns)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            seems = ""
            if isinstance(error, UnicodeDecodeError):
                seems = reading.encoding(reading.content(file))
            reason = f"{_first_line(error)}{seems}"
            raise UserError(f"{file}: cannot be read as {suffix[1:]} ({reason})") from None


def files(path: str, patterns: Sequence[str]) -> list[str]:
    """The files that `rows` reads. Raises `UserError` where there is none."""
    if files_lib.is_remote(path):
        return [path] if _suffix(path) else _in_bucket(path, patterns)
    folder = pathlib.Path(path).expanduser()
    if folder.is_file():
        if not _suffix(folder.name):
            raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
        return [str(folder)]
    if not folder.is_dir():
        kind = "is no regular file" if folder.exists() else "no such file or folder"
        raise UserError(f"{path}: {kind}")
    for pattern in patterns:
        for suffix in SUFFIXES:
            found = [f for end in COMPRESSED for f in folder.glob(pattern + suffix + end)]
            shown = [f for f in found if f.is_file() and not _is_hidden(f.relative_to(folder))]
            if shown:
                return sorted(map(str, shown))
    raise _nothing(path, patterns)


def _nothing(path: str, patterns: Sequence[str]) -> UserError:
    return UserError(
        f"{path}: found no file named {' or '.join(patterns)} ending in {', '.join(SUFFIXES)}: "
        "give the file itself"
    )


def _in_bucket(path: str, patterns: Sequence[str]) -> list[str]:
    try:
        for pattern in patterns:
            parent, _, name = pattern.rpartition("/")
            folder = epath.Path(path) / parent if parent else epath.Path(path)
            files = [str(file) for file in folder.iterdir()] if folder.is_dir() else []
            for suffix in SUFFIXES:
                ends = [f"*/{name}{suffix}{end}" for end in COMPRESSED]
                if found := [f for f in files if any(fnmatch.fnmatch(f, end) for end in ends)]:
                    return sorted(found)
    except Exception as error:  # each file system raises types of its own
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {_first_line(error)})"
        ) from None
    raise _nothing(path, patterns)


def is_named(path: str) -> bool:
    """Does it name a file that can be read, by its end, or a place in a bucket?"""
    return bool(_suffix(path)) or files_lib.is_remote(path)


def _suffix(name: str) -> str:
    """Of a file that can be read, without its compression; else empty."""
    match = _NAME.fullmatch(name)
    return match[1] if match else ""


def _is_hidden(path: pathlib.Path) -> bool:
    """Is it in a folder such as a download's .cache?"""
    return any(part.startswith(".") for part in path.parts)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _parquet(file: str, columns: Sequence[str] | None) -> Iterator[tuple[str, Row]]:
    # here and not above: half a second that those who only import the task names need not wait
    import pyarrow
    import pyarrow.parquet

    source = io.BytesIO(reading.content(file)) if files_lib.is_remote(file) else file
    try:
        with pyarrow.parquet.ParquetFile(source) as table:
            names = table.schema_arrow.names
            present = names if columns is None else [name for name in columns if name in names]
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=present):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", row
    except pyarrow.ArrowException as error:
        raise UserError(f"{file}: cannot be read as parquet ({_first_line(error)})") from None


def _arrow(file: str, columns: Sequence[str] | None) -> Iterator[tuple[str, Row]]:
    """A file of `datasets`' save_to_disk, which is a stream, or Feather."""
    import pyarrow

    content = reading.content(file)
    is_file = content.startswith(b"ARROW1")
    number = 0
    try:
        opened = pyarrow.ipc.open_file(content) if is_file else pyarrow.ipc.open_stream(content)
        for row in opened.read_all().to_pylist():
            number += 1
            yield f"{file}, row {number}", row
    except pyarrow.ArrowException as error:
        raise UserError(f"{file}: cannot be read as arrow ({_first_line(error)})") from None


def _jsonl(file: str, columns: Sequence[str] | None) -> Iterator[tuple[str, Row]]:
    for number, row in jsonl.lines(file):
        yield f"{file}, line {number}", row


def _json(file: str, columns: Sequence[str] | None) -> Iterator[tuple[str, Row]]:
    content = reading.text(file)
    try:
        parsed = jsonl.parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):  # one object a line, under this name
            yield from _jsonl(file, columns)
            return
        raise UserError(f"{file}: not JSON ({_first_line(error)})") from None
    if isinstance(parsed, dict):
        parsed = parsed["samples"] if isinstance(parsed.get("samples"), list) else [parsed]
    if not isinstance(parsed, list):
        raise UserError(f"{file}: expected a list of JSON objects")
    for number, row in enumerate(parsed, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{file}, row {number}: expected a JSON object")
        yield f"{file}, row {number}", row


def _cells(delimiter: str) -> Callable[[str, Sequence[str] | None], Iterator[tuple[str, Row]]]:
    """The reader of a table of text."""

    def read(file: str, columns: Sequence[str] | None) -> Iterator[tuple[str, Row]]:
        stream = io.StringIO(reading.text(file).decode("utf-8-sig"), newline="")
        table = csv.DictReader(stream, strict=True, delimiter=delimiter)
        for number, row in enumerate(table, start=1):
            if None in row or None in row.values():
                raise UserError(
                    f"{file}, row {number}: it does not have as many cells as the header"
                )
            yield f"{file}, row {number}", row

    return read


_READERS = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _cells(","),
    ".tsv": _cells("\t"),
}
