"""Data sets: `load(name, split)` gives a random-access source of `Example`s. No JAX in this folder.

A name is an entry of `TASKS`, or the path of a user's own JSONL file.
"""

from collections.abc import Callable

from sar_jax.errors import UserError
from sar_jax.tasks import arithmetic, jsonl
from sar_jax.tasks.example import Example, Source

__all__ = ["Example", "Source", "TASKS", "load"]


def load(name: str, split: str) -> Source:
    """The source called `name`; `split` is "train" or "test" (a JSONL file is taken whole). Raises `UserError`."""
    if name.endswith((".jsonl", ".json")):
        return jsonl.load(name)
    if name not in TASKS:
        raise UserError(f"unknown data source {name!r}: give one of {', '.join(TASKS)}, or a path that ends in .jsonl")
    return TASKS[name](split)


TASKS: dict[str, Callable[[str], Source]] = {
    "arithmetic": arithmetic.Arithmetic,
}
