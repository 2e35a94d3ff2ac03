r"""MATH: competition problems, those whose \boxed{} answer is a number.

From DigitalLearningGmbH/MATH-lighteval. 7,500 to train on and 5,000 to test as published; about
5,600 and 3,742 are numeric (`sar_jax.text.tasks.numeric`).
"""

from sar_jax.text.tasks.example import Example
from sar_jax.text.tasks.numeric import boxed, numeric
from sar_jax.text.tasks.published import Published, Row, solution, text


def example(row: Row) -> Example | None:
    worked = text(row, "solution")
    return _numeric(text(row, "problem"), boxed(worked) or "", worked)


def plain(row: Row) -> Example | None:
    answer = text(row, "answer")
    return _numeric(text(row, "question"), boxed(answer) or answer, solution(row))


def _numeric(question: str, answer: str, worked: str) -> Example | None:
    number = numeric(answer)
    return None if number is None else Example("", question.strip(), number, worked)


SPLITS = {split: split for split in ("train", "test")}
FILES = {split: (f"data/{split}*", f"default/{split}*", f"{split}*") for split in SPLITS}
TASK = Published(
    "math",
    "DigitalLearningGmbH/MATH-lighteval",
    ("problem", "solution"),
    example,
    plain,
    config="default",
    revision="0530c78699ea5e8eb5530600900e1f328b48acad",
    splits=SPLITS,
    files=FILES,
)
