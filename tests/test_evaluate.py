"""The evaluation command: what it writes, that it goes on where it stopped, and every kind of bad
input."""

import importlib.resources
import json
import pathlib
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.commands import one_error, run_command
from support.models import make_hf_folder
from support.training import shipped, write_arithmetic

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import folder as folder_lib
from sar_jax.text.tasks import arithmetic
from sar_jax.training.commands import evaluated

TINY = str(importlib.resources.files("sar_jax") / "assets/tiny")


def config(**changes) -> config_lib.TrainConfig:
    """configs/tiny.py, a batch of 8 questions; section__field=value."""
    made = shipped("tiny")
    for name, value in {"evaluation__batch": 8, **changes}.items():
        section, field = name.split("__")
        setattr(getattr(made, section), field, value)
    return made


def run(output, names, samples=1, ks=(), reference=None, model=TINY, step=None, **changes):
    """The command's own function, on eight devices."""
    evaluated.evaluate(
        str(model), list(names), output, config(**changes), step, samples, list(ks), reference
    )
    return json.loads((output / "results.json").read_text())


def answers_of(output, label):
    return pq.read_table(output / "answers" / f"{label}.parquet").to_pylist()


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> pathlib.Path:
    """20 questions of one's own."""
    return write_arithmetic(tmp_path_factory.mktemp("data") / "mine.jsonl", "test", range(100, 120))


@pytest.fixture(scope="module")
def finished(mine, tmp_path_factory):
    """By the command line, on one device: folder and what was printed."""
    output = tmp_path_factory.mktemp("finished") / "results"
    done = run_command(
        "sar_jax.evaluate",
        "--config=configs/tiny.py",
        "--config.evaluation.batch=16",
        f"--model={TINY}",
        f"--tasks=arithmetic:24,{mine}",
        f"--output={output}",
        check=True,
    )
    return output, done.stdout


def test_results_are_those_of_the_answers(finished):
    output, printed = finished
    found = json.loads((output / "results.json").read_text())
    assert list(found["tasks"]) == ["arithmetic", "mine.jsonl"] and found["averages"] == {}
    for label, count in (("arithmetic", 24), ("mine.jsonl", 20)):
        answers, entry = answers_of(output, label), found["tasks"][label]
        assert [a["number"] for a in answers] == list(range(count)) and {
            a["sample"] for a in answers
        } == {0}
        right = np.array([re.findall(r"-?\d+", a["answer"])[-1] == a["truth"] for a in answers])
        lengths = np.array([a["length"] for a in answers])
        assert [a["correct"] for a in answers] == right.tolist() and 0.5 < right.mean() < 1
        assert [a["final"] == a["truth"] for a in answers] == right.tolist()
        assert entry["accuracy"] == pytest.approx(right.mean()) and entry[
            "length"
        ] == pytest.approx(lengths.mean())
        assert (
            entry["length_correct"] == pytest.approx(lengths[right].mean())
            and entry["questions"] == count
        )
        assert (
            entry["interval"][0] < entry["accuracy"] < entry["interval"][1] and "aes" not in entry
        )
    source = arithmetic.Arithmetic("test")
    assert [a["question"] for a in answers_of(output, "arithmetic")] == [
        source[i].question for i in range(24)
    ]
    table = (output / "results.md").read_text()
    assert (
        f"| {100 * found['tasks']['arithmetic']['accuracy']:.2f} |" in re.sub(" +", " ", table)
        and table in printed
    )
    assert (output / "accuracy_length.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in (output / "answers").iterdir()) == [
        "arithmetic.parquet",
        "mine.jsonl.parquet",
    ]
    for name in ("results.json", "results.md", "accuracy_length.png", "answers"):
        assert str(output / name) in printed


def test_it_goes_on_where_it_was_killed_on_other_devices_and_with_another_batch(
    finished, mine, tmp_path, monkeypatch
):
    """Killed after two batches of the first benchmark; then again, eight devices instead of one:
    the same answers."""
    output, write = tmp_path / "results", folder_lib.write_batch
    written = []

    def dies(folder, label, answers):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append([a.number for a in answers])
        write(folder, label, answers)

    monkeypatch.setattr(folder_lib, "write_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        run(output, ["arithmetic:24", str(mine)])
    assert (
        written == [list(range(8)), list(range(8, 16))] and not (output / "results.json").exists()
    )
    first = output / "answers/arithmetic/000000.parquet"
    before = first.read_bytes(), first.stat().st_mtime_ns

    def notes(folder, label, answers):
        assert label != "arithmetic" or (first.read_bytes(), first.stat().st_mtime_ns) == before
        written.append((label, [a.number for a in answers]))
        write(folder, label, answers)

    written.clear()
    monkeypatch.setattr(folder_lib, "write_batch", notes)
    found = run(output, ["arithmetic:24", str(mine)], evaluation__batch=16)
    assert written == [
        ("arithmetic", list(range(16, 24))),
        ("mine.jsonl", list(range(16))),
        ("mine.jsonl", list(range(16, 20))),
    ]
    assert found["tasks"] == json.loads((finished[0] / "results.json").read_text())["tasks"]
    for label in ("arithmetic", "mine.jsonl"):
        assert answers_of(output, label) == answers_of(finished[0], label)


def test_what_is_finished_needs_no_model_and_a_reference_may_come_later(
    finished, mine, tmp_path, monkeypatch
):
    output = shutil.copytree(finished[0], tmp_path / "results")
    monkeypatch.setattr(
        evaluated.trained_lib, "load_params", lambda *a: pytest.fail("the weights were loaded")
    )
    found = run(output, ["arithmetic:24"], reference=finished[0])
    assert set(found["tasks"]) == {"arithmetic", "mine.jsonl"}  # what stood there stays
    assert found["tasks"]["arithmetic"]["aes"] == 0 and "AES" in (output / "results.md").read_text()


def test_samples_are_drawn_and_counted(tmp_path):
    found = run(tmp_path / "four", ["arithmetic:12"], samples=4, ks=[1, 3])
    answers = answers_of(tmp_path / "four", "arithmetic")
    assert [(a["number"], a["sample"]) for a in answers] == [
        (q, m) for q in range(12) for m in range(4)
    ]
    right = np.array([a["correct"] for a in answers]).reshape(12, 4)
    entry = found["tasks"]["arithmetic"]
    assert {name for name in entry if "@" in name} == {"avg@4", "maj@4", "pass@1", "pass@3"}
    assert entry["avg@4"] == entry["accuracy"] == pytest.approx(right.mean())
    assert entry["pass@3"] == pytest.approx(
        np.mean(right.sum(1) >= 2) + np.mean(right.sum(1) == 1) * 3 / 4
    )
    assert len({a["answer"] for a in answers if a["number"] == 0}) > 1
    # all questions at once
    again = run(tmp_path / "again", ["arithmetic:12"], samples=4, evaluation__batch=64)
    assert (
        answers_of(tmp_path / "again", "arithmetic") == answers
        and "pass@4" not in again["tasks"]["arithmetic"]
    )
    other = config(evaluation__batch=8)
    other.seed = 1
    evaluated.evaluate(TINY, ["arithmetic:12"], tmp_path / "seed", other, None, 4, [], None)
    assert answers_of(tmp_path / "seed", "arithmetic") != answers


def test_what_the_folder_holds_is_not_mixed_with_anything_else(finished, mine, hf_folder, tmp_path):
    output, _ = finished
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    other = tmp_path / "mine.jsonl"
    other.write_text('{"question": "1 + 1?", "answer": "2"}\n')
    for words, arguments, changes in (
        (
            "holds the results of a different model .*assets/tiny there, .*model now",
            {"model": hf_folder},
            {"data__max_prompt_tokens": 200},
        ),
        (
            "different settings .*max_answer_tokens: 96 there, 90 now",
            {},
            {"rollout__max_answer_tokens": 90},
        ),
        ("samples: 1 there, 2 now", {"samples": 2}, {}),
        (
            "different settings .*cache_dtype: .*'bfloat16' now",
            {},
            {"rollout__cache_dtype": "bfloat16"},
        ),
        ("prompt.system: 'Solve .*' there, 'Hm.' now", {}, {"prompt__system": "Hm."}),
    ):
        with pytest.raises(UserError, match=words):
            run(output, ["arithmetic:24"], **arguments, **changes)
    for names, words in (
        (
            ["arithmetic:8"],
            "different questions of arithmetic .*arithmetic:24 there, arithmetic:8 now",
        ),
        ([str(other)], "different questions of mine.jsonl"),
    ):
        with pytest.raises(UserError, match=words):
            run(output, names)
    with pytest.raises(
        UserError, match="--reference: .* holds answers to different questions of arithmetic"
    ):
        run(tmp_path / "new", ["arithmetic:8"], reference=output)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(
        UserError, match="full is not empty, and what it holds is not an evaluation"
    ):
        run(tmp_path / "full", ["arithmetic:8"])
    assert (
        before == {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
        and not (tmp_path / "new").exists()
    )


def test_the_fingerprint_is_that_of_the_weights(tmp_path):
    """Wherever they lie; the least change anywhere in so small a file makes another model."""
    found = lambda folder: evaluated.trained_lib.fingerprint(
        evaluated.trained_lib.locate(str(folder), None, config())
    )
    copy = shutil.copytree(TINY, tmp_path / "copy")
    assert found(copy) == found(TINY)
    weights = (copy / "model.safetensors").read_bytes()
    for share in (0.3, 0.6, 0.99):
        changed = bytearray(weights)
        changed[int(share * len(weights))] ^= 1
        (copy / "model.safetensors").write_bytes(changed)
        assert found(copy) != found(TINY)


@pytest.mark.parametrize(
    "names, changes, words",
    [
        (["nosuchset"], {}, "unknown data source 'nosuchset': give one of gsm8k, math, .*prontoqa"),
        (["arithmetic:4", "gsm8k=nowhere"], {}, "nowhere: no such file or folder"),
        (["gsm8k={tmp}/empty.jsonl"], {}, "empty.jsonl, line 2: the column 'answer' is empty"),
        (["{tmp}/empty.jsonl"], {}, "empty.jsonl, line 2: the field 'answer' is empty"),
        (
            ["arithmetic:4"],
            {"rollout__max_answer_tokens": 4000},
            "is 4080: the model supports only 2048 positions",
        ),
        (
            ["arithmetic:4"],
            {"rollout__max_answer_tokens": 0},
            "config.rollout.max_answer_tokens is 0",
        ),
        (["arithmetic:4"], {"rollout__top_p": 0.0}, "config.rollout.top_p is 0.0"),
        (["arithmetic:4"], {"data__max_prompt_tokens": 3}, "all 4 prompts are longer"),
        (["arithmetic:4"], {"model__dtype": "int4"}, "config.model.dtype is 'int4'"),
        (["arithmetic:4"], {"prompt__format": "poem"}, "config.prompt.format is 'poem'"),
    ],
)
def test_bad_input_is_an_error_before_the_weights_are_read(
    names, changes, words, tmp_path, monkeypatch
):
    (tmp_path / "empty.jsonl").write_text(
        '{"question": "1?", "answer": "1"}\n{"question": "2?", "answer": " "}\n'
    )
    monkeypatch.setattr(
        evaluated.trained_lib, "load_params", lambda *a: pytest.fail("the weights were loaded")
    )
    with pytest.raises(UserError, match=words):
        run(tmp_path / "out", [name.format(tmp=tmp_path) for name in names], **changes)
    assert not (tmp_path / "out").exists()


def test_a_model_that_does_not_load_is_an_error_before_the_data_are_read(tmp_path):
    cut = shutil.copytree(TINY, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:9999])
    bare = shutil.copytree(TINY, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    other = make_hf_folder(tmp_path / "other")
    shutil.copy(pathlib.Path(TINY) / "config.json", other / "config.json")
    (tmp_path / "workdir/checkpoints").mkdir(parents=True)
    (tmp_path / "workdir/config.json").write_text(config_lib.to_json(config()))
    for model, words in (
        (tmp_path / "nowhere", "nowhere: no such folder"),
        (cut, "not a complete safetensors file"),
        (bare, "no tokenizer can be loaded"),
        (other, "the tensors do not fit config.json"),
        (tmp_path / "workdir", "has no checkpoint yet"),
    ):
        with pytest.raises(UserError, match=words):
            run(tmp_path / "out", ["nosuchset"], model=model)
    with pytest.raises(UserError, match="--step is 3, but .* is a model folder"):
        run(tmp_path / "out", ["arithmetic:4"], step=3)


@pytest.mark.parametrize(
    "names, samples, ks, words",
    [
        (
            ["a"],
            4,
            ["8"],
            "pass@8, which needs at least 8 samples a question, but --samples is 4",
        ),
        (["a"], 1, ["2"], "--samples is 1"),
        (["a"], 0, [], "--samples is 0"),
        (["a"], 4, ["two"], "--k is 'two'"),
        (["a"], 4, ["0"], "--k is '0'"),
        (["gsm8k", "gsm8k=x:5"], 1, [], "--tasks names gsm8k more than once"),
    ],
)
def test_options_that_cannot_be(names, samples, ks, words):
    with pytest.raises(UserError, match=words):
        evaluated.check_options(names, samples, ks)


def test_k_is_one_and_all_by_default():
    assert (
        evaluated.check_options(["a"], 8, []) == [1, 8]
        and evaluated.check_options(["a"], 1, []) == []
    )
    assert evaluated.check_options(["a"], 8, ["4", "2", "4"]) == [2, 4]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("gsm8k", "gsm8k"),
        ("gsm8k=/data/gsm8k.jsonl:100", "gsm8k"),
        ("gsm8k@tfds=/d", "gsm8k"),
        ("numina:64", "numina"),
        ("/data/my set.jsonl:9", "my_set.jsonl"),
        ("math+numina:5=/x/y+gsm8k", "math+numina+gsm8k"),
    ],
)
def test_names_in_results(name, expected):
    assert evaluated.label(name) == expected


def test_commands_name_what_is_missing():
    done = run_command("sar_jax.evaluate", f"--model={TINY}", "--output=x", "stray")
    assert one_error(done) == (
        "error: unexpected argument 'stray': options look like --name=value (see --help)"
    )
