"""Tokens of an answer that repeat its prompt: what an echo of the question is made of. Pure numpy.

A token is copied where it is in a run of at least `run` tokens that the prompt has too. With a run
of 3:

    prompt   1 2 3 4 5 6
    answer   9 2 3 4 5 7 5 6
    copied   . x x x x . . .

With the question at hand a copy is nearly certain, and without it it is improbable: each of its
tokens gains much from the question, although it answers nothing.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

RUN = 8  # tokens; docs/answer_types.md has what shorter and longer runs find


def copied(
    prompt: Sequence[int], answer: Sequence[int] | np.ndarray, run: int = RUN
) -> Bool[np.ndarray, " A"]:
    """Which of an answer's A tokens are in a run of at least `run` tokens of the prompt."""
    found = np.zeros(len(answer), bool)
    runs = set(_runs(prompt, run))
    for start, tokens in enumerate(_runs(answer, run)):
        if tokens in runs:
            found[start : start + run] = True
    return found


def _runs(ids: Sequence[int] | np.ndarray, run: int) -> list[tuple[int, ...]]:
    """All runs of `run` tokens, in their order."""
    ids = [int(i) for i in ids]
    return list(zip(*(ids[i:] for i in range(run))))


def as_standalone(
    logps: Float[np.ndarray, " A"],
    alone: Float[np.ndarray, " A"],
    is_copied: Bool[np.ndarray, " A"],
) -> Float[np.ndarray, " A"]:
    """The logprobs given the question, with those of the standalone context at copied tokens.

    There v = logps - alone becomes 0, so that a copy neither adds to the self-aligned reward nor
    leaves the mean.
    """
    return np.where(is_copied, alone, logps)
