"""Answers that are brought to be scored: files of several kinds, and what is wrong with them."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sar_jax.errors import UserError
from sar_jax.text.tasks import given

ROWS = [
    {"question": "1 + 1?", "answer": "2", "id": "a"},
    {"question": "q", "answer": "b", "id": "c"},
]


def write(file, rows):
    pq.write_table(pa.Table.from_pylist(rows), file)
    return str(file)


def test_a_file_and_a_folder_give_their_rows(tmp_path):
    assert given.read(write(tmp_path / "b.parquet", ROWS)) == ROWS
    write(tmp_path / "a.parquet", ROWS[1:])
    (tmp_path / "notes.txt").write_text("x")
    assert given.read(str(tmp_path)) == [ROWS[1], *ROWS]
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"question": "q", "answer": "b", "id": "c"}\n')
    assert given.read(str(lines)) == ROWS[1:]


def test_values_become_what_json_can_hold(tmp_path):
    row = ROWS[0] | {
        "x": float("nan"),
        "raw": b"\xff",
        "day": datetime.date(2020, 1, 2),
        "n": [1.5],
    }
    (found,) = given.read(write(tmp_path / "a.parquet", [row | {"deep": {"raw": b"", "y": 1}}]))
    expected = ROWS[0] | {"x": None, "day": "2020-01-02", "n": [1.5], "deep": {"y": 1}}
    assert found == expected


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"question": "q", "reply": "r"}], "there is no column 'answer', only question, reply"),
        (
            [*ROWS, {"question": "q", "answer": " ", "id": "d"}],
            "row 3: the field 'answer' is empty",
        ),
        ([{"question": "q", "answer": 5}], "row 1: the field 'answer' is empty or no text"),
        ([{"question": None, "answer": "x"}], "row 1: the field 'question' is empty or no text"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(tmp_path, rows, message):
    with pytest.raises(UserError, match=message) as raised:
        given.read(write(tmp_path / "a.parquet", rows))
    assert str(tmp_path / "a.parquet") in str(raised.value)


def test_what_is_no_file_of_rows_is_one_line(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="bad.parquet: not a parquet file"):
        given.read(str(tmp_path / "bad.parquet"))
    with pytest.raises(UserError, match="none.parquet: no such file"):
        given.read(str(tmp_path / "none.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: the folder has no .parquet file"):
        given.read(str(tmp_path / "empty"))
    empty = pa.table({"question": pa.array([], pa.string()), "answer": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "none.parquet")
    with pytest.raises(UserError, match="the file has no rows"):
        given.read(str(tmp_path / "none.parquet"))
