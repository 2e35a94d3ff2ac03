"""Published data sets: the same rows whichever way they are read, in the same order, through the
filters of the protocol.

Real rows are read where SAR_JAX_TEST_DATA names a folder of them."""

import dataclasses
import functools
import gzip
import os
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.data import real
from support.published import EXPECTED, FLAT, PLACES, ROWS, exam, gsm, olympiad, repository, write

from sar_jax.text import tasks
from sar_jax.text.answers import judge
from sar_jax.text.tasks import local
from sar_jax.text.tasks.example import digest

# The same rows whichever way


@pytest.mark.parametrize("name", ROWS)
def test_the_filters_keep_and_drop_what_they_should(expected, name):
    found = expected[name]
    assert {(e.question, e.answer) for e in found} == EXPECTED[name] and len(found) == len(
        EXPECTED[name]
    )
    kind = {"logicbench": "choice", "prontoqa": "boolean"}.get(name, "math")
    assert all(e.kind == kind and bool(e.choices) == (kind != "math") for e in found)
    assert [e.id for e in found] == [f"{name}-{digest(e.question)[:12]}" for e in found]
    assert [digest(e.question) for e in found] == sorted(digest(e.question) for e in found)


def test_each_option_has_its_letter_and_true_and_false_are_two(expected):
    # the option without text is none
    assert sorted(e.choices for e in expected["logicbench"]) == [
        3,
        4,
    ]
    assert {e.choices for e in expected["prontoqa"]} == {2}


def test_worked_answers_lose_the_calculators_marks_and_verify(expected):
    for example in expected["gsm8k"] + expected["gsm_symbolic"] + expected["math"]:
        assert "<<" not in example.solution and judge.verify(example.solution, example.answer), (
            example
        )
    assert expected["gsm8k"][0].solution == "4*300=1200 cows\n#### 1,200"


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("suffix", [".parquet", ".json", ".csv"])
def test_every_format_gives_the_same_rows(tmp_path, expected, name, suffix):
    if suffix == ".csv" and name not in FLAT:
        pytest.skip("lists and objects have no published CSV")
    path = write(tmp_path / f"mine{suffix}", ROWS[name])
    assert tasks.load(f"{name}={path}", "test") == expected[name]


def test_of_parquet_the_columns_that_are_asked_for_are_read(tmp_path):
    table = pa.table({"question": ["a"], "image": [b"x" * 99], "answer": ["1"]})
    pq.write_table(table, tmp_path / "train.parquet")
    ((where, row),) = local.rows(str(tmp_path), ["train"], ["answer", "question", "level"])
    assert row == {"answer": "1", "question": "a"} and where.endswith("train.parquet, row 1")
    ((_, row),) = local.rows(str(tmp_path), ["train"])
    assert set(row) == {"question", "image", "answer"}


@pytest.mark.parametrize("name", ROWS)
def test_a_copy_of_the_repository_gives_the_same_rows(tmp_path, expected, name):
    assert tasks.load(f"{name}={repository(tmp_path, name)}", "test") == expected[name]


@pytest.mark.parametrize("name", ROWS)
def test_the_hub_gives_the_same_rows(tmp_path, monkeypatch, expected, name):
    """The library's own code, on a repository that lies in a folder."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder, task = repository(tmp_path / "repository", name), tasks.TASKS[name]
    if task.nested:  # a snapshot in the hub's cache
        commit = "0" * 40
        stored = tmp_path / "hub" / f"datasets--{task.id.replace('/', '--')}"
        (stored / "refs").mkdir(parents=True)
        (stored / "refs/main").write_text(commit)
        (stored / "snapshots").mkdir()
        folder.rename(stored / "snapshots" / commit)
        monkeypatch.setattr(
            huggingface_hub,
            "snapshot_download",
            functools.partial(
                huggingface_hub.snapshot_download, cache_dir=tmp_path / "hub", local_files_only=True
            ),
        )
        chosen = huggingface_hub.utils.filter_repo_objects(PLACES[name], allow_patterns=task.nested)
        assert list(chosen) == [PLACES[name][0]]
    else:
        monkeypatch.setitem(
            tasks.TASKS, name, dataclasses.replace(task, id=str(folder), revision=None)
        )
    assert tasks.load(name, "test") == expected[name]


def test_tensorflow_datasets_gives_the_same_rows(tmp_path, monkeypatch, expected):
    tfds = pytest.importorskip("tensorflow_datasets")
    path = write(tmp_path / "rows.jsonl", ROWS["gsm8k"])
    monkeypatch.setattr(
        tfds.download.DownloadManager,
        "download_and_extract",
        lambda self, urls: dict.fromkeys(urls, path),
    )
    assert tasks.load(f"gsm8k@tfds={tmp_path / 'prepared'}", "test") == expected["gsm8k"]
    path.unlink()  # prepared: nothing is fetched again
    assert tasks.load(f"gsm8k@tfds={tmp_path / 'prepared'}:1", "train") == expected["gsm8k"][:1]
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ROWS)
def test_our_own_columns_give_the_same_rows(tmp_path, expected, name):
    rows = [
        {"id": "x", "question": e.question, "answer": e.answer, "solution": e.solution}
        for e in expected[name]
    ]
    assert tasks.load(f"{name}={write(tmp_path / 'mine.jsonl', rows)}", "test") == expected[name]


def test_our_own_columns_are_filtered_too(tmp_path):
    rows = [
        {"question": q, "answer": a}
        for q, a in (("Root?", r"\sqrt{2}"), ("Sum?", "5"), ("Boxed?", r"is \boxed{7}"))
    ]
    path = write(tmp_path / "mine.jsonl", rows)
    assert {e.answer for e in tasks.load(f"math={path}", "test")} == {"5", "7"}


@pytest.mark.parametrize(
    "name, row, answer",
    [
        ("gsm8k", gsm("q", "#### is a mark\nso 3", "4"), "4"),
        ("numina", olympiad("q", r"\boxed{3}"), "3"),
        ("aime", exam(1, "q", "033"), "33"),
        ("aime", exam(1, "q", 80.0), "80"),
        ("aime", exam(1, "q", "$7$"), "$7$"),
    ],
)
def test_an_answer_may_be_written_in_several_ways(tmp_path, name, row, answer):
    assert [
        e.answer for e in tasks.load(f"{name}={write(tmp_path / 'a.parquet', [row])}", "test")
    ] == [answer]


# Order, ids, caps, splits


def test_order_and_ids_are_fixed(expected):
    """On every machine, for ever: runs and tables of results name rows by them."""
    assert [e.id for e in expected["gsm8k"]] == ["gsm8k-1519449a1216", "gsm8k-ccf0025bf4c2"]


def test_order_depends_on_no_file_order_and_no_hash_seed(tmp_path, expected):
    rows = [gsm(f"What is {i} + 1?", "We add.", i + 1) for i in range(40)]
    first = tasks.load(f"gsm8k={write(tmp_path / 'a.jsonl', rows)}", "test")
    shuffled = random.Random(0).sample(rows, len(rows))
    for i, part in enumerate((shuffled[:7], shuffled[7:])):
        write(tmp_path / f"shards/main/test-{i:05d}-of-00002.parquet", part)
    assert tasks.load(f"gsm8k={tmp_path / 'shards'}", "test") == first and len(first) == 40
    assert [e.answer for e in first] != sorted((e.answer for e in first), key=int)
    code = (
        "import sys; from sar_jax.text import tasks\n"
        "print([e.id for e in tasks.load(sys.argv[1], 'test')])"
    )
    for seed in "12":
        done = subprocess.run(
            [sys.executable, "-c", code, f"gsm8k={tmp_path / 'a.jsonl'}"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert done.stdout.strip() == str([e.id for e in first])


def test_a_question_that_comes_again_is_kept_and_numbered(tmp_path):
    rows = [gsm("How many?", "a", 1), gsm("how  many?", "b", 2), gsm("How many?", "c", 1)]
    found = tasks.load(f"gsm8k={write(tmp_path / 'a.jsonl', rows)}", "test")
    assert [e.id.removeprefix(found[0].id) for e in found] == ["", "-2", "-3"]
    assert tasks.load(f"gsm8k={write(tmp_path / 'b.jsonl', rows[::-1])}", "test") == found


def test_a_cap_takes_the_first_rows(tmp_path, expected):
    path = write(tmp_path / "a.jsonl", ROWS["gsm8k"])
    assert tasks.load(f"gsm8k={path}:1", "test") == expected["gsm8k"][:1]
    assert tasks.load(f"gsm8k={path}:99", "test") == expected["gsm8k"]
    assert [
        e.id for e in tasks.load(f"{write(tmp_path / 'b.jsonl', ROWS['gsm8k'])}:1", "train")
    ] == ["0"]
    few = tasks.load("arithmetic:3", "train")
    assert list(few) == [tasks.load("arithmetic", "train")[i] for i in range(3)]


def test_train_and_test_are_read_from_their_own_files(tmp_path):
    for split in ("train", "test"):
        write(
            tmp_path / f"main/{split}-00000-of-00001.parquet", [gsm(f"A {split} question?", "x", 1)]
        )
    for split in ("train", "test"):
        assert [e.question for e in tasks.load(f"gsm8k={tmp_path}", split)] == [
            f"A {split} question?"
        ]


def test_numina_is_divided_by_the_question_and_capped(tmp_path, monkeypatch):
    monkeypatch.undo()
    task = tasks.TASKS["numina"]
    assert task.caps == {"train": 10_000, "test": 2_742} and 0.2 < task.test_share < 0.23
    rows = [olympiad(f"What is {i} squared?", str(i * i)) for i in range(900)]
    path = write(tmp_path / "a.parquet", rows)
    train, test = (tasks.load(f"numina={path}", split) for split in ("train", "test"))
    assert len(train) + len(test) == 900 and 130 < len(test) < 260
    assert not {e.question for e in train} & {e.question for e in test}
    fewer = write(tmp_path / "b.parquet", rows[::3])  # membership does not depend on the other rows
    assert set(tasks.load(f"numina={fewer}", "test")) <= set(test)
    small = dataclasses.replace(task, caps={"train": 20, "test": 5})
    assert (small("train", str(path)), small("test", str(path))) == (train[:20], test[:5])
    assert small("train", str(path), cap=30) == train[:30]


# Real rows


@pytest.mark.parametrize("split, count", [("train", 7473), ("test", 1319)])
def test_real_gsm8k(tmp_path, split, count):
    own = tasks.load(f"gsm8k={real('gsm8k')}", split)
    raw = next(path for path in real("gsm8k", "raw").iterdir() if path.name.startswith(split))
    unpacked = tmp_path / f"{split}.jsonl"
    unpacked.write_bytes(
        gzip.decompress(raw.read_bytes()) if raw.suffix == ".gz" else raw.read_bytes()
    )
    assert tasks.load(f"gsm8k={tmp_path}", split) == own and len(own) == count
    assert len({e.id for e in own}) == count and all(
        e.question.strip() and e.kind == "math" for e in own
    )
    assert all(
        judge.number(e.answer) is not None and judge.verify(e.solution, e.answer) for e in own
    )


@pytest.mark.parametrize(
    "name, raw, own",
    [
        ("logicbench", "logicbench_eval/raw", "logicbench_eval/mcqa.jsonl"),
        ("prontoqa", "prontoqa/raw/dev.json", "prontoqa/test.jsonl"),
    ],
)
def test_real_logic_sets(name, raw, own):
    found = tasks.load(f"{name}={real(raw)}", "test")
    assert tasks.load(f"{name}={real(own)}", "test") == found
    assert len(found) == 500 == len({e.id for e in found}) and all(
        e.question.strip() for e in found
    )
    for example in found:
        if example.kind == "choice":
            lines = example.question.split("\n")[-example.choices :]
            assert [line[:3] for line in lines] == [
                f"{letter}) " for letter in "ABCDEFG"[: example.choices]
            ]
            assert example.answer in "ABCDEFG"[: example.choices] and all(
                line[3:].strip() for line in lines
            )
        else:
            assert (
                example.kind == "boolean"
                and example.choices == 2
                and example.answer in ("true", "false")
            )
    assert len({e.answer for e in found}) == (4 if name == "logicbench" else 2)
