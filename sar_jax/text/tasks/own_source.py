"""Rows from a function of one's own: `my.py:rows` as a data source (docs/plugins.md).

    def rows(split):                        # "train" or "test"; the parameter may be left out
        for i in range(1000):
            yield {"question": f"What is {i} + {i}?", "answer": str(2 * i)}

A row is a dict, with the columns of any other row (`own`).
"""

import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text import plugins
from sar_jax.text.tasks import own
from sar_jax.text.tasks.example import Columns, Example

_SECONDS = 1800.0  # for all rows
_MOST = 2_000_000  # rows; a function that yields for ever needs a cap


def load(name: str, split: str, cap: int | None, columns: Columns) -> list[Example]:
    """The rows that a function yields, at most `cap` of them.

    name   FILE.py:NAME, as it is given
    split  "train" or "test"

    Raises `UserError` that names the function, and the number of a row that is faulty.
    """
    where = f"data source {name!r}"
    plugin = plugins.load(plugins.parse(name, where), where)
    params = {**_split(plugin.value, split), **plugin.spec.params}
    rows: list[tuple[str, Any]] = []
    read = lambda: _read(name, rows, plugin.value(**params), cap)
    plugins.limited(read, _SECONDS, where, plugin.file)
    return own.examples(name, _checked(rows, where), columns)


def _split(function: Any, split: str) -> dict[str, str]:
    """The parameter named `split`, where the function has one."""
    try:
        return {"split": split} if "split" in inspect.signature(function).parameters else {}
    except (TypeError, ValueError):  # of a callable that Python cannot look into
        return {}


def _read(name: str, rows: list[tuple[str, Any]], found: Any, cap: int | None) -> None:
    """Consumes what the function gave."""
    if found is None or isinstance(found, (str, bytes, Mapping)):
        raise UserError(f"data source {name!r} gave {found!r:.60}: it must yield rows, each a dict")
    for number, row in enumerate(itertools.islice(found, cap or _MOST + 1), start=1):
        rows.append((f"{name}, row {number}", row))
    if len(rows) > _MOST:
        raise UserError(
            f"data source {name!r} yields more than {_MOST} rows: say how many are wanted, "
            f"{name}:ROWS"
        )


def _checked(rows: list[tuple[str, Any]], where: str) -> Iterator[tuple[str, own.Row]]:
    if not rows:
        raise UserError(f"{where} yields no rows")
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise UserError(f"{place}: {row!r:.60} is no row: a row is a dict with a question")
        yield place, row
