"""One question with its true answer, a source of them, and when two questions are the same."""

import dataclasses
import datetime
import hashlib
import json
import math
import numbers
import unicodedata
from typing import Any, Protocol, runtime_checkable

KINDS = ("math", "choice", "boolean", "exact", "contains", "json", "regex")


@dataclasses.dataclass(frozen=True)
class Example:
    """A question with its true answer.

    id         of its row
    question   with its options, if there are any
    answer     the final answer alone
    solution   a worked answer for supervised training, or empty
    kind       how an answer is compared: "math" as a number or text; "choice" by one of the letters
               A, B, ...; "boolean" by true or false; others as `answers.named` does
    choices    number of options; 0 where there are none
    place      its file and line, where a user wrote the file; else empty
    extra      the other columns of a user's row, as JSON has them
    """

    id: str
    question: str
    answer: str
    solution: str = ""
    kind: str = "math"
    choices: int = 0
    place: str = dataclasses.field(default="", compare=False)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def row(self) -> dict[str, Any]:
        """As functions of one's own get it: without the answer, which is given to those that may
        see it."""
        own = {"id": self.id, "question": self.question, "kind": self.kind, "choices": self.choices}
        return {**self.extra, **own}


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which fields of a user's rows are read; an empty name is the usual one (`own`).

    A field within another one is named with a point: "reward_model.ground_truth".
    """

    question: str = ""
    answer: str = ""
    kind: str = ""


USUAL = Columns()


@runtime_checkable
class Source(Protocol):
    """Random access, so that it can be shuffled, sharded and resumed exactly."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class RowError(Exception):
    """A fault of one row.

    Who reads the file adds its name and the row's number, and makes it a `UserError`.
    """


def text_of(value: Any) -> str:
    """A value of a row as text. Raises `RowError`, whose words follow the field's name."""
    if not isinstance(value, (str, numbers.Number)) or isinstance(value, bool):
        raise RowError("must be text or a number")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        broken = ascii(text[error.start : error.end])
        raise RowError(
            f"holds {broken}, half a surrogate pair, which is no character: correct or remove it"
        ) from None
    return text


def normalised(question: str) -> str:
    """The question as it is compared: two are the same if these are equal.

    White space, case and Unicode composition do not count. Punctuation does: "2 + 3" and "2 - 3"
    are two questions. So does what NFKC would fold: 5\u00b2 is not 52.
    """
    return " ".join(unicodedata.normalize("NFC", question).split()).casefold()


def digest(question: str) -> str:
    """A hash of the normalised question, in hexadecimal.

    Rows are ordered, drawn and named by it, so that the order of a file does not matter.
    """
    return hashlib.sha256(normalised(question).encode()).hexdigest()


def as_json(value: Any) -> Any:
    """What JSON can hold: dates as text, bytes left out, what is not finite as null."""
    if isinstance(value, dict):
        return {k: as_json(v) for k, v in value.items() if not isinstance(v, bytes)}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return json.loads(json.dumps(value, default=str))
