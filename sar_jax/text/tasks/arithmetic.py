"""Generated word problems of two steps on two-digit numbers, for models trained in minutes.

Each worked answer computes the same two steps, between zero to five sentences of filler that say
nothing. How much filler there is, and where, is drawn apart from the question: padding and
difficulty are independent, so a reward that shortens answers is not one that picks easier
questions. The number in the last sentence is the answer.

    question   Mia has 47 apples. Mia buys 25 more and then gives away 18. How many apples does Mia
               have now?
    terse      47 + 25 = 72. 72 - 18 = 54. The answer is 54.
    padded     Let me think about this with care. 47 + 25 = 72. Now I go on to the next part.
               72 - 18 = 54. I am sure of it now. The answer is 54.
"""

import random
import zlib
from typing import NamedTuple

from sar_jax.text.tasks.example import Example

_NAMES = "Mia Tom Ana Ben Eva Sam Lea Max Ida Leo".split()
_THINGS = "apples books coins cards pens shells stamps eggs".split()


class _Template(NamedTuple):
    """A question with the places n, t, a, b and c, whose answer is (a first b) second c."""

    first: str
    second: str
    question: str


class _Problem(NamedTuple):
    """A question, its two steps and its answer; all numbers are positive."""

    question: str
    steps: tuple[str, str]
    answer: int


class _Style(NamedTuple):
    """share: of answers; chance: that a place is filled."""

    share: float
    chance: float


_TEMPLATES = (
    _Template(
        "+",
        "-",
        "{n} has {a} {t}. {n} buys {b} more and then gives away {c}. "
        "How many {t} does {n} have now?",
    ),
    _Template(
        "-",
        "+",
        "{n} had {a} {t}, lost {b} of them and then found {c}. How many {t} does {n} have now?",
    ),
    _Template(
        "+",
        "-",
        "There are {a} {t} in one box and {b} in another. {n} takes out {c}. "
        "How many {t} are left?",
    ),
    _Template(
        "+",
        "+",
        "{n} sold {a} {t} on Monday, {b} on Tuesday and {c} on Friday. How many {t} did {n} sell?",
    ),
    _Template(
        "*",
        "+",
        "{n} fills {b} bags with {a} {t} each and has {c} {t} left over. "
        "How many {t} does {n} have?",
    ),
    _Template(
        "-",
        "-",
        "{n} had {a} {t}. {n} gave {b} to a friend and used {c}. How many {t} are left?",
    ),
)

# The places of filler: two before the first step, one between the steps, two before the last
# sentence. The first sentence of a place is the usual one: if all were equally likely, the
# likeliest single continuation would be none at all.
FILLER = (
    (
        "Let me think about this with care.",
        "This is a question about numbers.",
        "I will read it once more.",
    ),
    (
        "I can do this one part at a time.",
        "First I look at the first part.",
        "We need to find out how many there are.",
    ),
    (
        "Now I go on to the next part.",
        "That was the first part of it.",
        "So far this looks good to me.",
    ),
    (
        "Let me look at that again to be sure.",
        "I do not see any mistake here.",
        "This looks right to me.",
    ),
    (
        "I am sure of it now.",
        "So we are done with all of the parts.",
        "That is all there is to do.",
    ),
)
_FILLER_SHARES = (0.8, 0.1, 0.1)
_STYLES = (_Style(0.15, 0.1), _Style(0.45, 0.6), _Style(0.4, 0.9))

_LARGEST = 79
_TRAIN_SIZE, _TEST_SIZE = 32_768, 2_048
_TEST_SHARE = 16  # one problem in this many belongs to the test split


def _problem(rng: random.Random) -> _Problem:
    first, second, text = rng.choice(_TEMPLATES)
    a = rng.randint(10, 39) if first == "*" else rng.randint(10, _LARGEST)
    b = rng.randint(2, 5) if first == "*" else rng.randint(10, _LARGEST)
    if first == "-":
        a, b = max(a, b, min(a, b) + 2), min(a, b)
    middle = {"+": a + b, "-": a - b, "*": a * b}[first]
    if second == "-":
        c = rng.randint(1, min(middle - 1, _LARGEST))
    else:
        c = rng.randint(10, _LARGEST)
    final = middle + c if second == "+" else middle - c
    question = text.format(n=rng.choice(_NAMES), t=rng.choice(_THINGS), a=a, b=b, c=c)
    steps = (f"{a} {first} {b} = {middle}.", f"{middle} {second} {c} = {final}.")
    return _Problem(question, steps, final)


def _worked_answer(rng: random.Random, problem: _Problem) -> str:
    chances, weights = [s.chance for s in _STYLES], [s.share for s in _STYLES]
    chance = rng.choices(chances, weights)[0]
    fill = lambda place: rng.choices(place, _FILLER_SHARES)[0] if rng.random() < chance else ""
    filler = [fill(place) for place in FILLER]
    first, second = problem.steps
    last = f"The answer is {problem.answer}."
    parts = [*filler[:2], first, filler[2], second, *filler[3:], last]
    return " ".join(part for part in parts if part)


class Arithmetic:
    """The problems of one split, "train" or "test"; no question is in both.

    Item i is a pure function of the split and i.
    """

    def __init__(self, split: str):
        self.split = split

    def __len__(self) -> int:
        return _TRAIN_SIZE if self.split == "train" else _TEST_SIZE

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = random.Random(f"arithmetic/{self.split}/{index}")
        # draws until a question of this split comes; the hash decides, so the splits are disjoint
        while True:
            problem = _problem(rng)
            is_test = zlib.crc32(problem.question.encode()) % _TEST_SHARE == 0
            if is_test == (self.split == "test"):
                break
        name, worked = f"arithmetic-{self.split}-{index}", _worked_answer(rng, problem)
        return Example(name, problem.question, str(problem.answer), worked)
