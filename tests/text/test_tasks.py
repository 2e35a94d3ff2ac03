"""Published data sets: the same rows whichever way they are read, the filters of the protocol,
mixes, and faults by name.

The rows here are invented, in the published columns. Real rows are read where SAR_JAX_TEST_DATA
names a folder of them."""

import csv
import dataclasses
import functools
import gzip
import json
import os
import pathlib
import random
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest
from support.commands import modules_after
from support.data import real

from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.text.answers import judge
from sar_jax.text.tasks import mix, numeric, options
from sar_jax.text.tasks.example import Example, RowError, digest, normalised


def gsm(question, worked, final, **more):
    return {"question": question, "answer": f"{worked}\n#### {final}", **more}


def competition(problem, solution):
    return {"problem": problem, "level": "Level 2", "type": "Algebra", "solution": solution}


def olympiad(problem, answer, type="math-word-problem", verified=(True, False)):
    return {
        "problem": problem,
        "solution": f"We see {answer}.",
        "answer": answer,
        "question_type": type,
        "source": "olympiads",
        "correctness_math_verify": list(verified),
        "generations": ["x" * 50] * 2,
    }


def exam(number, question, answer):
    return {
        "ID": f"1990-{number}",
        "Year": 1990,
        "Problem Number": number,
        "Question": question,
        "Answer": answer,
        "Part": None,
    }


def syllogism(context, right, *texts):
    return {
        "id": 1,
        "context": context,
        "question": "What follows?",
        "answer": f"choice_{right}",
        "choices": {f"choice_{i}": text for i, text in enumerate(texts, start=1)},
    }


def deduction(number, context, statement, answer):
    return {
        "id": f"ProntoQA_{number}",
        "context": context,
        "options": ["A) True", "B) False"],
        "answer": answer,
        "question": f"Is the following statement true or false? {statement}",
        "explanation": [context],
    }


# The rows of each task's test split as published, and the (question, answer) that have to come of
# them.
ROWS = {
    "gsm8k": [
        gsm(
            "Ann has 3 nuts and eats 1. How many are left?",
            "3 - 1 = <<3-1=2>>2 nuts are left.",
            "2",
        ),
        gsm(
            "A farm has 4 barns of 300 cows.\nHow many cows?",
            "4*300=<<4*300=1200>>1200 cows",
            "1,200",
        ),
    ],
    "gsm_symbolic": [
        gsm(
            "Bo has 5 figs, gets 2, eats 1. How many figs?",
            "5+2-1=<<5+2-1=6>>6",
            "6",
            id=7,
            instance=0,
            original_question="Bo has 5 figs?",
            canary="c",
        )
    ],
    "math": [
        competition("What is $2+3$?", r"It is $\boxed{5}$."),
        competition("What is half of three?", r"So $\boxed{1}$? No: $\boxed{\frac{3}{2}}$."),
        competition("Solve $x^2=2$ for $x>0$.", r"$x=\boxed{\sqrt{2}}$"),
        competition("Which pair?", r"It is $\boxed{(3,4)}$."),
        competition("What is a very long number?", r"$\boxed{123456789012345678901}$"),
    ],
    "numina": [
        olympiad("Two trains are 90 km apart. When do they meet?", "3"),
        olympiad("What is the ratio?", r"\frac{2}{3}", verified=(False, True)),
        olympiad("Which one is it?", "4", type="MCQ"),
        olympiad("Prove that 6 is even.", "6", type="proof"),
        olympiad("Nobody solved this one.", "5", verified=(False, False)),
        olympiad("Nobody tried.", "5", verified=()),
        olympiad("What is the root?", r"\sqrt{7}"),
        olympiad("Which numbers?", "3, 4"),
        olympiad("How much is it exactly?", "123456789012345678901"),
        olympiad("What is it?", ""),
    ],
    "aime": [exam(1, "Find $n$ with $n+1=34$.", 33), exam(2, "Find the remainder.", 80)],
    "logicbench": [
        syllogism("If Al is ill, he rests. Al is ill.", 2, "Al runs", "Al rests ", "Bo runs"),
        syllogism("No fish fly.", 3, "", "Fish fly", "Fish do not fly", "Fish swim", "Birds swim"),
    ],
    "prontoqa": [
        deduction(1, "Each wug is a dax. Max is a wug.", "Max is a dax.", "A"),
        deduction(2, "No wug is a dax. Sam is a wug.", "Sam is a dax.", "B"),
    ],
}
EXPECTED = {
    "gsm8k": {
        ("Ann has 3 nuts and eats 1. How many are left?", "2"),
        ("A farm has 4 barns of 300 cows.\nHow many cows?", "1200"),
    },
    "gsm_symbolic": {("Bo has 5 figs, gets 2, eats 1. How many figs?", "6")},
    "math": {("What is $2+3$?", "5"), ("What is half of three?", r"\frac{3}{2}")},
    "numina": {
        ("Two trains are 90 km apart. When do they meet?", "3"),
        ("What is the ratio?", r"\frac{2}{3}"),
    },
    "aime": {("Find $n$ with $n+1=34$.", "33"), ("Find the remainder.", "80")},
    "logicbench": {
        (
            "If Al is ill, he rests. Al is ill.\n\nWhat follows?\n"
            "A) Al runs\nB) Al rests\nC) Bo runs",
            "B",
        ),
        (
            "No fish fly.\n\nWhat follows?\n"
            "A) Fish fly\nB) Fish do not fly\nC) Fish swim\nD) Birds swim",
            "B",
        ),
    },
    "prontoqa": {
        (
            "Each wug is a dax. Max is a wug.\n\n"
            "Is the following statement true or false? Max is a dax.\nOptions: true, false",
            "true",
        ),
        (
            "No wug is a dax. Sam is a wug.\n\n"
            "Is the following statement true or false? Sam is a dax.\nOptions: true, false",
            "false",
        ),
    },
}
# Where the hub's repository has them, and a file beside them that is another configuration or
# split.
PLACES = {
    "gsm8k": ("main/test-00000-of-00001.parquet", "socratic/test-00000-of-00001.parquet"),
    "gsm_symbolic": ("p1/test.jsonl", "main/test.jsonl"),
    "math": ("data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"),
    "numina": ("data/train-00000-of-00001.parquet", "extended/train-00000-of-00001.parquet"),
    "aime": ("AIME_Dataset_1983_2024.csv", "notes.csv"),
    "prontoqa": ("ProntoQA_dev_gpt-4.json", "other.json"),
    "logicbench": (
        "data/LogicBench(Eval)/MCQA/nm_logic/rule/data_instances.json",
        "data/LogicBench(Eval)/BQA/nm_logic/rule/data_instances.json",
    ),
}
CARDS = {  # what the repository's card says of its configurations, where it has several
    "gsm8k": {"main": ("test", "main/test-*"), "socratic": ("test", "socratic/test-*")},
    "gsm_symbolic": {"main": ("test", "main/test.jsonl"), "p1": ("test", "p1/test.jsonl")},
    "numina": {"default": ("train", "data/train-*"), "extended": ("train", "extended/train-*")},
    "aime": {"default": ("train", "AIME_Dataset_1983_2024.csv")},
    "prontoqa": {"default": ("validation", "ProntoQA_dev_gpt-4.json")},
}
# no lists or objects that matter: CSV can hold it
FLAT = [name for name in ROWS if name not in ("numina", "logicbench")]


def write(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        nested = "LogicBench" in str(path)
        path.write_text(
            json.dumps({"type": "t", "axiom": "a", "samples": rows} if nested else rows, indent=4)
        )
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def repository(folder: pathlib.Path, name: str, rows: list[dict] | None = None) -> pathlib.Path:
    """A folder laid out as the hub's, with what a download leaves in it."""
    place, other = PLACES[name]
    write(folder / place, rows or ROWS[name])
    write(
        folder / other,
        [
            competition("Is this the other split?", r"\boxed{1}")
            if name == "math"
            else {"wrong": "file"}
        ],
    )
    write(folder / ".cache/huggingface/download" / place, [{"wrong": "file"}])
    if name in CARDS:
        card = "".join(
            f"- config_name: {config}\n  data_files:\n  - split: {split}\n    path: {path}\n"
            for config, (split, path) in CARDS[name].items()
        )
        (folder / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    return folder


@pytest.fixture(autouse=True)
def all_rows_of_numina_are_its_test_split(monkeypatch):
    monkeypatch.setitem(
        tasks.TASKS, "numina", dataclasses.replace(tasks.TASKS["numina"], test_share=1.0)
    )


@pytest.fixture(scope="session")
def expected(tmp_path_factory) -> dict[str, list[Example]]:
    """What each task loads from JSON lines; the first test holds it against the table above."""
    folder = tmp_path_factory.mktemp("expected")
    found = {}
    for name, rows in ROWS.items():
        task = dataclasses.replace(tasks.TASKS[name], test_share=1.0 if name == "numina" else 0.0)
        found[name] = task("test", str(write(folder / f"{name}.jsonl", rows)))
    return found


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


# Mixes


def test_a_mix_is_capped_without_duplicates_and_says_so(tmp_path, capsys):
    a = write(tmp_path / "a.jsonl", [gsm(f"What is {i} + 1?", "w", i + 1) for i in range(8)])
    b = write(
        tmp_path / "b.jsonl",
        [competition(f"what  is {i} + 1?", rf"\boxed{{{i + 1}}}") for i in range(4, 12)],
    )
    mixed = tasks.load(f"gsm8k={a}+math={b}", "train")
    assert (len(mixed), mixed.counts, mixed.duplicates) == (12, (8, 8), 4)
    assert (
        f"train: 8 gsm8k={a} + 8 math={b} = 12 questions, 4 duplicates dropped"
        in capsys.readouterr().out
    )
    assert {normalised(mixed[i].question) for i in range(12)} == {
        f"what is {i} + 1?" for i in range(12)
    }
    # the part named first stays
    assert sum(mixed[i].id.startswith("gsm8k") for i in range(12)) == 8
    other = tasks.load(f"math={b}+gsm8k={a}", "train")
    assert [normalised(e.question) for e in other.examples] == [
        normalised(e.question) for e in mixed.examples
    ]
    # not one part after the other
    assert sum(e.id.startswith("gsm8k") for e in mixed.examples[:6]) not in (
        0,
        6,
    )
    capped = tasks.load(f"gsm8k={a}:2+math={b}:3+{a}:1+arithmetic:5", "train")
    assert capped.counts == (2, 3, 1, 5)


def test_each_part_of_a_mix_has_a_cap_without_being_told(tmp_path, monkeypatch):
    assert tasks.MIX_CAP == 10_000
    monkeypatch.setattr(tasks, "MIX_CAP", 6)
    path = write(tmp_path / "a.jsonl", [gsm(f"What is {i} + 1?", "w", i + 1) for i in range(8)])
    assert tasks.load(f"gsm8k={path}+arithmetic", "train").counts == (6, 6)
    assert len(tasks.load(f"gsm8k={path}", "train")) == 8  # alone it has none


def test_a_path_with_a_plus_is_no_mix(tmp_path):
    path = write(tmp_path / "a+b.jsonl", [{"question": "q", "answer": "1"}])
    assert len(tasks.load(str(path), "train")) == 1


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("What is 1 + 1?", " what  IS 1\n+ 1? ", True),
        ("caf\u00e9?", "cafe\u0301?", True),
        ("2 + 3", "2 - 3", False),
        ("x < 3?", "x > 3?", False),
        ("5\u00b2?", "52?", False),
        ("1 2?", "12?", False),
    ],
)
def test_when_two_questions_are_the_same(a, b, same):
    assert (normalised(a) == normalised(b)) == (digest(a) == digest(b)) == same


def test_train_rows_that_an_evaluation_set_holds_are_taken_out():
    train = [Example(str(i), f"What is {i}?", "1") for i in range(6)]
    first, second = (
        [Example("a", "what IS  2?", "9")],
        [Example("b", "What is 4?", "1"), Example("c", "What is 9?", "1")],
    )
    kept, removed = mix.decontaminate(train, [first, second])
    assert [e.id for e in kept] == ["0", "1", "3", "5"] and removed == 2
    assert mix.decontaminate(train, []) == (train, 0)
    # any source, not only lists
    assert mix.decontaminate(mix.combine([train]), [train]) == (
        [],
        6,
    )


# Numbers and options


@pytest.mark.parametrize(
    "answer, number",
    [
        ("5", "5"),
        (" -12.5 ", "-12.5"),
        (r"10,\!000", r"10,\!000"),
        (r"\frac{3}{4}", r"\frac{3}{4}"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\dfrac 35", r"\dfrac{3}{5}"),
        (r"1\frac12", r"1\frac{1}{2}"),
        (r"\$18", r"\$18"),
        (r"50\%", r"50\%"),
        (r"45^\circ", "45"),
        (r"45^{\circ}", "45"),
        (r"5 \text{ cm}", "5"),
        (r"6\text{ m}^2", "6"),
        (r"\sqrt{2}", None),
        (r"2\pi", None),
        ("(3,4)", None),
        ("3, 4", None),
        ("x", None),
        ("x=5", None),
        ("12_8", None),
        (r"\text{yes}", None),
        (r"5 \text{ or } 6", None),
        ("[0,1]", None),
        (r"2\sqrt{3}", None),
        ("", None),
        ("1/0", None),
        ("12345678901234567890", "12345678901234567890"),
        ("123456789012345678901", None),
    ],
)
def test_which_answers_are_numeric(answer, number):
    assert numeric.numeric(answer) == number
    if number is not None:
        assert judge.number(number) is not None and judge.verify(rf"\boxed{{{number}}}", number)


@pytest.mark.parametrize(
    "solution, content",
    [
        (r"a \boxed{1} b \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"so \fbox{3}", "3"),
        (r"$\boxed 5$", "5"),
        ("none", None),
    ],
)
def test_the_last_box_counts(solution, content):
    assert numeric.boxed(solution) == content


@pytest.mark.parametrize(
    "lines",
    [
        "A) yes it is\nB) no",
        "(A) yes it is\n(B) no",
        "A. yes it is\nB. no",
        "choice_1: yes it is\nchoice_2: no",
    ],
)
def test_options_are_read_from_the_last_lines(lines):
    stem, found = options.read(f"A fine day.\n\nIs it?\n{lines}")
    assert stem == "A fine day.\n\nIs it?" and [text for _, text in found] == ["yes it is", "no"]


@pytest.mark.parametrize(
    "question", ["A) is one line", "Is it?\nB) yes\nC) no", "Is it?\nA) yes\nC) no", "Is it?", ""]
)
def test_what_is_no_list_of_options(question):
    assert options.read(question) == (question, [])


@pytest.mark.parametrize(
    "kind, question, answer, fault",
    [
        ("choice", "Is it?", "A", "list no options"),
        ("choice", "Is it?\nA) yes\nB) no", "C", "not one of the options A, B"),
        ("choice", "Is it?\nA) yes\nB)", "A", "1 options"),
        ("boolean", "Is it?", "maybe", "neither true nor false"),
        ("boolean", "Is it?\nA) yes\nB) no", "A", "are true and false"),
        ("truth", "Is it?", "A", "'truth' is not one of math"),
    ],
)
def test_faulty_options_raise(kind, question, answer, fault):
    with pytest.raises(RowError, match=fault):
        options.of_kind(Example("", question, answer), kind)


def test_rows_of_ones_own_may_have_a_kind(tmp_path):
    rows = [
        {
            "question": "Is it?\nA. yes\nB. no\nC. both",
            "answer": "C",
            "kind": "choice",
            "id": "x",
            "solution": "s",
        },
        {"question": "Is it?", "answer": "True", "kind": "boolean"},
        {"question": "1 + 1?", "answer": "2"},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    assert tasks.load(str(path), "test") == [
        Example("x", "Is it?\nA) yes\nB) no\nC) both", "C", "s", "choice", 3),
        Example("1", "Is it?\nOptions: true, false", "true", "", "boolean", 2),
        Example("2", "1 + 1?", "2"),
    ]
    path.write_text(path.read_text() + '\n{"question": "q", "answer": "1", "kind": "choice"}\n')
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}, line 5: .*no options"):
        tasks.load(str(path), "test")


# Faults


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
        "a/b.csv",
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
