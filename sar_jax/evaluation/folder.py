"""The folder that an evaluation writes: it continues there where it stopped.

    settings.json                  whose answers these are: model, decoding, questions of each set
    answers/gsm8k.parquet          every answer with its verdict, once the benchmark is finished;
    answers/gsm8k/000128.parquet   before that, the batch that begins with question 128
    results.json, results.md, accuracy_length.png

Each file is written under another name and moved into place, so what is there is complete.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sar_jax.errors import UserError
from sar_jax.evaluation.records import Answer, Results, Settings
from sar_jax.files import write_atomically

_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("sample", pa.int64()),
        ("id", pa.string()),
        ("question", pa.string()),
        ("truth", pa.string()),
        ("answer", pa.string()),
        ("length", pa.int64()),
        ("clipped", pa.bool_()),
        ("final", pa.string()),
        ("correct", pa.bool_()),
        ("verdict", pa.string()),
    ]
)


def check(folder: pathlib.Path, settings: Settings, old: Settings | None) -> None:
    """Raises `UserError` where the folder holds something that is not of this evaluation.

    settings   of this evaluation; its tasks may be yet to come
    old        what the folder has; None where it has no settings

    That is: answers of another model, of other settings or to other questions, or other files.
    """
    if old is None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder} is not empty, and what it holds is not an evaluation: choose another "
                "--output"
            )
        return
    if old.model.fingerprint != settings.model.fingerprint:
        raise UserError(
            f"{folder} holds the results of a different model ({old.model} there, "
            f"{settings.model} now): choose another --output"
        )
    changes = differences(old.decoding, settings.decoding)
    if changes:
        raise UserError(
            f"{folder} holds results made with different settings ({'; '.join(changes)}): choose "
            "another --output, or use the old settings to continue"
        )
    for label, task in settings.tasks.items():
        there = old.tasks.get(label)
        if there and there.fingerprint != task.fingerprint:
            raise UserError(
                f"{folder} holds answers to different questions of {label} ({there.source} there, "
                f"{task.source} now): choose another --output"
            )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings of the decoding in which two evaluations differ, in words."""
    return [
        f"{name}: {old.get(name)!r} there, {new.get(name)!r} now"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def read_settings(folder: pathlib.Path) -> Settings | None:
    """settings.json; None where there is none. Raises `UserError` where it is damaged."""
    path = folder / "settings.json"
    return _read(path, Settings) if path.is_file() else None


def read_results(folder: pathlib.Path, option: str) -> Results:
    """results.json of a finished evaluation.

    Raises `UserError` that names the `option` which the folder was given to.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(
            f"{option}: {folder} holds no results.json: it is not the --output of a finished "
            "evaluation"
        )
    return _read(path, Results)


def _read(path: pathlib.Path, cls: type) -> Any:
    try:
        return cls.from_json(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    except (AttributeError, KeyError, TypeError):
        names = ", ".join(field.name for field in dataclasses.fields(cls)[:3])
        raise UserError(
            f"{path}: this file was not written by sar_jax.evaluate: it must have {names}"
        ) from None


def claim(folder: pathlib.Path, settings: Settings, old: Settings | None) -> None:
    """Makes the folder these settings'; benchmarks that it holds already stay. See `check`."""
    (folder / "answers").mkdir(parents=True, exist_ok=True)
    tasks = {**(old.tasks if old else {}), **settings.tasks}
    write_json(folder / "settings.json", dataclasses.replace(settings, tasks=tasks).to_json())


def write_json(path: pathlib.Path, value: Any) -> None:
    """Strict JSON: a NaN raises ValueError."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finished(folder: pathlib.Path, label: str) -> pathlib.Path:
    return folder / "answers" / f"{label}.parquet"


def is_finished(folder: pathlib.Path, label: str) -> bool:
    """Are all questions of a benchmark answered?"""
    return _finished(folder, label).is_file()


def read_answers(folder: pathlib.Path, label: str) -> list[Answer]:
    """The answers to a benchmark so far, in the order of questions and samples.

    Raises `UserError` that names a damaged file.
    """
    path = _finished(folder, label)
    files = [path] if path.is_file() else (folder / "answers" / label).glob("[0-9]*.parquet")
    found: dict[tuple[int, int], Answer] = {}
    for file in sorted(files):
        try:
            rows = pq.read_table(file, schema=_SCHEMA).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{file} is damaged ({str(error).splitlines()[0][:200]}): delete it and run the "
                "command again to answer these questions again"
            ) from None
        for row in rows:
            found[row["number"], row["sample"]] = Answer(**row)
    return [found[key] for key in sorted(found)]


def write_batch(folder: pathlib.Path, label: str, answers: Sequence[Answer]) -> None:
    """One batch's answers, of all samples of its questions."""
    part = folder / "answers" / label
    part.mkdir(exist_ok=True)
    _write(part / f"{answers[0].number:06d}.parquet", answers)


def finish(folder: pathlib.Path, label: str) -> None:
    """A benchmark's batches become one file."""
    if not is_finished(folder, label):
        _write(_finished(folder, label), read_answers(folder, label))
    shutil.rmtree(folder / "answers" / label, ignore_errors=True)


def _write(path: pathlib.Path, answers: Sequence[Answer]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    rows = [dataclasses.asdict(answer) for answer in answers]
    try:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
