"""One question with its true answer, a source of them, and when two questions are the same."""

import dataclasses
import hashlib
import unicodedata
from typing import Protocol, runtime_checkable

KINDS = ("math", "choice", "boolean")


@dataclasses.dataclass(frozen=True)
class Example:
    """A question with its true answer.

    id         of its row
    question   with its options, if there are any
    answer     the final answer alone
    solution   a worked answer for supervised training, or empty
    kind       how an answer is compared: "math" as a number or text; "choice" by one of the letters
               A, B, ...; "boolean" by true or false
    choices    number of options; 0 for "math"
    """

    id: str
    question: str
    answer: str
    solution: str = ""
    kind: str = "math"
    choices: int = 0


@runtime_checkable
class Source(Protocol):
    """Random access, so that it can be shuffled, sharded and resumed exactly."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class RowError(Exception):
    """A fault of one row.

    Who reads the file adds its name and the row's number, and makes it a `UserError`.
    """


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
