"""Rows of one's own, in any file: each format gives the same examples, and each fault is named."""

import bz2
import csv
import gzip
import io
import json
import lzma
import pathlib

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.text.answers import truths
from sar_jax.text.tasks.example import Columns
from sar_jax.training import questions

ROWS = [
    {"question": f"A shelf holds {n} books and gets {n + 2} more.\nHow many?", "answer": 2 * n + 2}
    for n in range(1, 6)
]
EXPECTED = [(row["question"], str(row["answer"])) for row in ROWS]


def cells(delimiter: str) -> bytes:
    stream = io.StringIO()
    table = csv.DictWriter(stream, ["question", "answer"], delimiter=delimiter)
    table.writeheader()
    table.writerows(ROWS)
    return stream.getvalue().encode()


def parquet(rows=ROWS) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CONTENTS = {
    "own.jsonl": LINES,
    "own.ndjson": LINES,
    "own.json": json.dumps(ROWS, indent=1).encode(),
    "lines.json": LINES,
    "own.csv": b"\xef\xbb\xbf" + cells(","),
    "own.tsv": cells("\t"),
    "own.parquet": parquet(),
    "own.jsonl.gz": gzip.compress(LINES),
    "own.csv.bz2": bz2.compress(cells(",")),
    "own.json.xz": lzma.compress(json.dumps(ROWS).encode()),
    "compressed.jsonl": gzip.compress(LINES),  # whatever its name says
}


def plain(source) -> list[tuple[str, str]]:
    return [(source[i].question, source[i].answer) for i in range(len(source))]


@pytest.fixture
def place(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(name: str, columns: Columns = Columns()) -> str:  # noqa: B008
    with pytest.raises(UserError) as error:
        tasks.load(name, "train", columns)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same_rows(place, name):
    (place / name).write_bytes(CONTENTS[name])
    assert plain(tasks.load(name, "train")) == EXPECTED
    assert plain(tasks.load(f"{name}:2", "test")) == EXPECTED[:2]


@pytest.mark.parametrize("name", CONTENTS)
def test_a_bucket_is_read_like_a_folder(bucket, name):
    (bucket / f"data/train-{name}").write_bytes(CONTENTS[name])
    assert plain(tasks.load(f"gs://bucket/data/train-{name}", "train")) == EXPECTED
    assert plain(tasks.load("gs://bucket/data", "train")) == EXPECTED
    assert "cannot be read" in fails("gs://bucket/none.jsonl")
    assert "found no file" in fails("gs://bucket/none")


def test_a_folder_is_read_by_its_splits(place):
    (place / "shards").mkdir()
    (place / "shards/train-0.parquet").write_bytes(parquet(ROWS[:2]))
    (place / "shards/train-1.parquet").write_bytes(parquet(ROWS[2:3]))
    (place / "shards/validation-0.parquet").write_bytes(parquet(ROWS[3:]))
    assert plain(tasks.load("shards", "train")) == EXPECTED[:3]
    assert plain(tasks.load("shards", "test")) == EXPECTED[3:]
    (place / "mine").mkdir()
    (place / "mine/rows.jsonl").write_bytes(LINES)
    assert plain(tasks.load("mine", "train")) == plain(tasks.load("mine", "test")) == EXPECTED


def test_what_datasets_saves_is_read(place):
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk("one")
    datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk("two")
    assert plain(tasks.load("one", "train")) == plain(tasks.load("two", "train")) == EXPECTED
    assert plain(tasks.load("two", "test")) == EXPECTED[:1]


def test_a_data_set_of_the_hub_is_asked_for_by_config_and_split(monkeypatch):
    asked = []

    def load_dataset(id, config, split, revision):
        asked.append((id, config, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for name in ("some/rows", "some/rows@main", "some/rows@main#train[:5]", "some/rows#dev:2"):
        assert plain(tasks.load(name, "test"))[:2] == EXPECTED[:2]
    assert asked == [
        ("some/rows", None, "test"),
        ("some/rows", "main", "test"),
        ("some/rows", "main", "train[:5]"),
        ("some/rows", None, "dev"),
    ]


def test_a_home_folder_is_found(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    (place / "own.jsonl").write_bytes(LINES)
    (place / "rows").mkdir()
    (place / "rows/own.parquet").write_bytes(parquet())
    for name in ("~/own.jsonl", "~/own.jsonl:5", "~/rows", "~/own.jsonl+~/rows"):
        assert sorted(plain(tasks.load(name, "train"))) == sorted(EXPECTED)


def write(name: str, *rows) -> str:
    pathlib.Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


USER = {"role": "user", "content": "1 + 1?"}
PARTS = {
    "role": "user",
    "content": [{"type": "text", "text": "1 +"}, {"type": "text", "text": " 1?"}],
}


@pytest.mark.parametrize(
    "row, told",
    [
        ({"prompt": "1 + 1?", "answer": 2}, "'prompt' as the question"),
        ({"problem": "1 + 1?", "answer": 2}, "'problem' as the question"),
        ({"prompt": [USER], "answer": "2"}, "'prompt' as the question"),
        ({"prompt": [PARTS], "answer": "2"}, "'prompt' as the question"),
        ({"question": [USER], "answer": "2"}, ""),
        (
            {"prompt": [{"role": "system", "content": "x"}, USER], "answer": 2},
            "system messages of 1",
        ),
        ({"messages": [USER, {"role": "assistant", "content": "2"}]}, "'messages' as the question"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "1 + 1?"},
                    {"from": "gpt", "value": "2"},
                ]
            },
            "'conversations' as the question",
        ),
        (
            {"prompt": [USER], "reward_model": {"ground_truth": "2"}},
            "'prompt' as the question and 'reward_model.ground_truth' as the answer",
        ),
    ],
)
def test_what_other_trainers_call_a_question_is_read_and_told(place, capsys, row, told):
    (example,) = tasks.load(write("rows.jsonl", row), "train")
    assert (example.question, example.answer, example.kind) == ("1 + 1?", "2", "math")
    out = capsys.readouterr().out
    assert told in out and bool(told) == bool(out)
    path = place / "rows.parquet"
    path.write_bytes(parquet([row]))
    assert plain(tasks.load("rows.parquet", "train")) == [("1 + 1?", "2")]


def test_columns_may_be_named(place, capsys):
    row = {"q": "Is it?\nA) yes\nB) no", "meta": {"gold": "B"}, "type": "choice", "answer": "x"}
    name, columns = write("rows.jsonl", row), Columns("q", "meta.gold", "type")
    (example,) = tasks.load(name, "train", columns)
    assert (example.question, example.answer, example.kind) == (row["q"], "B", "choice")
    assert example.extra == {"meta": {"gold": "B"}, "answer": "x"} and example.place
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "row, columns, words",
    [
        ({"qestion": "q", "answer": 1}, Columns(), "'question' is missing; the row has 'qestion', "
         "'answer': name it with --config.data.question_field=qestion"),
        ({"question": "q", "Answer": 1}, Columns(), "data.answer_field=Answer"),
        ({"question": "q", "meta": {"gold": 1}}, Columns(answer="meta.glod"), "=meta.gold"),
        ({"question": "q", "x": 1}, Columns(), "data.answer_field=NAME"),
        ({"question": "q", "answer": 1}, Columns(kind="sort"), "the field 'sort' is missing"),
        ({"question": "q", "answer": 1, "kind": "maths"}, Columns(), "the kind 'maths' is not"),
        ({"messages": [USER, USER], "answer": 1}, Columns(), "has the turns user, user"),
        ({"messages": [], "answer": 1}, Columns(), "'messages' must be text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}], "answer": 1}, Columns(),
         "something else than text"),
        ({"question": [{"role": ["x"]}], "answer": 1}, Columns(), "has the turns"),
        ({"question": "q", "answer": "\ud83d"}, Columns(), "half a surrogate pair"),
        ({}, Columns(), "'question' is missing"),
    ],
)  # fmt: skip
def test_a_row_without_its_fields_says_what_it_has(place, row, columns, words):
    message = fails(write("rows.jsonl", row), columns)
    assert message.startswith("rows.jsonl, line 1: ") and words in message


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv"])
@pytest.mark.parametrize(
    "encoding, words",
    [
        ("utf-16", "in UTF-16 or UTF-32"),
        ("utf-16-le", "in UTF-16 or UTF-32"),
        ("utf-32", "in UTF-16 or UTF-32"),
        ("cp1251", "it seems to be in "),
    ],
)
def test_other_encodings_are_named_in_every_format_of_text(place, name, encoding, words):
    text = "Сколько книг стоит на полке, если их было три и стало больше?"
    content = {
        ".jsonl": json.dumps({"question": text, "answer": 5}, ensure_ascii=False) + "\n",
        ".json": json.dumps([{"question": text, "answer": 5}], ensure_ascii=False),
        ".csv": f'question,answer\n"{text}",5\n',
        ".tsv": f"question\tanswer\n{text}\t5\n",
    }[pathlib.Path(name).suffix]
    (place / name).write_bytes(content.encode(encoding))
    message = fails(name)
    assert message.startswith(name) and words in message


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("rows.jsonl", gzip.compress(LINES)[:-9], "cannot be decompressed"),
        ("rows.jsonl", b"\x28\xb5\x2f\xfd12", "compressed by zstd"),
        ("rows.arrow", b"nothing", "cannot be read as arrow"),
        ("rows.json", b'[{"question": "q", "answer": NaN}]', "NaN is not JSON"),
        ("rows.json", b'[{"question": "q", "answer": 1e999}]', "too large"),
        ("rows.json", b"[]", "the file has no rows"),
        ("rows.csv", b"question,answer\n", "the file has no rows"),
        ("rows.txt", b"q", "ends in .parquet"),
    ],
)
def test_a_damaged_file_is_named(place, name, content, words):
    (place / name).write_bytes(content)
    message = fails(name)
    assert message.startswith(name) and words in message


def test_a_missing_file_is_named():
    assert fails("a/b.csv") == "a/b.csv: no such file or folder"
    assert "OWNER/NAME@CONFIG#SPLIT" in fails("nothing")


def test_a_question_with_two_answers_is_told(place, capsys):
    rows = [*ROWS, ROWS[0] | {"answer": "4.0"}, ROWS[1] | {"answer": 7}]
    rows[6]["question"] = " " + rows[6]["question"].upper()
    source = tasks.load(write("rows.jsonl", *rows), "train")
    out = capsys.readouterr().out
    assert len(source) == 7 and out.startswith("warning: rows.jsonl: 1 rows ask a question")
    assert "rows.jsonl, line 2 says '6', rows.jsonl, line 7 says '7'" in out
    tasks.load(write("rows.jsonl", *rows[:6]), "train")
    assert not capsys.readouterr().out


def test_other_columns_are_kept_as_json_has_them(place):
    extra = {"level": 3, "tags": ["a", None], "source": {"page": 1.5}, "half": "\ud83d"}
    (example,) = tasks.load(write("rows.jsonl", ROWS[0] | extra | {"id": "x"}), "train")
    assert example.extra == extra and example.id == "x"
    table = pa.table({"question": ["q"], "answer": ["1"], "day": [pa.scalar(0, pa.date32())],
                      "raw": [b"\xff"], "nan": [float("nan")]})  # fmt: skip
    pq.write_table(table, "rows.parquet")
    (example,) = tasks.load("rows.parquet", "train")
    assert json.loads(json.dumps(example.extra, allow_nan=False)) == example.extra
    assert example.extra["day"] == "1970-01-01"


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.parquet"])
@pytest.mark.parametrize("answer", ["I do not know", "NaN", "n/a", "?"])
def test_a_truth_that_states_nothing_is_an_error_in_every_format(place, name, answer):
    rows = [*ROWS[:2], {"question": "Why?", "answer": answer}]
    rows = [row | {"answer": str(row["answer"])} for row in rows]
    if name == "rows.csv":
        with open(name, "w", newline="") as stream:
            table = csv.DictWriter(stream, ["question", "answer"])
            table.writeheader()
            table.writerows(rows)
    else:
        content = parquet(rows) if name == "rows.parquet" else json.dumps(rows).encode()
        (place / name).write_bytes(content)
    source = tasks.load(name, "train")
    assert not truths.states(answer)
    with pytest.raises(UserError, match=f"{name}, row 3: no answer can be equal"):
        questions.stated(source, name, 0.0)
