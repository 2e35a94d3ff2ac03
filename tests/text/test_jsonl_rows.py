"""Rows of one's own that are no rows: each is one line with file and place."""

import json
import os

import pytest

from sar_jax.errors import UserError
from sar_jax.text.tasks import own

GOOD = {"question": "Why?", "answer": "12"}


def error_of(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        own.load(str(path))
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    "line, words",
    [
        (b'{"question": "half \\ud83d", "answer": "1"}', "the field 'question' holds '\\ud83d'"),
        (b'{"question": "Why?", "answer": "\\udc00"}', "the field 'answer' holds '\\udc00'"),
        (b'{"question": "Why?", "answer": "1", "solution": "\\ud83d"}', "the field 'solution'"),
        (b'{"question": "Why?", "answer": "1", "id": "\\ud83d"}', "the field 'id' holds"),
        (b'{"question": "Why \xff?", "answer": "1"}', "not UTF-8 text ("),
        (b'{"question": "Why?", "answer": 1e999}', "not JSON (the number 1e999 is too large)"),
        (b'{"question": "Why?", "answer": NaN}', "not JSON (NaN is not JSON)"),
        (b'{"question": "Why?", "answer": ' + b"1" * 5000 + b"}", "not JSON ("),
        (b'{"question": "Why?", "answer": true}', "'answer' must be text or a number"),
        (b'{"question": ["Why?"], "answer": "1"}', "'question' must be text or a number"),
        (b'{"question": "Why?", "answer": "1", "solution": {}}', "'solution' must be text or a"),
        (b'{"question": "Why?", "answer": "1", "kind": ["math"]}', "the kind ['math'] is not"),
        (b'{"question": "Why?\x00", "answer": "1"}', "not JSON ("),
        (b"[" * 100_000, "not JSON ("),
        (b'["Why?", "1"]', "expected a JSON object"),
        (b'"Why?"', "expected a JSON object"),
        (b'\xef\xbb\xbf{"question": "Why?", "answer": "1"}', "not JSON ("),  # within the file
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, words):
    content = json.dumps(GOOD).encode() + b"\n" + line
    assert error_of(tmp_path / "rows.jsonl", content).startswith(", line 2: ")
    assert words in error_of(tmp_path / "rows.jsonl", content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(tmp_path, encoding):
    content = (json.dumps(GOOD) + "\n").encode(encoding)
    assert error_of(tmp_path / "rows.jsonl", content).startswith(
        ": the file is in UTF-16 or UTF-32"
    )


def test_a_byte_order_mark_of_utf_8_and_lines_of_windows_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{json.dumps(GOOD)}\r\n\r\n{json.dumps(GOOD)}\r\n".encode())
    assert [(row.question, row.answer) for row in own.load(str(path))] == [("Why?", "12")] * 2


def test_an_id_may_be_anything(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD | {"id": {"$oid": "5f"}}))
    assert own.load(str(path))[0].id == "{'$oid': '5f'}"


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "fifo.jsonl")  # whose end never comes
    for path, words in (
        (tmp_path / "fifo.jsonl", "is no regular file"),
        (tmp_path, "found no file"),
        (tmp_path / "nowhere.jsonl", "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            own.load(str(path))
