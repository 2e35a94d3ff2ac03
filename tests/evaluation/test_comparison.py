"""Results from answers of our making, without a model: averages, AES, comparison with others and
with the published rows."""

import dataclasses
import json
import pathlib
import re
import sys

import pytest
from support.commands import run_command

from sar_jax.errors import UserError
from sar_jax.evaluation import comparison, plots, tables
from sar_jax.evaluation import folder as folder_lib
from sar_jax.evaluation.records import Answer, Model, Settings, TaskInfo


def made(folder, label_accuracies, lengths, fingerprint="q", **decoding):
    """An evaluation folder with answers of our making: 100 questions, the first accuracy * 100 of
    them right."""
    settings = Settings(
        Model(folder.name, None, folder.name),
        {"samples": 1, "max_answer_tokens": 9, "max_prompt_tokens": 9, **decoding},
        {label: TaskInfo(label, fingerprint, 100, 0) for label in label_accuracies},
    )
    folder_lib.claim(folder, settings, None)
    for (label, accuracy), length in zip(label_accuracies.items(), lengths):
        folder_lib.write_batch(
            folder,
            label,
            [
                Answer(
                    number=i,
                    sample=0,
                    id=str(i),
                    question="?",
                    truth="1",
                    answer="1",
                    length=length,
                    clipped=False,
                    final="1",
                    correct=i < round(100 * accuracy),
                    verdict="right" if i < round(100 * accuracy) else "wrong",
                )
                for i in range(100)
            ],
        )
        folder_lib.finish(folder, label)
    return folder


MATHS = ("gsm8k", "math", "numina", "gsm_symbolic", "aime")


def test_averages_and_their_aes(tmp_path):
    base = made(
        tmp_path / "base",
        dict(zip((*MATHS, "logicbench"), (0.5, 0.4, 0.3, 0.4, 0.1, 0.7))),
        [500] * 6,
    )
    ours = made(
        tmp_path / "ours",
        dict(zip((*MATHS, "logicbench", "prontoqa"), (0.7, 0.5, 0.4, 0.5, 0.2, 0.6, 0.4))),
        [100, 200, 300, 400, 500, 50, 70],
    )
    tables.write(base, [], None)
    tables.write(ours, [], folder_lib.read_results(base, "--reference"))
    found = json.loads((ours / "results.json").read_text())
    maths, logic = found["averages"]["mathematics"], found["averages"]["out of domain"]
    assert (
        maths["accuracy"],
        maths["length"],
        logic["accuracy"],
        logic["length"],
    ) == pytest.approx((0.46, 300, 0.5, 60))
    assert maths["aes"] == pytest.approx(0.4 + 5 * (0.46 - 0.34) / 0.34) and "aes" not in logic
    assert found["tasks"]["aime"]["aes"] == pytest.approx(5)
    table = (ours / "results.md").read_text()
    assert "average, mathematics" in table and "average, out of domain" in table
    assert (
        "No average of out of domain: prontoqa not evaluated." in (base / "results.md").read_text()
    )


def test_reasoning_behaviours_by_benchmark_and_results_without_them(tmp_path):
    """What an evaluation counted is in its results and tables; older results compare as before."""
    old, new = (made(tmp_path / name, {"gsm8k": 0.5}, [500]) for name in ("old", "new"))
    path = new / "answers" / "gsm8k.parquet"
    answers = folder_lib.read_answers(new, "gsm8k")
    path.unlink()
    said = ["Wait, no. Let me check: it is 1", "Step 1: it is 1", *["1"] * 98]
    answers = [dataclasses.replace(a, answer=text) for a, text in zip(answers, said)]
    folder_lib.write_batch(new, "gsm8k", answers)
    folder_lib.finish(new, "gsm8k")
    for folder in (old, new):
        tables.write(folder, [], None)
    file = old / "results.json"
    results = json.loads(file.read_text())
    assert set(results["tasks"]["gsm8k"].pop("behaviours").values()) == {0}
    file.write_text(json.dumps(results))
    counted = json.loads((new / "results.json").read_text())["tasks"]["gsm8k"]["behaviours"]
    assert counted == {
        "backtracking": 0.01,
        "verification": 0.01,
        "subgoals": 0.01,
        "enumeration": 0,
    }
    assert "| gsm8k     |         1.00 |" in (new / "results.md").read_text()
    comparison.compare([old, new], None, tmp_path / "both")
    lines = (tmp_path / "both" / "comparison.md").read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if "backtracking" in line)
    assert [line for line in lines[begin:] if "new" in line and "1.00" in line]
    assert not [line for line in lines[begin + 2 : begin + 4] if "| old " in line]


def test_damaged_files_are_named(tmp_path):
    folder = made(tmp_path / "a", {"gsm8k": 0.5}, [9])
    (folder / "answers/gsm8k.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="gsm8k.parquet is damaged .*: delete it"):
        tables.write(folder, [], None)
    (folder / "settings.json").write_text("[]")
    with pytest.raises(UserError, match="this file was not written by sar_jax.evaluate"):
        folder_lib.read_settings(folder)
    with pytest.raises(UserError, match="--reference: .* holds no results.json"):
        folder_lib.read_results(folder, "--reference")


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> list[pathlib.Path]:
    """The same five sets and one more: a base, a longer better one, a shorter equal one."""
    labels, parent = (*MATHS, "mine.jsonl"), tmp_path_factory.mktemp("three")
    folders = [
        made(parent / "base", dict.fromkeys(labels, 0.4), [500] * 6),
        made(parent / "long", dict.fromkeys(labels, 0.6), [800] * 6, max_answer_tokens=99),
        made(parent / "short", dict.fromkeys(labels, 0.4), [200] * 6),
    ]
    for folder in folders:
        tables.write(folder, [], None)
    return folders


def cells(markdown: str, *begin: str) -> list[str]:
    """The cells of the one row whose first cells are `begin`, but for the paired differences."""
    gains, _, paired = markdown.partition("On the same questions")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (gains + paired[paired.find("\n## ") :]).splitlines()
        if line.startswith("|")
    ]
    [row] = [row for row in rows if row[: len(begin)] == list(begin)]
    return row


def test_comparison_beside_each_other_and_beside_the_published(three, tmp_path, capsys):
    comparison.compare(three, None, tmp_path / "out")
    markdown = (tmp_path / "out/comparison.md").read_text()
    assert markdown in capsys.readouterr().out
    assert cells(markdown, "mine.jsonl", "base")[-3:] == ["+0.00", "+0.0", "0.000"]
    interval = cells(markdown, "aime", "long")[4]
    assert cells(markdown, "mine.jsonl", "long") == [
        "mine.jsonl",
        "long",
        "100",
        "60.00",
        interval,
        "800.0",
        "0.00",
        "+20.00",
        "+60.0",
        "1.900",
    ]
    assert cells(markdown, "average, mathematics", "short")[-3:] == ["+0.00", "-60.0", "0.600"]
    assert cells(markdown, "Qwen3-4B", "SA-GRPO")[2:] == [
        "71.41",
        "894",
        "+18.38",
        "+16.9",
        "1.564",
        "1.564",
    ]
    assert cells(markdown, "Gemma3-1B", "base")[2:] == [
        "22.56",
        "1097",
        "+0.00",
        "+0.0",
        "0.000",
        "-",
    ]
    assert cells(markdown, "here", "long")[2:] == ["60.00", "800", "+20.00", "+60.0", "1.900", "-"]
    assert cells(markdown, "self_aligned")[1:4] == ["20.96", "84.4", "-32.07"]
    assert len(re.findall("^\\| (?:Qwen3|Phi|Gemma3)", markdown, re.MULTILINE)) == 28
    assert markdown.count("has other settings") == 1
    assert (
        "long has other settings than base: max_answer_tokens: 9 there, 99 now." in markdown
        and "2509.05489" in markdown
    )
    assert (tmp_path / "out/comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("module", ["matplotlib.figure", "adjustText"])
def test_without_a_library_there_is_all_but_the_plots(three, tmp_path, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # what an import then finds
    comparison.compare(three, None, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["comparison.md"]
    missing = f"none: drawing needs {module.split('.')[0]}"
    assert f"plot   {missing}" in capsys.readouterr().out
    labels = (*MATHS, "mine.jsonl")
    folder = made(tmp_path / "alone", dict.fromkeys(labels, 0.4), [500] * 6)
    tables.write(folder, [], None)
    printed = capsys.readouterr().out
    assert f"plot     {missing}" in printed and "pip install 'sar_jax[plot]'" in printed
    assert {"results.json", "results.md"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob("*.png"))


def test_the_reference_comes_first(three, tmp_path):
    """Wherever it stands among the folders."""
    comparison.compare(three, three[2], tmp_path / "out")
    markdown = (tmp_path / "out/comparison.md").read_text()
    assert cells(markdown, "mine.jsonl", "base")[-3:] == ["+0.00", "+150.0", "-1.500"]


def test_a_benchmark_that_the_reference_lacks_has_no_gain(three, tmp_path):
    other = made(tmp_path / "other", {"gsm8k": 0.5, "logicbench": 0.5}, [100, 100])
    tables.write(other, [], None)
    comparison.compare([other, three[0]], None, tmp_path / "both")
    markdown = (tmp_path / "both/comparison.md").read_text()
    assert (
        cells(markdown, "math", "base")[-3:] == ["-"] * 3
        and cells(markdown, "here", "base")[-4:] == ["-"] * 4
    )
    assert cells(markdown, "gsm8k", "base")[-3:] == ["-10.00", "+400.0", "-5.000"]


def test_panels_show_the_shared_benchmarks_and_the_papers_rows(three):
    found = {f.name: folder_lib.read_results(f, "") for f in three}
    (title, ours), (_, published) = comparison.panels(found)
    assert title == "mean of gsm8k, math, numina, gsm_symbolic, aime, mine.jsonl"
    assert [m.name for m in ours["results"]] == ["base", "long", "short"]
    assert sum(len(marks) for marks in published.values()) == 28 + 3 and len(published) == 5
    without = {name: dataclasses.replace(r, averages={}) for name, r in found.items()}
    assert sum(len(marks) for marks in comparison.panels(without)[1].groups.values()) == 28
    del found["long"].tasks["gsm8k"]
    assert "gsm8k" not in comparison.panels(found)[0][0].split(", ")[0]


def test_a_plot_draws_every_point(three, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_draw", lambda axes, m, *a, **k: drawn.append(m.name))
    plots.pareto(
        comparison.panels({f.name: folder_lib.read_results(f, "") for f in three}),
        tmp_path / "p.png",
    )
    assert len(drawn) == 3 + 28 + 3


def test_names_in_a_plot_are_apart(tmp_path, monkeypatch):
    """Five methods in a square of one token and one point, and one far away at the edge."""
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    close = [plots.Mark(f"method {i}", 0.9 + 0.002 * i, 40 + 0.2 * i) for i in range(5)]
    marks = [*close, plots.Mark("a method far to the right", 0.1, 80)]
    plots.pareto([plots.Panel("means", {"methods": marks})], tmp_path / "p.png")
    (axes,) = drawn[0].axes
    names = [text for text in axes.texts if text.get_text()]
    assert [name.get_text() for name in names] == [mark.name for mark in marks]
    inside = axes.get_window_extent().padded(1)
    boxes = [name.get_window_extent() for name in names]
    for i, box in enumerate(boxes):
        assert inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)
        assert not [other for other in boxes[:i] if box.overlaps(other)]


def test_what_cannot_be_compared(three, tmp_path):
    other = made(tmp_path / "other", {"aime": 0.5}, [100], fingerprint="another")
    tables.write(other, [], None)
    nothing = tmp_path / "nothing"
    for folders, words in (
        ([three[0], other], "base and other hold answers to different questions of aime"),
        ([], "the folders to compare are missing"),
        ([three[0], nothing], "holds no results.json"),
        ([three[0], three[0]], "the same folder is given twice"),
    ):
        with pytest.raises(UserError, match=words):
            comparison.compare(folders, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_differences_are_those_of_the_same_questions(tmp_path):
    """Long questions do not widen the interval, nor does their order in the files count."""
    base = made(tmp_path / "base", {"gsm8k": 0.5, "aime": 0.5}, [0, 9])
    ours = made(tmp_path / "ours", {"gsm8k": 0.5, "aime": 0.5}, [0, 9])
    for folder, less, right in ((base, 0, 40), (ours, 10, 50)):
        path = folder / "answers/gsm8k.parquet"
        answers = folder_lib.read_answers(folder, "gsm8k")
        path.unlink()
        changed = [
            dataclasses.replace(a, length=100 * (1 + a.number % 9) - less, correct=a.number < right)
            for a in answers[:: 1 if less else -1]
        ]
        folder_lib.write_batch(folder, "gsm8k", changed)
        folder_lib.finish(folder, "gsm8k")
        tables.write(folder, [], None)
    (ours / "answers/aime.parquet").unlink()  # only its results were kept
    comparison.compare([base, ours], None, tmp_path / "out")
    lines = (tmp_path / "out/comparison.md").read_text().split("On the same questions")[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()[2:5]]
    assert rows[2][:3] == ["gsm8k", "ours", "+10.00"]
    low, high = map(float, rows[2][3].split(" to "))  # 10 of 100 questions: 10 +- 1.96 * 3.0
    assert abs(low - 4.1) <= 1.1 and abs(high - 15.9) <= 1.1
    assert rows[2][4:] == ["-10.0", "-10.0 to -10.0"]
    assert "aime" not in lines.split("##")[0]


def test_names_are_as_short_as_they_can_be(tmp_path):
    paths = [tmp_path / "a/results", tmp_path / "b/results", tmp_path / "b/base"]
    assert comparison._names(paths) == ["a/results", "b/results", "b/base"] and comparison._names(
        paths[1:]
    ) == ["results", "base"]


def test_the_command_takes_folders_after_compare(three):
    done = run_command(
        "sar_jax.evaluate",
        "--compare",
        str(three[0]),
        str(three[2]),
        f"--reference={three[1]}",
        check=True,
    )
    assert "Gains and AES (gamma 5) against long." in done.stdout
    assert cells(done.stdout, "aime", "short")[-1] == f"{1 - 200 / 800 + 5 * (0.4 / 0.6 - 1):.3f}"
