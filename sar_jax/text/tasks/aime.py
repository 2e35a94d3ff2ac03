"""AIME 1983-2024: 933 problems to test generalisation, with answers from 0 to 999.

From the American Invitational Mathematics Examination.
"""

import re

from sar_jax.text.tasks.example import Example
from sar_jax.text.tasks.published import Published, Row, solution, text

_WHOLE = re.compile(r"(\d+)(?:\.0+)?")  # 080 and, where a table made it a float, 80.0


def example(row: Row) -> Example:
    return _made(text(row, "Question"), text(row, "Answer"), "")


def plain(row: Row) -> Example:
    return _made(text(row, "question"), text(row, "answer"), solution(row))


def _made(question: str, answer: str, worked: str) -> Example:
    answer = answer.strip()
    if whole := _WHOLE.fullmatch(answer):
        answer = str(int(whole.group(1)))
    return Example("", question.strip(), answer, worked)


TASK = Published(
    "aime",
    "di-zhang-fdu/AIME_1983_2024",
    ("Question", "Answer"),
    example,
    plain,
    splits={"test": "train"},
    files={"test": ("AIME*", "**/AIME*", "data/train*", "train*", "test*")},
)
