"""Rows of published data sets: from the hub by `datasets`, or GSM8K by `tensorflow_datasets`.

Needs a network once; later runs use those libraries' caches. The libraries are imported inside the
functions: `datasets` takes seconds and brings pandas, `tensorflow_datasets` is an extra, and
generated or local data need neither.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sar_jax.errors import UserError

Row = dict[str, Any]


class Unavailable(Exception):
    """Why a data set could not be fetched, in a line."""


def rows(
    id: str,
    config: str | None,
    split: str,
    revision: str | None,
    columns: Sequence[str] | None,
) -> Iterator[tuple[str, Row]]:
    """(where, row) of one split of a repository.

    config     of the data set, None for its only one
    revision   of the repository, None for the latest
    columns    to read, of those that there are; None for all

    Raises `Unavailable`.
    """
    import datasets

    try:
        table = datasets.load_dataset(id, config, split=split, revision=revision)
    except Exception as error:
        # the library, its HTTP client and its file system each raise types of their own
        raise Unavailable(_reason(error)) from error
    if columns is not None:
        table = table.select_columns([c for c in columns if c in table.column_names])
    for number, row in enumerate(table, start=1):
        yield f"{id}, {split}, row {number}", row


def folder(id: str, revision: str | None, pattern: str) -> str:
    """A local folder with those files of the repository that match. Raises `Unavailable`.

    For data sets that are no table: `datasets` refuses files whose objects differ in a nested
    field.
    """
    import huggingface_hub

    try:
        return huggingface_hub.snapshot_download(
            id, repo_type="dataset", revision=revision, allow_patterns=pattern
        )
    except Exception as error:  # as above
        raise Unavailable(_reason(error)) from error


def tfds_gsm8k(split: str, data_dir: str) -> Iterator[tuple[str, Row]]:
    """(where, row) of GSM8K prepared by `tensorflow_datasets`, as array records.

    data_dir   where it is or will be prepared; empty for the library's default

    Array records need no TensorFlow. Raises `UserError` without the library, `Unavailable` where it
    cannot fetch the data.
    """
    try:
        # The builder itself, not its name: without TensorFlow the library's registry may miss it.
        from tensorflow_datasets.text.gsm8k import gsm8k
    except ImportError as error:
        raise UserError(
            f"gsm8k@tfds needs tensorflow_datasets ({error}): pip install 'sar_jax[tfds]'"
        ) from None
    try:
        builder = gsm8k.Gsm8k(data_dir=data_dir or None, file_format="array_record")
        builder.download_and_prepare()
        source = builder.as_data_source(split=split)
    except Exception as error:  # as above
        raise Unavailable(_reason(error)) from error
    for index in range(len(source)):
        row = {name: value.decode() for name, value in source[index].items()}
        yield f"tfds gsm8k, {split}, row {index + 1}", row


def _reason(error: Exception) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
