"""What the compiler has said is kept, and never wrong: damaged files, several plans at once."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest
from etils import epath

from sar_jax.parallel import compiled
from sar_jax.planning.kept import Kept

KEY, OTHER = "a" * 64, "b" * 64
RECORD = {
    "bytes": 123456789,
    "collectives": {"all-gather": 1.5, "reduce-scatter": 0.1},
    "compile_seconds": 12.25,
    "arguments": 5,
    "temporary": 7,
}


def test_what_was_written_is_read(tmp_path, capsys):
    kept = Kept(tmp_path / "new" / "plans")
    assert kept.read(KEY) is None
    kept.write(KEY, RECORD)
    kept.write(OTHER, {"compiler": "no room: \u00fc \ud800", "compile_seconds": 1.0})
    assert Kept(tmp_path / "new" / "plans").read(KEY) == RECORD
    assert kept.read(OTHER)["compiler"] == "no room: \u00fc \ud800"
    assert len(list(kept.folder.iterdir())) == 2  # nothing half-written is left
    assert not any(capsys.readouterr())


def damages(text: bytes) -> dict[str, bytes]:
    """Of a file: cut off, other figures, other bytes."""
    return {
        "empty": b"",
        "half": text[: len(text) // 2],
        "no end": text[:-3],
        "another figure": text.replace(b"123456789", b"123456780"),
        "a figure more": text.replace(b'"arguments": 5', b'"arguments": 5, "sent": 5'),
        "no digest": json.dumps({"record": RECORD}).encode(),
        "a list": b"[1, 2]",
        "null": b"null",
        "deep": b"[" * 100_000,
        "no text": b"\xff\xfe\x00" + text,
        "a number too long": b'{"record": 1' + b"0" * 5000 + b', "digest": ""}',
    }


@pytest.mark.parametrize("damage", damages(b""))
def test_a_damaged_file_is_made_again_with_one_line(tmp_path, capsys, damage):
    kept = Kept(tmp_path)
    kept.write(KEY, RECORD)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damages(file.read_bytes())[damage])
    assert kept.read(KEY) is None and kept.read(KEY) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and str(file) in line and "made again" in line
    kept.write(KEY, RECORD)
    assert kept.read(KEY) == RECORD


def test_a_file_of_another_program_is_not_taken(tmp_path, capsys):
    kept = Kept(tmp_path)
    kept.write(KEY, RECORD)
    (tmp_path / f"{KEY}.json").rename(tmp_path / f"{OTHER}.json")
    assert kept.read(OTHER) is None and "damaged" in capsys.readouterr().err


def test_what_cannot_be_read_or_written_is_said_once(tmp_path, capsys):
    (tmp_path / "plans").touch()  # a file where the folder should be
    kept = Kept(tmp_path / "plans")
    kept.write(KEY, RECORD)
    kept.write(OTHER, RECORD)
    assert kept.read(KEY) is None
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "not kept" in line] == [lines[0]]
    kept = Kept(tmp_path)
    (tmp_path / f"{KEY}.json").mkdir()
    assert kept.read(KEY) is None and "cannot be read" in capsys.readouterr().err


WRITER = """
import pathlib, sys
from sar_jax.planning.kept import Kept

folder, process, key = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
kept = Kept(folder / "plans")
i = 0
while not (folder / "enough").exists():
    kept.write(key, {"number": 1000 * process + i % 1000, "filler": "x" * 10_000 * process})
    i += 1
"""


def test_plans_at_the_same_time_find_whole_records(tmp_path, capsys):
    """Two processes write one file, again and again, until this one has read many of both."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(process), KEY],
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (1, 2)
    ]
    kept, seen = Kept(tmp_path / "plans"), {1: set(), 2: set()}
    try:
        while min(map(len, seen.values())) < 5 and not any(w.poll() for w in writers):
            found = kept.read(KEY)
            if found:
                process, number = divmod(found["number"], 1000)
                assert found["filler"] == "x" * 10_000 * process
                seen[process].add(number)
    finally:
        (tmp_path / "enough").touch()
        ends = [(writer.communicate()[1], writer.returncode) for writer in writers]
    assert [code for _, code in ends] == [0, 0], ends
    assert not any("warning: " in said for said in (ends[0][0], ends[1][0]))
    assert not capsys.readouterr().err
    assert [file.name for file in kept.folder.iterdir()] == [f"{KEY}.json"]


def test_the_folder_is_that_of_a_run_s_programs(tmp_path, monkeypatch):
    assert Kept.at("off") is None and Kept.at("None") is None
    assert Kept.at(str(tmp_path)).folder == tmp_path / "plans"
    assert Kept.at().folder == pathlib.Path(os.environ["SAR_JAX_TEST_CACHE"]) / "plans"
    assert Kept.at("gs://bucket/x").folder == epath.Path("gs://bucket/x/plans")
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        assert Kept.at().folder == tmp_path / "sar_jax" / "compiled" / "plans"
        jax.config.update("jax_enable_compilation_cache", False)
        assert Kept.at() is None and Kept.at(str(tmp_path)) is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        jax.config.update("jax_compilation_cache_dir", before)


def test_what_a_run_prunes_are_its_own_programs(tmp_path):
    kept = Kept(tmp_path / "plans")
    kept.write(KEY, RECORD)
    compiled.prune(tmp_path, 0)
    assert kept.read(KEY) == RECORD
