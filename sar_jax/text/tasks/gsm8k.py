"""GSM8K: grade-school word problems, 7,473 to train on and 1,319 to test (openai/gsm8k, main).

An answer is worked out, with a calculator's marks (<<3*2=6>>), which are taken out, and ends in
"#### 6".
"""

import re

from sar_jax.text.answers import judge
from sar_jax.text.tasks.example import Example, RowError
from sar_jax.text.tasks.published import Published, Row, solution, text

_MARKS = re.compile(r"<<[^<>]*>>")


def example(row: Row) -> Example:
    """Of a published row, or of one whose answer is the number alone, with an optional solution."""
    worked = text(row, "answer")
    before, mark, final = worked.rpartition("####")
    if not mark:
        final, worked = worked, solution(row)
    final = final.replace(",", "").strip()
    if judge.number(final) is None:
        raise RowError("the answer does not end in '#### ' and a number")
    return Example("", text(row, "question").strip(), final, _MARKS.sub("", worked).strip())


SPLITS = {split: split for split in ("train", "test")}
FILES = {split: (f"main/{split}*", f"data/{split}*", f"{split}*") for split in SPLITS}
TASK = Published(
    "gsm8k",
    "openai/gsm8k",
    ("question", "answer"),
    example,
    plain=example,
    config="main",
    revision="740312add88f781978c0658806c59bc2815b9866",
    splits=SPLITS,
    files=FILES,
    tfds=True,
)
