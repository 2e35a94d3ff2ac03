"""NuminaMath 1.5 with verified generations: 10,000 to train on, 2,742 to test.

From open-r1/OpenR1-Math-220k, default. Kept are word problems with a numeric answer and at least
one generation that math-verify found right. The set is published as one split. The question's hash
divides it, so that no question is in both parts, and draws the rows of each.
"""

from sar_jax.text.tasks import math_lighteval
from sar_jax.text.tasks.example import Example, RowError
from sar_jax.text.tasks.numeric import boxed, numeric
from sar_jax.text.tasks.published import Published, Row, solution, text

_TRAIN, _TEST = 10_000, 2_742


def example(row: Row) -> Example | None:
    verified = row["correctness_math_verify"]
    if verified is not None and not isinstance(verified, list):
        raise RowError("the column 'correctness_math_verify' must be a list")
    if row["question_type"] != "math-word-problem" or not any(verified or ()):
        return None
    # some are empty there: not numeric, so left out, and no fault of the copy
    answer = str(row["answer"] or "")
    number = numeric(boxed(answer) or answer)
    if number is None:
        return None
    return Example("", text(row, "problem").strip(), number, solution(row))


TASK = Published(
    "numina",
    "open-r1/OpenR1-Math-220k",
    ("problem", "answer", "question_type", "correctness_math_verify"),
    example,
    plain=math_lighteval.plain,
    config="default",
    revision="e4e141ec9dea9f8326f4d347be56105859b2bd68",
    splits={"train": "train", "test": "train"},
    caps={"train": _TRAIN, "test": _TEST},
    files={split: ("data/train*", "default/train*", "train*") for split in ("train", "test")},
    test_share=_TEST / (_TRAIN + _TEST),
)
