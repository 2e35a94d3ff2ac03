"""One question with its true answer, and what a source of them is."""

import dataclasses
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Example:
    """`answer`: the final answer alone. `solution`: a worked answer for supervised training, or empty."""
    id: str
    question: str
    answer: str
    solution: str = ""


class Source(Protocol):
    """Random access, so that it can be shuffled, sharded and resumed exactly."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...
