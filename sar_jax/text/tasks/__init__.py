"""Data sets: `load(name, split)` gives a random-access source of `Example`s. No JAX in this folder.

gsm8k                    an entry of `TASKS`, from the hub
gsm8k=FOLDER             from a local copy: a folder laid out as the hub's repository, or one
                         file, in the published columns or in our own; parquet, jsonl, json, csv
gsm8k@tfds[=DATA_DIR]    GSM8K from tensorflow_datasets; the same rows, in the same order, as
                         the other ways
numina:5000              the first 5,000 rows in the order of the questions' hashes, which is
                         every task's order
mine.jsonl               a user's own rows, in the file's order
math+numina:5000+gsm8k   a mix: each part capped (by default at 10,000), the same question once
"""

import pathlib
import re
from collections.abc import Callable

from sar_jax.errors import UserError
from sar_jax.text.tasks import (
    aime,
    arithmetic,
    gsm8k,
    gsm_symbolic,
    jsonl,
    logicbench,
    math_lighteval,
    numina,
    prontoqa,
)
from sar_jax.text.tasks.example import Source
from sar_jax.text.tasks.mix import combine
from sar_jax.text.tasks.published import Published

__all__ = ["Example", "Mix", "Source", "TASKS", "decontaminate", "load"]

MIX_CAP = 10_000  # rows of each part of a mix
_NAME = re.compile(r"(?P<task>[^=@:]+)(?P<tfds>@tfds)?(?:=(?P<copy>.+?))?(?::(?P<cap>\d+))?")
_FILE = re.compile(r"(?P<path>.+\.jsonl?)(?::(?P<cap>\d+))?")


def load(name: str, split: str) -> Source:
    """The source of one name; a mix prints what it is made of.

    name    as above
    split   "train" or "test"; a JSONL file is taken whole

    Raises `UserError` for a name, a file or a row that is wrong.
    """
    parts = [name] if pathlib.Path(name).is_file() else name.split("+")
    if len(parts) == 1:
        return _load(name, split, None)
    mixed = combine([_load(part, split, MIX_CAP) for part in parts])
    sizes = " + ".join(f"{count} {part}" for part, count in zip(parts, mixed.counts))
    print(
        f"{split}: {sizes} = {len(mixed)} questions, {mixed.duplicates} duplicates dropped",
        flush=True,
    )
    return mixed


def _load(name: str, split: str, cap: int | None) -> Source:
    match = _NAME.fullmatch(name)
    task = match["task"] if match else re.split("[=@:]", name)[0]
    if task not in TASKS and (file := _FILE.fullmatch(name)):
        return _first(jsonl.load(file["path"]), _cap(name, file["cap"], cap))
    if task not in TASKS:
        raise UserError(
            f"unknown data source {name!r}: give one of {', '.join(TASKS)}, or a path that ends in "
            ".jsonl"
        )
    if match is None:
        tfds = f", {task}@tfds" if task == "gsm8k" else ""
        raise UserError(
            f"data source {name!r}: give {task}, {task}=FOLDER, {task}:ROWS or {task}=FOLDER:ROWS"
            f"{tfds}"
        )
    make, cap = TASKS[task], _cap(name, match["cap"], cap)
    if isinstance(make, Published):
        return make(split, match["copy"] or "", "tfds" if match["tfds"] else "hub", cap)
    if match["copy"] or match["tfds"]:
        raise UserError(f"{name!r}: {task} is generated and has no copies; give {task}")
    return _first(make(split), cap)


def _cap(name: str, given: str | None, default: int | None) -> int | None:
    if given is not None and int(given) < 1:
        raise UserError(f"data source {name!r}: at least one row is needed")
    return default if given is None else int(given)


def _first(source: Source, cap: int | None) -> Source:
    return source if cap is None or cap >= len(source) else [source[i] for i in range(cap)]


TASKS: dict[str, Callable[..., Source]] = {
    "gsm8k": gsm8k.TASK,
    "math": math_lighteval.TASK,
    "numina": numina.TASK,
    "gsm_symbolic": gsm_symbolic.TASK,
    "aime": aime.TASK,
    "logicbench": logicbench.TASK,
    "prontoqa": prontoqa.TASK,
    "arithmetic": arithmetic.Arithmetic,
}
