"""Data sets: `load(name, split)` gives a random-access source of `Example`s. No JAX in this folder.

gsm8k                    an entry of `TASKS`, from the hub
gsm8k=FOLDER             from a local copy: a folder laid out as the hub's repository, or one
                         file, in the published columns or in our own; parquet, jsonl, json, csv
gsm8k@tfds[=DATA_DIR]    GSM8K from tensorflow_datasets; the same rows, in the same order, as
                         the other ways
numina:5000              the first 5,000 rows in the order of the questions' hashes, which is
                         every task's order
mine.jsonl               a user's own rows, in the file's order: JSONL, JSON, CSV, TSV, Parquet or
                         Arrow, perhaps compressed; a folder of such; both also in a bucket
my.py:rows               what a function of one's own yields (`own_source`)
openai/gsm8k@main#test   any data set of the hub, with its config and split, as own rows
math+numina:5000+gsm8k   a mix: each part capped (by default at 10,000), the same question once
"""

import difflib
import pathlib
import re
from collections.abc import Callable

from sar_jax.errors import UserError
from sar_jax.text import plugins
from sar_jax.text.tasks import (
    aime,
    arithmetic,
    gsm8k,
    gsm_symbolic,
    local,
    logicbench,
    math_lighteval,
    numina,
    own,
    own_source,
    prontoqa,
)
from sar_jax.text.tasks.example import USUAL, Columns, Source
from sar_jax.text.tasks.mix import combine
from sar_jax.text.tasks.published import Published

__all__ = ["Example", "Mix", "Source", "TASKS", "decontaminate", "load"]

MIX_CAP = 10_000  # rows of each part of a mix
_NAME = re.compile(r"(?P<task>[^=@:]+)(?P<tfds>@tfds)?(?:=(?P<copy>.+?))?(?::(?P<cap>\d+))?")
_FUNCTION = re.compile(r"(?P<spec>.+?:[A-Za-z_]\w*(?:\(.*\))?)(?::(?P<cap>\d+))?", re.DOTALL)
_PATH = re.compile(r"(?P<path>.+?)(?::(?P<cap>\d+))?")
_HUB = re.compile(
    r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<config>[\w.-]+))?(?:#(?P<split>\w+(?:\[[^\]]*\])?))?(?::(?P<cap>\d+))?"
)


def load(name: str, split: str, columns: Columns = USUAL) -> Source:
    """The source of one name; a mix prints what it is made of.

    name      as above
    split     "train" or "test"; a file is taken whole
    columns   which fields of a user's own rows are read

    Raises `UserError` for a name, a file or a row that is wrong.
    """
    parts = [name] if pathlib.Path(name).expanduser().exists() else name.split("+")
    if len(parts) == 1:
        return _load(name, split, None, columns)
    mixed = combine([_load(part, split, MIX_CAP, columns) for part in parts])
    sizes = " + ".join(f"{count} {part}" for part, count in zip(parts, mixed.counts))
    print(
        f"{split}: {sizes} = {len(mixed)} questions, {mixed.duplicates} duplicates dropped",
        flush=True,
    )
    return mixed


def functions(name: str) -> list[str]:
    """The functions of one's own that a data source names, without their caps."""
    parts = [name] if pathlib.Path(name).expanduser().exists() else name.split("+")
    found = [match["spec"] for part in parts if (match := _FUNCTION.fullmatch(part))]
    return [spec for spec in found if _is_function(spec)]


def _is_function(spec: str) -> bool:
    """And not a file whose name has a colon, nor a name that is mistyped."""
    return not local.is_named(spec.partition(":")[0]) and plugins.is_there(spec)


def _load(name: str, split: str, cap: int | None, columns: Columns) -> Source:
    match = _NAME.fullmatch(name)
    task = match["task"] if match else re.split("[=@:]", name)[0]
    if task not in TASKS:
        return _own(name, split, cap, columns)
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


def _own(name: str, split: str, cap: int | None, columns: Columns) -> Source:
    """A user's own rows: of a function, a file or a folder, else a data set of the hub."""
    function = _FUNCTION.fullmatch(name)
    if function and _is_function(function["spec"]):
        return own_source.load(function["spec"], split, _cap(name, function["cap"], cap), columns)
    path = _PATH.fullmatch(name)
    if path and (local.is_named(path["path"]) or pathlib.Path(path["path"]).expanduser().exists()):
        return _first(own.load(path["path"], columns, split), _cap(name, path["cap"], cap))
    if at := _HUB.fullmatch(name):
        rows = own.from_hub(at["id"], at["config"], at["split"] or split, columns)
        return _first(rows, _cap(name, at["cap"], cap))
    task, rest = re.fullmatch(r"([^=@:]*)(.*)", name, re.DOTALL).groups()
    near = difflib.get_close_matches(task.lower(), TASKS, n=1, cutoff=0.7)
    hint = f"did you mean {near[0] + rest!r}? Otherwise " if near else ""
    raise UserError(
        f"unknown data source {name!r}: {hint}give one of {', '.join(TASKS)}, a folder, a path "
        f"that ends in {', '.join(local.SUFFIXES)}, or a data set of the hub as "
        "OWNER/NAME@CONFIG#SPLIT"
    )


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
