"""Clock times, which compare as times and not as ratios. No JAX."""

import re
from typing import NamedTuple

_TIME = re.compile(
    r"\W*(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d))?\s*(?P<half>[ap]\.?\s?m\b\.?)?\W*",
    re.IGNORECASE | re.ASCII,
)


class Time(NamedTuple):
    """half: "a" or "p" where it was said, else None."""

    hour: int
    minute: int
    half: str | None


_IN_TEXT = re.compile(
    r"(?<![\d:.])\d{1,2}(?::\d{2}(?![\d:])(?:\s*[ap]\.?m\b\.?)?|\s*[ap]\.?m\b\.?)",
    re.IGNORECASE | re.ASCII,
)


def last(text: str) -> str | None:
    """The last time that a text names, as it is written."""
    found = _IN_TEXT.findall(text)
    return found[-1] if found else None


def time(text: str) -> Time | None:
    """The time that a statement is, "3:30", "15:30", "3:30 p.m." or "3 PM"; else None."""
    found = _TIME.fullmatch(text) if len(text) < 40 else None
    if found is None or not (found["minute"] or found["half"]):
        return None
    half = found["half"] and found["half"][0].lower()
    hour = int(found["hour"])
    if half and not 1 <= hour <= 12:
        return None
    return Time(hour, int(found["minute"] or 0), half)


def same(given: Time, truth: Time) -> bool:
    """Is it the same time?

    A truth that names no half of the day may mean either; an answer without one is read by the
    24-hour clock.
    """
    if given.minute != truth.minute:
        return False
    if truth.half is None:
        return given.hour % 12 == truth.hour % 12 and (
            given.half is not None or given.hour == truth.hour
        )
    hour = truth.hour % 12 + 12 * (truth.half == "p")
    own = given.hour % 24 if given.half is None else given.hour % 12 + 12 * (given.half == "p")
    return own == hour
