"""ProntoQA: is a statement about invented creatures true? Out of domain.

500 questions of five deductions each.
"""

from sar_jax.text.tasks import options
from sar_jax.text.tasks.example import Example, RowError
from sar_jax.text.tasks.published import Published, Row, text

_LETTERS = {"A": "true", "B": "false"}


def example(row: Row) -> Example:
    answer = text(row, "answer").strip()
    if answer not in _LETTERS:
        raise RowError(f"the answer {answer!r} is neither A (true) nor B (false)")
    stem = f"{text(row, 'context').strip()}\n\n{text(row, 'question').strip()}"
    return options.boolean(stem, _LETTERS[answer])


def plain(row: Row) -> Example:
    return options.of_kind(Example("", text(row, "question"), text(row, "answer")), "boolean")


PATTERNS = ("validation*", "dev*", "*ProntoQA_dev*", "data/validation*", "**/dev*", "test*")
TASK = Published(
    "prontoqa",
    "renma/ProntoQA",
    ("context", "question", "answer"),
    example,
    plain,
    splits={"test": "validation"},
    files={"test": PATTERNS},
)
