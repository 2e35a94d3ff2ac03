"""Generated word problems of two steps on two-digit numbers, for models that are trained in
minutes.

Each worked answer computes the same two steps; around them stand zero to five sentences of filler
that say nothing. How much filler there is, and where, is drawn apart from the question: padding and
difficulty are independent, so a reward that shortens answers is not one that picks easier
questions. The number in the last sentence is the answer.

    question   Mia has 47 apples. Mia buys 25 more and then gives away 18. How many apples does Mia have now?
    terse      47 + 25 = 72. 72 - 18 = 54. The answer is 54.
    padded     Let me think about this with care. 47 + 25 = 72. Now I go on to the next part. 72 - 18 = 54. I am sure of
               it. The answer is 54.
"""

import random
import zlib

from sar_jax.text.tasks.example import Example

_NAMES = "Mia Tom Ana Ben Eva Sam Lea Max Ida Leo".split()
_THINGS = "apples books coins cards pens shells stamps eggs".split()

# (question, first operator, second operator): the answer is (a op1 b) op2 c.
_TEMPLATES = (
    (
        "{n} has {a} {t}. {n} buys {b} more and then gives away {c}. How many {t} does {n} have now?",
        "+",
        "-",
    ),
    (
        "{n} had {a} {t}, lost {b} of them and then found {c}. How many {t} does {n} have now?",
        "-",
        "+",
    ),
    (
        "There are {a} {t} in one box and {b} in another. {n} takes out {c}. How many {t} are left?",
        "+",
        "-",
    ),
    (
        "{n} sold {a} {t} on Monday, {b} on Tuesday and {c} on Friday. How many {t} did {n} sell?",
        "+",
        "+",
    ),
    (
        "{n} fills {b} bags with {a} {t} each and has {c} {t} left over. How many {t} does {n} have?",
        "*",
        "+",
    ),
    ("{n} had {a} {t}. {n} gave {b} to a friend and used {c}. How many {t} are left?", "-", "-"),
)

# The places of filler: two before the first step, one between the steps, two before the last
# sentence. The first sentence of a place is the usual one: were all equally likely, the likeliest
# single continuation would be none at all.
_FILLER = (
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
_STYLES = (
    (0.15, 0.1),
    (0.45, 0.6),
    (0.4, 0.9),
)  # (share of answers, chance that a place is filled)

_LARGEST = 79
_TRAIN_SIZE, _TEST_SIZE = 32_768, 2_048
_TEST_SHARE = 16  # one problem in so many belongs to the test split


def _problem(rng: random.Random) -> tuple[str, list[str], int]:
    """A question, its two steps and its answer; all numbers are positive."""
    text, op1, op2 = rng.choice(_TEMPLATES)
    a = rng.randint(10, 39) if op1 == "*" else rng.randint(10, _LARGEST)
    b = rng.randint(2, 5) if op1 == "*" else rng.randint(10, _LARGEST)
    if op1 == "-":
        a, b = max(a, b, min(a, b) + 2), min(a, b)
    middle = {"+": a + b, "-": a - b, "*": a * b}[op1]
    c = rng.randint(1, min(middle - 1, _LARGEST)) if op2 == "-" else rng.randint(10, _LARGEST)
    final = middle + c if op2 == "+" else middle - c
    question = text.format(n=rng.choice(_NAMES), t=rng.choice(_THINGS), a=a, b=b, c=c)
    return question, [f"{a} {op1} {b} = {middle}.", f"{middle} {op2} {c} = {final}."], final


def _worked_answer(rng: random.Random, steps: list[str], final: int) -> str:
    chance = rng.choices([c for _, c in _STYLES], [share for share, _ in _STYLES])[0]
    filler = [
        rng.choices(place, _FILLER_SHARES)[0] if rng.random() < chance else "" for place in _FILLER
    ]
    parts = [
        filler[0],
        filler[1],
        steps[0],
        filler[2],
        steps[1],
        filler[3],
        filler[4],
        f"The answer is {final}.",
    ]
    return " ".join(part for part in parts if part)


class Arithmetic:
    """The split "train" or "test"; no question stands in both. Item i is a pure function of (split,
    i)."""

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
            question, steps, final = _problem(rng)
            if (zlib.crc32(question.encode()) % _TEST_SHARE == 0) == (self.split == "test"):
                break
        return Example(
            f"arithmetic-{self.split}-{index}",
            question,
            str(final),
            _worked_answer(rng, steps, final),
        )
