"""A published data set: where it is, which rows count, and the same examples however it is read.

    hub | tensorflow_datasets | local copy
        -> rows
        -> example(row), None if a filter drops it
        -> order, id
        -> cap

The order is by a hash of the question, and so are the ids: the same for every copy, format and
machine, and any first part of it is a fair sample, where published files run by subject, year or
rule. A row that is faulty raises; one that a filter of the data set's protocol leaves out does not.
Left out: streaming (the largest set has 94 thousand rows).
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text.tasks import hub, local
from sar_jax.text.tasks.example import Example, RowError, digest, text_of

Row = Mapping[str, Any]
_PLAIN = ("question", "answer")


@dataclasses.dataclass(frozen=True)
class Published:
    """A data set of the hub.

    name         in `--config.data.train` and `--tasks`
    id           of the repository on the hub
    columns      that a published row must have
    example      of a published row, without an id; None to leave the row out, `RowError` for a
                 faulty one
    plain        the same of a row with our own columns "question" and "answer"
    splits       "train" and "test", or "test" alone -> the published split
    files        the same -> patterns of a local folder's files, without suffix
    config       of the data set, None for its only one
    revision     of the repository, None for the latest
    nested       pattern of the repository's files, if they are no table
    tfds         can `tensorflow_datasets` read it?
    caps         split -> rows that are kept, unless more or fewer are asked for
    test_share   of a published split that is divided: by hash, so no question is in both
    """

    name: str
    id: str
    columns: tuple[str, ...]
    example: Callable[[Row], Example | None]
    plain: Callable[[Row], Example | None]
    splits: Mapping[str, str]
    files: Mapping[str, tuple[str, ...]]
    config: str | None = None
    revision: str | None = None
    nested: str = ""
    tfds: bool = False
    caps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    test_share: float = 0.0

    def __call__(
        self, split: str, copy: str = "", via: str = "hub", cap: int | None = None
    ) -> list[Example]:
        """The examples of one split.

        split   "train" or "test"
        copy    a local file or folder; empty for the hub
        via     "hub" or "tfds"; with the latter, `copy` is where that library keeps it
        cap     examples, at most; None for the data set's own number

        Raises `UserError` for a split that there is not, a faulty row, and data that cannot be had.
        """
        if split not in self.splits:
            raise UserError(f"{self.name} has no {split} split: it is only for evaluation")
        made = (self._example(where, row) for where, row in self._rows(split, copy, via))
        found = _ordered(self.name, [example for example in made if example is not None])
        if self.test_share:
            is_test = lambda example: _share(example.question) < self.test_share
            found = [example for example in found if is_test(example) == (split == "test")]
        if not found:
            raise UserError(
                f"{self.name}: no row of {copy or self.id} is left for {split} after the filters"
            )
        return found[: self.caps.get(split) if cap is None else cap]

    def _rows(self, split: str, copy: str, via: str) -> Iterator[tuple[str, Row]]:
        columns = tuple(dict.fromkeys((*self.columns, *_PLAIN, "solution")))
        if via == "tfds" and not self.tfds:
            raise UserError(
                f"{self.name}@tfds: tensorflow_datasets is used for gsm8k only; give {self.name}"
            )
        try:
            if via == "tfds":
                yield from hub.tfds_gsm8k(self.splits[split], copy)
            elif copy:
                yield from local.rows(copy, self.files[split], columns)
            elif self.nested:
                folder = hub.folder(self.id, self.revision, self.nested)
                yield from local.rows(folder, self.files[split], columns)
            else:
                yield from hub.rows(
                    self.id, self.config, self.splits[split], self.revision, columns
                )
        except hub.Unavailable as error:
            at = f" --revision {self.revision}" if self.revision else ""
            given = self.name + ("@tfds" if via == "tfds" else "")
            raise UserError(
                f"{self.name}: {self.id} could not be fetched ({error}). On a machine with a "
                f"network run `hf download {self.id} --repo-type dataset{at} --local-dir FOLDER`, "
                f"copy FOLDER here and give {self.name}=FOLDER instead of {given}"
            ) from None

    def _example(self, where: str, row: Row) -> Example | None:
        own = any(column not in row for column in self.columns)
        if own and any(column not in row for column in _PLAIN):
            missing = [column for column in self.columns if column not in row]
            raise UserError(
                f"{where}: no column {', '.join(map(repr, missing))}; {self.name} is published "
                f"with the columns {', '.join(self.columns)}; your own rows need "
                f"{' and '.join(_PLAIN)}"
            )
        try:
            return self.plain(row) if own else self.example(row)
        except RowError as error:
            raise UserError(f"{where}: {error}; correct the row or remove it") from None


def text(row: Row, column: str) -> str:
    """A column that has to hold text or a number. Raises `RowError`."""
    value = row.get(column)
    # an empty cell may have become NaN
    if value is None or value != value:
        raise RowError(f"the column {column!r} is empty")
    try:
        found = text_of(value)
    except RowError as error:
        raise RowError(f"the column {column!r} {error}") from None
    if not found.strip():
        raise RowError(f"the column {column!r} is empty")
    return found


def solution(row: Row) -> str:
    """The optional column "solution"."""
    value = row.get("solution")
    if value is None or value != value:
        return ""
    try:
        return text_of(value)
    except RowError as error:
        raise RowError(f"the column 'solution' {error}") from None


def _share(question: str) -> float:
    """A number in [0, 1) that the question alone decides."""
    return int(digest(question)[:8], 16) / 16**8


def _ordered(name: str, found: list[Example]) -> list[Example]:
    """By hash; the id is its beginning, and a question that comes again is numbered."""
    seen: Counter[str] = Counter()
    ordered = []
    hashed = [(digest(example.question), example) for example in found]
    for key, example in sorted(hashed, key=lambda pair: (pair[0], dataclasses.astuple(pair[1]))):
        key = key[:12]
        seen[key] += 1
        again = f"-{seen[key]}" if seen[key] > 1 else ""
        ordered.append(dataclasses.replace(example, id=f"{name}-{key}{again}"))
    return ordered
