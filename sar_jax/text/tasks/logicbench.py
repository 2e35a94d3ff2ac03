"""LogicBench(Eval), multiple choice: which conclusion follows? Out of domain.

500 questions on 25 rules of logic, published as one JSON object for each rule, with its questions
under "samples"; choices are choice_1, choice_2, ...
"""

import re

from sar_jax.text.tasks import options
from sar_jax.text.tasks.example import Example, RowError
from sar_jax.text.tasks.published import Published, Row, text


def example(row: Row) -> Example:
    choices = row["choices"]
    is_named = lambda: all(re.fullmatch(r"choice_\d+", key) for key in choices)
    if not isinstance(choices, dict) or not is_named():
        raise RowError("the column 'choices' must be an object of choice_1, choice_2, ...")
    stem = f"{text(row, 'context').strip()}\n\n{text(row, 'question').strip()}"
    ordered = sorted(choices.items(), key=lambda item: int(item[0].removeprefix("choice_")))
    return options.choice(stem, ordered, text(row, "answer").strip())


def plain(row: Row) -> Example:
    return options.of_kind(Example("", text(row, "question"), text(row, "answer")), "choice")


TASK = Published(
    "logicbench",
    "cogint/LogicBench-v1.0",
    ("context", "question", "choices", "answer"),
    example,
    plain,
    splits={"test": "test"},
    nested="*LogicBench(Eval)/MCQA/*",
    files={"test": ("**/LogicBench(Eval)/MCQA/**/*", "**/MCQA/**/*", "**/mcqa*", "**/*")},
)
