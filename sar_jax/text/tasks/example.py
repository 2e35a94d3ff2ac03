"""One question with its true answer, what a source of them is, and when two questions count as the
same one."""

import dataclasses
import hashlib
import unicodedata
from typing import Protocol, runtime_checkable

KINDS = ("math", "choice", "boolean")


@dataclasses.dataclass(frozen=True)
class Example:
    """`answer`: the final answer alone. `solution`: a worked answer for supervised training, or
    empty.

    `kind` says how an answer is compared: "math" as a number or text; "choice" by one of the
    `choices` letters A, B, ...; "boolean" by true or false. The question text itself lists the
    options."""

    id: str
    question: str
    answer: str
    solution: str = ""
    kind: str = "math"
    choices: int = 0  # number of options; 0 for "math"


@runtime_checkable
class Source(Protocol):
    """Random access, so that it can be shuffled, sharded and resumed exactly."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class RowError(Exception):
    """A fault of one row; who reads the file adds its name and the row's number, and makes it a
    `UserError`."""


def normalised(question: str) -> str:
    """Two questions are the same if these are equal: white space, case and Unicode composition do
    not count.

    Punctuation does: "2 + 3" and "2 - 3" are two questions. So does what NFKC would fold: 5\u00b2
    is not 52."""
    return " ".join(unicodedata.normalize("NFC", question).split()).casefold()


def digest(question: str) -> str:
    """A hash of the normalised question: rows are ordered, drawn and named by it, so that file
    order does not matter."""
    return hashlib.sha256(normalised(question).encode()).hexdigest()
