"""Several sources as one, without duplicates; and train rows without those of an evaluation set.

Questions are compared by `example.normalised`. Left out: near duplicates (a changed number makes
another problem).
"""

import dataclasses
from collections.abc import Iterable, Sequence

from sar_jax.text.tasks.example import Example, Source, digest, normalised


@dataclasses.dataclass(frozen=True)
class Mix:
    """A source made of several.

    counts       rows of each part after its cap
    duplicates   how many of these were dropped
    """

    examples: Sequence[Example]
    counts: tuple[int, ...]
    duplicates: int

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def combine(parts: Sequence[Source]) -> Mix:
    """All rows in the order of their questions' hashes.

    So any first part is a fair sample of the whole. Of rows with the same question the first one of
    the part that is named first stays.
    """
    kept: dict[str, Example] = {}
    for part in parts:
        for index in range(len(part)):
            kept.setdefault(digest(part[index].question), part[index])
    counts = tuple(len(part) for part in parts)
    return Mix([kept[key] for key in sorted(kept)], counts, sum(counts) - len(kept))


def decontaminate(train: Source, evaluation: Iterable[Source]) -> tuple[list[Example], int]:
    """The train rows whose question is in no evaluation set, in order; how many were taken out."""
    held = {normalised(source[i].question) for source in evaluation for i in range(len(source))}
    kept = [train[i] for i in range(len(train)) if normalised(train[i].question) not in held]
    return kept, len(train) - len(kept)
