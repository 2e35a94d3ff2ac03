"""What is wrong with a data set is named: rows, files, names, networks."""

import json
import re
import sys

import pytest
from support.commands import modules_after
from support.published import ROWS, competition, deduction, exam, gsm, olympiad, syllogism, write

from sar_jax.errors import UserError
from sar_jax.text import tasks


def fails(name: str, split: str = "test") -> str:
    with pytest.raises(UserError) as error:
        tasks.load(name, split)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name, row, fault",
    [
        ("gsm8k", {"question": "q"}, "no column 'answer'"),
        ("gsm8k", {"question": "q", "answer": ""}, "'answer' is empty"),
        ("gsm8k", {"question": "q", "answer": None}, "'answer' is empty"),
        ("gsm8k", {"question": " ", "answer": "a #### 2"}, "'question' is empty"),
        (
            "gsm8k",
            {"question": "q", "answer": "It is two."},
            "does not end in '#### ' and a number",
        ),
        (
            "gsm8k",
            {"question": "q", "answer": "It is 2 ####"},
            "does not end in '#### ' and a number",
        ),
        ("gsm8k", {"question": "q", "answer": ["2"]}, "'answer' must be text or a number"),
        ("math", {"problem": "p", "level": "1"}, "no column 'solution'"),
        ("math", {"problem": "p", "solution": ""}, "'solution' is empty"),
        ("math", {"problem": None, "solution": r"\boxed{1}"}, "'problem' is empty"),
        (
            "numina",
            {"problem": "p", "answer": "1", "question_type": "MCQ"},
            "no column 'correctness_math_verify'",
        ),
        ("numina", olympiad("p", "1") | {"correctness_math_verify": "[True]"}, "must be a list"),
        ("numina", olympiad("", "1"), "'problem' is empty"),
        ("gsm_symbolic", {"question": "q", "answer": "two"}, "does not end in"),
        ("aime", {"Question": "q"}, "no column 'Answer'"),
        ("aime", {"Question": "q", "Answer": float("nan")}, "is empty"),
        (
            "logicbench",
            syllogism("c", 9, "x", "y"),
            "'choice_9' is not one of the options choice_1, choice_2",
        ),
        ("logicbench", syllogism("c", 1, "", "y", "z"), "'choice_1' is not one of the options"),
        ("logicbench", syllogism("c", 1, "x"), "1 options"),
        (
            "logicbench",
            syllogism("c", 1, "x", "y") | {"choices": ["x", "y"]},
            "must be an object of choice_1",
        ),
        (
            "logicbench",
            {"id": 1, "context": "c", "qa_pairs": []},
            "no column 'question', 'choices', 'answer'",
        ),
        ("prontoqa", deduction(1, "c", "s", "C"), "'C' is neither A"),
        ("prontoqa", deduction(1, "", "s", "A"), "is empty"),
        ("prontoqa", {"question": "q", "answer": "A"}, "'a' is neither true nor false"),
    ],
)
def test_a_faulty_row_is_named(tmp_path, name, row, fault):
    rows = [ROWS[name][0], ROWS[name][0], row]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows).replace("NaN", '""'))
    message = fails(f"{name}={path}")
    assert message.startswith(f"{path}, line 3: ") and fault in message
    if "no column" not in message:
        assert message.endswith("; correct the row or remove it")


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".csv"])
def test_a_faulty_row_is_named_in_every_format(tmp_path, suffix):
    path = write(tmp_path / f"mine{suffix}", [gsm("q", "w", 1), gsm("q", "w", "")])
    assert fails(f"gsm8k={path}").startswith(f"{path}, row 2: ")


def test_a_cell_that_is_not_a_number_is_empty(tmp_path):
    path = write(tmp_path / "a.parquet", [exam(1, "q", 3.0), exam(2, "q", float("nan"))])
    assert fails(f"aime={path}").startswith(f"{path}, row 2: the column 'Answer' is empty")


@pytest.mark.parametrize(
    "file, content, fault",
    [
        ("a.parquet", "question", "cannot be read as parquet"),
        ("a.jsonl", "question", "line 1: not JSON"),
        ("a.json", "question", "not JSON"),
        ("a.json", "3", "expected a list of JSON objects"),
        ("a.json", "[3]", "row 1: expected a JSON object"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.csv", 'question,answer\n"q,2', "cannot be read as csv"),
        ("a.csv", "question,answer\nq", "row 1: .* as many cells"),
        ("a.csv", "question,answer\nq,#### 1,3", "row 1: .* as many cells"),
        ("a.csv", b"question,answer\n\xff,1", "as csv"),
        ("a.jsonl", "", "the file has no rows"),
        ("a.json", "[]", "no row of .* is left"),
        ("a.txt", "q", "ends in .parquet"),
    ],
)
def test_a_file_of_another_format_is_named(tmp_path, file, content, fault):
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = fails(f"gsm8k={path}")
    assert str(path) in message and re.search(fault, message)


def test_json_lines_may_be_called_json(tmp_path, expected):
    path = write(tmp_path / "a.jsonl", ROWS["gsm8k"]).rename(tmp_path / "a.json")
    assert tasks.load(f"gsm8k={path}", "test") == expected["gsm8k"]


def test_missing_files_are_named(tmp_path):
    assert fails(f"gsm8k={tmp_path / 'none'}") == f"{tmp_path / 'none'}: no such file or folder"
    assert re.search(
        r"main/test\* or data/test\* or test\* ending in .parquet.*give the file",
        fails(f"gsm8k={tmp_path}"),
    )


def test_no_row_left_is_an_error(tmp_path):
    path = write(tmp_path / "a.jsonl", [competition("p", r"\boxed{x}")])
    assert fails(f"math={path}") == f"math: no row of {path} is left for test after the filters"


@pytest.mark.parametrize("name", ["gsm_symbolic", "aime", "logicbench", "prontoqa"])
def test_evaluation_sets_have_no_train_split(name):
    assert f"{name} has no train split" in fails(name, "train")


def test_every_task_is_there_and_an_unknown_one_lists_them():
    assert list(tasks.TASKS) == [
        "gsm8k",
        "math",
        "numina",
        "gsm_symbolic",
        "aime",
        "logicbench",
        "prontoqa",
        "arithmetic",
    ]
    for name in (
        "gsm9k",
        "gsm9k=/tmp",
        "gsm9k:5",
        "gsm8k+gsm9k",
        "",
        "gsm8k+",
        "@",
        "=",
    ):
        message = fails(name if "+" not in name else name.replace("gsm8k", "arithmetic"))
        assert message.startswith("unknown data source") and all(
            task in message for task in tasks.TASKS
        )


@pytest.mark.parametrize(
    "name, fault",
    [
        ("gsm8k:many", "give gsm8k, gsm8k=FOLDER, gsm8k:ROWS .*gsm8k@tfds"),
        ("math=", "give math, math=FOLDER"),
        ("math@other", "give math, math=FOLDER"),
        ("math@tfds", "for gsm8k only; give math"),
        ("gsm8k:0", "at least one row"),
        ("arithmetic=/tmp", "is generated"),
        ("arithmetic@tfds", "is generated"),
        ("arithmetic:0", "at least one row"),
    ],
)
def test_a_wrong_name_says_what_is_right(name, fault):
    assert re.search(fault, fails(name))


@pytest.mark.parametrize(
    "name, near",
    [
        ("gms8k", "gsm8k"),
        ("GSM8K:100", "gsm8k:100"),
        ("arithmetic+numnia=some/folder", "numina=some/folder"),
        ("gsm-symbolic@tfds", "gsm_symbolic@tfds"),
        ("aime24", "aime"),
    ],
)
def test_a_misspelt_name_is_recognised(name, near):
    assert f"did you mean '{near}'? Otherwise give one of" in fails(name)


@pytest.mark.parametrize("name", ["my_data", "train", "questions", "x"])
def test_another_name_is_not_taken_for_a_misspelt_one(name):
    assert "did you mean" not in fails(name)


@pytest.mark.parametrize("name", ROWS)
def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch, name):
    import datasets
    import huggingface_hub

    for library in (datasets.config, huggingface_hub.constants):
        # offline: it does not try for half a minute
        monkeypatch.setattr(library, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message, task = fails(name), tasks.TASKS[name]
    assert message.startswith(f"{name}: {task.id} could not be fetched (")
    assert (
        f"hf download {task.id} --repo-type dataset" in message and f"give {name}=FOLDER" in message
    )
    assert task.revision is None or f"--revision {task.revision}" in message


def test_tensorflow_datasets_that_fails_or_is_missing_is_named(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def refuse(self, urls):
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", refuse)
    message = fails(f"gsm8k@tfds={tmp_path}")
    assert (
        "could not be fetched (ConnectionError: no route)" in message
        and "instead of gsm8k@tfds" in message
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets.text.gsm8k", None)
    assert "pip install 'sar_jax[tfds]'" in fails("gsm8k@tfds")


def test_importing_the_tasks_is_cheap():
    heavy = {"datasets", "tensorflow_datasets", "huggingface_hub", "pandas", "pyarrow"}
    assert not (heavy | {"jax", "numpy"}) & modules_after("import sar_jax.text.tasks")
