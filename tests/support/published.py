"""Published data sets in small: invented rows in the published columns, and folders laid out as the
hub's."""

import csv
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet


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
