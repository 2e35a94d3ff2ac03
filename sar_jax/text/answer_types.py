"""Answers of several kinds to the same question, made of its worked solution. No JAX.

    concise          the solution's steps, without what says nothing, and "The answer is N."
    redundant        the same with a sentence that says nothing around every step
    without_thought  "The answer is N." alone
    partly_right     the first half of the steps, then a wrong answer
    wrong            concise, with another number of as many digits in place of each number
    off_topic        the concise answer to another question
    echo             the question
    restated         the question, then the concise answer

The first six are those whose reward the paper compares (Han et al., arXiv 2509.05489; it names them
only in part), the last two are ways to be paid for the question's own words. The same seed and row
give the same answers. Rows without a worked solution of two steps with numbers, or whose answer is
no number, are left out.

The steps are the solution's lines, or its sentences where it is one line. "#### N" and a last step
that says "answer" are not among them, and neither is a step without a digit.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sar_jax.text.answers import judge
from sar_jax.text.tasks.arithmetic import FILLER
from sar_jax.text.tasks.example import Example, Source

_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MARKS = re.compile(r"<<[^<>\n]*>>")  # of GSM8K's calculator


class Worked(NamedTuple):
    """A row whose solution has steps. joint: what is between two of them."""

    example: Example
    steps: Sequence[str]
    joint: str

    def text(self, steps: Sequence[str], answer: str) -> str:
        return self.joint.join([*steps, f"The answer is {answer}."])

    @property
    def concise(self) -> str:
        return self.text(self.steps, self.example.answer)


class Made(NamedTuple):
    """The answers, all kinds of one question after the other, and how many rows gave none.

    rows   dicts with id, kind, question, answer, truth and correct, which the judge decides
    """

    rows: list[dict[str, Any]]
    left_out: int


def worked(example: Example) -> Worked | None:
    """The steps of an example's solution; None where it has fewer than two, or no number."""
    solution = _MARKS.sub("", example.solution).partition("####")[0].strip()
    joint = "\n" if "\n" in solution else " "
    pieces = solution.split("\n") if joint == "\n" else _SENTENCES.split(solution)
    if pieces and "answer" in pieces[-1].lower():
        pieces = pieces[:-1]
    steps = [piece.strip() for piece in pieces if any(c.isdigit() for c in piece)]
    is_usable = len(steps) >= 2 and _NUMBER.search(example.answer)
    return Worked(example, steps, joint) if is_usable else None


def make(source: Source, seed: int = 0, count: int | None = None) -> Made:
    """The answers to the first `count` examples of a source; to all by default."""
    examples = [source[i] for i in range(len(source) if count is None else min(count, len(source)))]
    usable = [found for found in map(worked, examples) if found]
    rows = []
    for place, row in enumerate(usable):
        others = [other for other in usable if other.example.answer != row.example.answer]
        if not others:
            continue
        rng = random.Random(f"{seed}/{place}/{row.example.question}")
        for kind, make_one in KINDS.items():
            rows.append(_row(kind, row.example, make_one(row, rng, others)))
    return Made(rows, len(examples) - len(rows) // len(KINDS))


def _row(kind: str, example: Example, text: str) -> dict[str, Any]:
    return {
        "id": f"{example.id} {kind}",
        "kind": kind,
        "question": example.question,
        "answer": text,
        "truth": example.answer,
        "correct": judge.verify(text, example.answer),
    }


def other_numbers(text: str, changed: dict[str, str], rng: random.Random) -> str:
    """The text with another number, of as many digits, in place of each.

    changed   what has been drawn for each number, without its commas; more is added
    """

    def drawn(match: re.Match[str]) -> str:
        digits = match[0].replace(",", "")
        while changed.get(digits, digits) == digits:
            changed[digits] = _drawn(digits, rng)
        rest = iter(changed[digits])
        return "".join("," if c == "," else next(rest) for c in match[0])

    return _NUMBER.sub(drawn, text)


def _drawn(digits: str, rng: random.Random) -> str:
    """Another digit for each; no number but 0.5 and the like begins with 0."""
    first = "0" if digits[0] == "0" and len(digits) > 1 else str(rng.randrange(1, 10))
    return first + "".join(str(rng.randrange(10)) if c != "." else c for c in digits[1:])


def _concise(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    return row.concise


def _redundant(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    before, between, after = FILLER[:2], FILLER[2], FILLER[3:]
    parts = [rng.choice(place) for place in before]
    for number, step in enumerate(row.steps):
        parts += [rng.choice(between)] if number else []
        parts.append(step)
    parts += [rng.choice(place) for place in after]
    return row.text(parts, row.example.answer)


def _without_thought(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    return row.text([], row.example.answer)


def _partly_right(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    return row.text(row.steps[: len(row.steps) // 2], other_numbers(row.example.answer, {}, rng))


def _wrong(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    changed: dict[str, str] = {}
    steps = [other_numbers(step, changed, rng) for step in row.steps]
    return row.text(steps, other_numbers(row.example.answer, changed, rng))


def _off_topic(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    return rng.choice(others).concise


def _echo(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    return row.example.question


def _restated(row: Worked, rng: random.Random, others: Sequence[Worked]) -> str:
    return f"{row.example.question}{row.joint}{row.concise}"


KINDS: Mapping[str, Callable[[Worked, random.Random, Sequence[Worked]], str]] = {
    "concise": _concise,
    "redundant": _redundant,
    "without_thought": _without_thought,
    "partly_right": _partly_right,
    "wrong": _wrong,
    "off_topic": _off_topic,
    "echo": _echo,
    "restated": _restated,
}
