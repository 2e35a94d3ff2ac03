"""Sums of digits, with worked answers to start from: some terse, some padded."""

import random

PADDING = ("Let me think. ", "I take one digit after the other. ", "", "")


def rows(split):
    """2,000 questions to train on and 200 others to test."""
    for i in range(2000 if split == "train" else 200):
        draw = random.Random(i if split == "train" else -1 - i)
        number = draw.randint(100, 9999)
        digits = " + ".join(str(number))
        total = sum(map(int, str(number)))
        yield {
            "question": f"What is the sum of the digits of {number}?",
            "answer": str(total),
            "solution": f"{draw.choice(PADDING)}{digits} = {total}. The answer is {total}.",
        }
