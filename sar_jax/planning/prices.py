"""List prices of TPUs: a file with its source and date, which a user's own can replace.

    {"currency": "USD", "date": "2026-09-17", "source": "...",
     "prices": {"v6e": {"on-demand": 2.70, "spot": 1.10}}}

Prices are those of a chip-hour. What a run costs besides (disks, the bucket, network) is left out.
"""

import datetime
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from sar_jax.errors import UserError
from sar_jax.parallel import chips

_SHIPPED = pathlib.Path(__file__).parent.parent / "assets" / "prices.json"


class Prices(NamedTuple):
    """of_chips: of a chip-hour, by the chip's name and how its capacity is lent."""

    currency: str
    date: str
    source: str
    of_chips: Mapping[str, Mapping[str, float]]

    def of(self, chip: str, capacity: str) -> float | None:
        """Of a chip-hour; None where it is not known."""
        return self.of_chips.get(chip, {}).get(capacity)

    def capacities(self) -> list[str]:
        """Every way in which any of the chips is lent."""
        return sorted({capacity for prices in self.of_chips.values() for capacity in prices})


def read(path: str | os.PathLike[str] | None = None) -> Prices:
    """The prices of a file; those that come along where none is given.

    Raises `UserError` that names the file and what is wrong with it.
    """
    file = pathlib.Path(path or _SHIPPED)
    try:
        found = json.loads(file.read_text())
    except OSError as error:
        raise UserError(f"--prices: {file}: {error.strerror}") from None
    except ValueError as error:  # not text, or not JSON
        raise UserError(f"--prices: {file} is not JSON: {error}") from None
    try:
        return _checked(found)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"--prices: {file}: {error}. {_SHIPPED} is an example, to be copied and changed"
        ) from None


def _checked(found: object) -> Prices:
    if not isinstance(found, dict):
        raise ValueError("it has to be an object")
    for name in ("currency", "date", "source", "prices"):
        if name not in found:
            raise ValueError(f"{name!r} is missing")
    for name in ("currency", "date", "source"):
        if not isinstance(found[name], str) or not found[name].strip():
            raise ValueError(f"{name!r} has to be a text")
    try:
        datetime.date.fromisoformat(found["date"])
    except ValueError:
        raise ValueError(f"'date' is {found['date']!r}: write it as 2026-09-17") from None
    if not isinstance(found["prices"], dict):
        raise ValueError("'prices' has to be an object, by the name of the chip")
    for chip, capacities in found["prices"].items():
        if chip not in chips.CHIPS:
            raise ValueError(f"{chip!r} is no chip; there are {', '.join(chips.CHIPS)}")
        if not isinstance(capacities, dict):
            raise ValueError(f"the prices of {chip} have to be an object, such as on-demand: 2.70")
        for capacity, price in capacities.items():
            if isinstance(price, bool) or not isinstance(price, int | float):
                raise ValueError(f"{chip}, {capacity}: {price!r} is no number")
            if not 0 <= price < math.inf:
                raise ValueError(f"{chip}, {capacity}: {price} is no price")
    return Prices(found["currency"], found["date"], found["source"], found["prices"])
