"""A user's own rows, of any file or data set.

question   as it is put to the model: text, or chat messages with one turn of the user
answer     the final answer, or a worked answer that ends in one (as GSM8K's "#### 72"):
           `sar_jax.text.answers.judge` extracts it
solution   optional: a worked answer for supervised training
id         optional
kind       optional: "math"; or "choice", where the question's last lines list the options
           (A) ..., B) ...) and the answer is a letter; or "boolean", where it is true or false

Other fields are kept with the question. The fields may have other names (`Columns`); what is usual
for other trainers is found without: see `_USUAL`.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text.answers import judge
from sar_jax.text.tasks import hub, local, options
from sar_jax.text.tasks.example import USUAL, Columns, Example, RowError, as_json, digest, text_of

Row = Mapping[str, Any]
# the first of these that the first row has
_USUAL = {
    "question": ("question", "prompt", "problem", "messages", "conversations"),
    "answer": ("answer", "reward_model.ground_truth", "ground_truth"),
    "kind": ("kind",),
}
_MISSING = object()
_SPLITS = {"train": ("train",), "test": ("test", "validation", "valid", "val", "dev", "eval")}


def load(path: str, columns: Columns = USUAL, split: str = "train") -> list[Example]:
    """The rows of a file, or of a folder's files of this split, as examples.

    Of a folder without files named after a split all are read. Raises `UserError` with file and
    row.
    """
    names = [f"{folder}{name}{end}" for name in _SPLITS[split]
             for folder, end in (("", "*"), ("data/", "*"), ("", "/*"))]  # fmt: skip
    return examples(path, local.rows(path, [*names, "*", "data/*"]), columns)


def from_hub(id: str, config: str | None, split: str, columns: Columns) -> list[Example]:
    """The rows of a data set of the hub. Raises `UserError`."""
    try:
        return examples(id, hub.rows(id, config, split, None, None), columns)
    except hub.Unavailable as error:
        raise UserError(
            f"{id}: the data set could not be fetched ({error}). Give it as "
            "OWNER/NAME@CONFIG#SPLIT, or without a network a file or a folder of it"
        ) from None


def examples(name: str, rows: Iterable[tuple[str, Row]], columns: Columns) -> list[Example]:
    """The rows as examples; an id that is missing becomes the row's number.

    name   of the source, for messages
    rows   (where, row)
    """
    found: list[Example] = []
    fields: Columns | None = None
    systems = 0
    for where, row in rows:
        if fields is None:
            fields = _fields(row, columns)
            _tell(name, fields, columns)
        try:
            systems += _has_system(_value(row, fields.question))
            found.append(_example(row, fields, where, str(len(found))))
        except RowError as error:
            raise UserError(f"{where}: {error}") from None
    if not found:
        raise UserError(f"{name}: the file has no rows")
    if systems:
        print(f"{name}: the system messages of {systems} rows are left out: the run's is "
              "config.prompt.system", flush=True)  # fmt: skip
    _tell_conflicts(name, found)
    return found


def _fields(row: Row, columns: Columns) -> Columns:
    """The names of the fields that are read: those that are given, else the usual ones."""
    found = {}
    for field, usual in _USUAL.items():
        there = [name for name in usual if _value(row, name) is not _MISSING]
        found[field] = getattr(columns, field) or (there[0] if there else usual[0])
    return Columns(**found)


def _tell(name: str, fields: Columns, columns: Columns) -> None:
    others = [
        f"{getattr(fields, field)!r} as the {field}"
        for field in _USUAL
        if getattr(fields, field) != field and not getattr(columns, field)
    ]
    if others:
        print(f"{name}: read {' and '.join(others)}", flush=True)


def _value(row: Row, name: str) -> Any:
    """A field, "a.b" within another one; `_MISSING` where there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _example(row: Row, fields: Columns, where: str, number: str) -> Example:
    asked, worked = _asked(row, fields)
    answer = _value(row, fields.answer)
    if answer is _MISSING and worked:
        answer = worked
    question = _text(row, "question", fields.question, asked)
    answer = _text(row, "answer", fields.answer, answer)
    optional = {
        field: "" if row.get(field) is None else _text(row, field, field, row[field], False)
        for field in ("solution", "id")
    }
    kind = _value(row, fields.kind)
    if kind is _MISSING and fields.kind != "kind":
        raise _missing(row, "kind", fields.kind)
    used = {fields.question, fields.answer, fields.kind, "solution", "id"}
    extra = {key: as_json(value) for key, value in row.items() if key not in used}
    id, solution = optional["id"] or number, optional["solution"] or str(worked)
    example = Example(id, question, answer, solution, place=where, extra=extra)
    # an empty cell of a table is no kind
    return options.of_kind(example, "math" if kind is _MISSING or not kind else kind)


def _text(row: Row, field: str, name: str, value: Any, is_required: bool = True) -> str:
    """A field as text. Raises `RowError`."""
    if value is _MISSING:
        raise _missing(row, field, name)
    try:
        # an id may be anything, such as another database's {"$oid": ...}
        found = text_of(str(value) if field == "id" else value)
    except RowError as error:
        raise RowError(f"the field {name!r} {error}") from None
    if is_required and not found.strip():
        raise RowError(f"the field {name!r} is empty")
    return found


def _missing(row: Row, field: str, name: str) -> RowError:
    """Names the fields that are there, and the nearest."""
    there = [str(key) for key in row]
    there += [f"{key}.{k}" for key, value in row.items() if isinstance(value, Mapping)
              for k in value]  # fmt: skip
    if not there:
        return RowError(f"the field {name!r} is missing")
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"--config.data.{field}_field={near[0] if near else 'NAME'}"
    shown = ", ".join(repr(key)[:40] for key in there[:12])
    return RowError(f"the field {name!r} is missing; the row has {shown}: name it with {hint}")


def _messages(value: Any) -> list[Row] | None:
    """Chat messages, with "role" and "content" or, as ShareGPT has them, "from" and "value"."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    if not all(isinstance(message, Mapping) for message in value):
        return None
    roles = {"human": "user", "gpt": "assistant"}
    found = []
    for message in value:
        role = str(message.get("role", message.get("from")))
        content = _content(message.get("content", message.get("value")))
        found.append({"role": roles.get(role, role), "content": content})
    return found


def _content(content: Any) -> Any:
    """The text of a message, which may be a list of parts."""
    is_parts = isinstance(content, Sequence) and not isinstance(content, str)
    if not is_parts or not all(isinstance(part, Mapping) for part in content):
        return content
    if any(part.get("type", "text") != "text" for part in content):
        raise RowError("a message holds something else than text, which is not supported")
    return "".join(str(part.get("text") or "") for part in content)


def _has_system(value: Any) -> bool:
    return any(message["role"] == "system" for message in _messages(value) or [])


def _asked(row: Row, fields: Columns) -> tuple[Any, str]:
    """The question, and the answer that follows it in its chat messages, if there is one."""
    value = _value(row, fields.question)
    messages = _messages(value)
    if messages is None:
        return value, ""
    turns = [message for message in messages if message["role"] != "system"]
    roles = [str(message["role"]) for message in turns]
    if roles not in (["user"], ["user", "assistant"]):
        raise RowError(
            f"the field {fields.question!r} has the turns {', '.join(roles) or 'of none'}: a "
            "question is one turn of the user, perhaps with its answer"
        )
    return turns[0]["content"], turns[1]["content"] if len(turns) > 1 else ""


def _tell_conflicts(name: str, found: Sequence[Example]) -> None:
    """Warns of questions that come with two answers: no policy can be right both times."""
    first: dict[str, Example] = {}
    conflicts = []
    for example in found:
        other = first.setdefault(digest(example.question), example)
        if other is not example and _final(other) != _final(example):
            conflicts.append((other, example))
    if conflicts:
        a, b = conflicts[0]
        print(
            f"warning: {name}: {len(conflicts)} rows ask a question that comes before with another "
            f"answer; {a.place} says {a.answer[-40:]!r}, {b.place} says {b.answer[-40:]!r}",
            flush=True,
        )


def _final(example: Example) -> str:
    final = judge.final(example.answer, example.kind, example.choices)
    return final or " ".join(example.answer.split())
