"""The folder that an evaluation writes, so that it can go on where it stopped and be compared
later.

    settings.json                 whose answers these are: model, settings of the decoding, questions of each benchmark
    answers/gsm8k.parquet         every answer with its verdict, once the benchmark is finished; before that
    answers/gsm8k/000128.parquet  the batch that begins with question 128
    results.json, results.md, accuracy_length.png

Each file is written under another name and moved into place, so what stands there is complete.
"""

import json
import pathlib
import shutil
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sar_jax.errors import UserError
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


def check(
    folder: pathlib.Path, settings: dict[str, Any], old: dict[str, Any] | None = None
) -> None:
    """Raises `UserError` where the folder holds answers of another model, of other settings or to
    other questions, or something that is no evaluation. `settings` may still lack its "tasks";
    `old`: what the folder has."""
    old = read_settings(folder) if old is None else old
    if not old:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder} is not empty and holds no evaluation: choose another --output"
            )
        return
    if old["model"]["fingerprint"] != settings["model"]["fingerprint"]:
        raise UserError(
            f"{folder} holds results of another model ({_model(old)} there, {_model(settings)} now): choose "
            "another --output"
        )
    changes = differences(old, settings)
    if changes:
        raise UserError(
            f"{folder} holds results with other settings ({'; '.join(changes)}): choose another --output, or "
            "the old settings to go on"
        )
    for label, task in settings.get("tasks", {}).items():
        if label in old["tasks"] and old["tasks"][label]["fingerprint"] != task["fingerprint"]:
            raise UserError(
                f"{folder} holds answers to other questions of {label} ({old['tasks'][label]['source']} there, "
                f"{task['source']} now): choose another --output"
            )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The decoding settings in which two evaluations differ, in words."""
    old, new = old["decoding"], new["decoding"]
    return [
        f"{name}: {old.get(name)!r} there, {new.get(name)!r} now"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]


def _model(settings: dict[str, Any]) -> str:
    model = settings["model"]
    return model["path"] if model["step"] is None else f"step {model['step']} of {model['path']}"


def read_settings(folder: pathlib.Path) -> dict[str, Any]:
    """settings.json, or {} where there is none."""
    path = folder / "settings.json"
    return _read_json(path, ("model", "decoding", "tasks")) if path.is_file() else {}


def read_results(folder: pathlib.Path, option: str) -> dict[str, Any]:
    """results.json of a finished evaluation. Raises `UserError` that names the `option` which the
    folder was given to."""
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(
            f"{option}: {folder} holds no results.json: it is not the --output of an evaluation that has "
            "finished"
        )
    return _read_json(path, ("model", "decoding", "tasks", "averages"))


def _read_json(path: pathlib.Path, fields: tuple[str, ...]) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict) or not all(
        isinstance(found.get(field), dict) for field in fields
    ):
        raise UserError(
            f"{path}: not written by sar_jax.evaluate ({', '.join(fields)} are expected)"
        )
    return found


def claim(folder: pathlib.Path, settings: dict[str, Any], old: dict[str, Any]) -> None:
    """Makes the folder these settings'; benchmarks that it holds already stay. See `check`."""
    (folder / "answers").mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "settings.json",
        {**settings, "tasks": {**old.get("tasks", {}), **settings["tasks"]}},
    )


def write_json(path: pathlib.Path, value: Any) -> None:
    """Strict JSON: a NaN raises ValueError."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finished(folder: pathlib.Path, label: str) -> pathlib.Path:
    return folder / "answers" / f"{label}.parquet"


def is_finished(folder: pathlib.Path, label: str) -> bool:
    return _finished(folder, label).is_file()


def read_answers(folder: pathlib.Path, label: str) -> list[dict[str, Any]]:
    """The answers to a benchmark so far, in the order of questions and samples. Raises
    `UserError`."""
    path = _finished(folder, label)
    files = [path] if path.is_file() else (folder / "answers" / label).glob("[0-9]*.parquet")
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for file in sorted(files):
        try:
            rows = pq.read_table(file, schema=_SCHEMA).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{file} is damaged ({str(error).splitlines()[0][:200]}): remove it, and run the command again "
                "to answer these questions anew"
            ) from None
        found |= {(row["number"], row["sample"]): row for row in rows}
    return [found[key] for key in sorted(found)]


def write_batch(folder: pathlib.Path, label: str, answers: list[dict[str, Any]]) -> None:
    """One batch's answers, of all samples of its questions."""
    part = folder / "answers" / label
    part.mkdir(exist_ok=True)
    _write(part / f"{answers[0]['number']:06d}.parquet", answers)


def finish(folder: pathlib.Path, label: str) -> None:
    """A benchmark's batches become one file."""
    if not is_finished(folder, label):
        _write(_finished(folder, label), read_answers(folder, label))
    shutil.rmtree(folder / "answers" / label, ignore_errors=True)


def _write(path: pathlib.Path, answers: list[dict[str, Any]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(pa.Table.from_pylist(answers, _SCHEMA), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
