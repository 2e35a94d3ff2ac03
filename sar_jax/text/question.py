"""A question with its prompt, which may be made when it is first looked at. No JAX."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from sar_jax.text.tasks.example import Example


@dataclasses.dataclass(frozen=True)
class Question:
    """An example of a task, with its prompt's token ids."""

    example: Example
    prompt: Sequence[int]

    def to_json(self) -> list[Any]:
        return [dataclasses.asdict(self.example), list(self.prompt)]

    @classmethod
    def from_json(cls, value: list[Any]) -> "Question":
        """The question that `to_json` was called of."""
        example, prompt = value
        return cls(Example(**example), prompt)


class Unasked(Question):
    """A question whose prompt is made when it is first looked at."""

    def __init__(self, example: Example, make: Callable[[str], Sequence[int]]):
        """make: the prompt of a question's text."""
        object.__setattr__(self, "example", example)  # frozen, as all questions are
        object.__setattr__(self, "_make", make)

    @functools.cached_property
    def prompt(self) -> Sequence[int]:
        return self._make(self.example.question)
