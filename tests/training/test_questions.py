"""Generated questions are right, faults in files are named by line, and batches repeat, divide and
resume exactly."""

import json
import re

import numpy as np
import pytest
from hypothesis import strategies as st
from support.drawn import holds_for
from support.training import write_lines

from sar_jax.config import Data
from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.text.answers import judge
from sar_jax.text.tasks.arithmetic import Arithmetic
from sar_jax.training import questions as questions_lib

STEP = re.compile(r"(\d+) ([+*-]) (\d+) = (\d+)\.")
OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def filler(solution: str) -> str:
    """What stands around the two steps and the last sentence."""
    return re.sub(r"The answer is \d+\.", "", STEP.sub("", solution)).strip()


@pytest.fixture(scope="module")
def items():
    return {split: [Arithmetic(split)[i] for i in range(2000)] for split in ("train", "test")}


# Generated problems


@pytest.mark.parametrize("split", ["train", "test"])
def test_worked_answers_compute_the_question_and_end_in_the_answer(items, split):
    for item in items[split]:
        (a, op1, b, middle), (again, op2, c, final) = STEP.findall(item.solution)
        assert OPERATIONS[op1](int(a), int(b)) == int(middle) and again == middle
        assert OPERATIONS[op2](int(middle), int(c)) == int(final)
        assert sorted(numbers(item.question)) == sorted(map(int, (a, b, c)))
        assert numbers(item.solution)[-1] == int(final) == int(item.answer) > 0 < int(middle)
        assert item.solution.endswith(f"The answer is {final}.")
        assert judge.verify(item.solution, item.answer)
        assert not judge.verify(item.solution, str(int(item.answer) + 1))


def test_items_are_a_function_of_split_and_number(items):
    for split in ("train", "test"):
        source = Arithmetic(split)
        order = np.random.default_rng(0).permutation(2000)[:200]
        assert [source[int(i)] for i in order] == [items[split][i] for i in order]
        assert [item.id for item in items[split]] == [
            f"arithmetic-{split}-{i}" for i in range(2000)
        ]
    assert items["train"][:50] != items["test"][:50]


def test_no_question_stands_in_both_splits():
    seen = {
        split: {source[i].question for i in range(len(source))}
        for split, source in ((s, Arithmetic(s)) for s in ("train", "test"))
    }
    assert not seen["train"] & seen["test"]
    assert len(seen["train"]) > 30_000 and len(seen["test"]) > 2000  # few repeats


@pytest.mark.parametrize("index", [-1, 32_768])
def test_an_item_out_of_range_raises(index):
    with pytest.raises(IndexError):
        Arithmetic("train")[index]


def test_filler_says_nothing_and_does_not_depend_on_the_question(items):
    """Its length is uncorrelated with every number of the problem, the operators, and the
    question's length."""
    rows = items["train"]
    length = np.array([len(filler(item.solution)) for item in rows], float)
    assert not any(re.search(r"\d", filler(item.solution)) for item in rows)
    assert (length == 0).mean() > 0.05 and length.max() > 120 and length.std() > 30  # it does vary
    found = [STEP.findall(item.solution) for item in rows]
    features = [
        [
            float(item.answer),
            *(float(x) for step in steps for x in (step[0], step[2], step[3])),
            *(op == steps[i][1] for i in (0, 1) for op in "+-*"),
            len(item.question),
        ]
        for item, steps in zip(rows, found)
    ]
    for feature in np.array(features, float).T:
        if feature.std():
            # 3.6 standard errors of 2,000 items
            assert abs(np.corrcoef(length, feature)[0, 1]) < 0.08


# Files


def write(tmp_path, *lines, name="rows.jsonl"):
    path = tmp_path / name
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )
    return str(path)


GOOD = json.dumps({"question": "1 + 1?", "answer": "2"})


def test_rows_keep_their_fields_and_get_an_id(tmp_path):
    path = write(
        tmp_path,
        json.dumps(
            {"id": "x", "question": "Q0", "answer": "2", "solution": "1 + 1 = 2", "more": 1}
        ),
        GOOD,
        json.dumps({"id": 0, "question": "Q2", "answer": "5", "solution": None}),
    )
    rows = tasks.load(path, "train")
    assert [(r.id, r.question, r.answer, r.solution) for r in rows] == [
        ("x", "Q0", "2", "1 + 1 = 2"),
        ("1", "1 + 1?", "2", ""),
        ("0", "Q2", "5", ""),
    ]
    assert tasks.load(path, "test") == rows


def test_values_that_are_numbers_become_text(tmp_path):
    rows = tasks.load(
        write(tmp_path, '{"question": 7, "answer": 72}', '{"question": "q", "answer": -0.5}'),
        "train",
    )
    assert [(r.question, r.answer) for r in rows] == [("7", "72"), ("q", "-0.5")]
    assert judge.verify("#### 72.0", rows[0].answer) and judge.verify("#### -1/2", rows[1].answer)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_the_newline_byte_ends_a_line(tmp_path, separator):
    """Raw inside a string: these split lines elsewhere in Python."""
    text = f"before{separator}after"
    raw = json.dumps({"question": "@", "answer": "2"}, ensure_ascii=False).replace(
        "@", text if separator > "\x1f" else json.dumps(text)[1:-1]
    )
    rows = tasks.load(write(tmp_path, raw, GOOD), "train")
    assert [r.question for r in rows] == [text, "1 + 1?"]


def test_blank_lines_and_carriage_returns_are_skipped_but_counted(tmp_path):
    assert len(tasks.load(write(tmp_path, "", GOOD + "\r", "  ", GOOD, ""), "train")) == 2
    with pytest.raises(UserError, match="line 4: not JSON"):
        tasks.load(write(tmp_path, "", GOOD, " ", "{"), "train")


@pytest.mark.parametrize(
    "line, fault",
    [
        ('{"question": "q", "answer": "2"', "not JSON"),
        ("question: q", "not JSON"),
        (b'{"question": "\xff", "answer": "2"}', "not UTF-8 text"),
        ('{"question": "q"}', "'answer' is missing"),
        ('{"answer": "2"}', "'question' is missing"),
        ('{"question": "q", "answer": ""}', "'answer' is empty"),
        ('{"question": "q", "answer": "  "}', "'answer' is empty"),
        ('{"question": "", "answer": "2"}', "'question' is empty"),
        ('{"question": "q", "answer": null}', "'answer' must be text or a number"),
        ('{"question": "q", "answer": ["2"]}', "'answer' must be text or a number"),
        ('{"question": "q", "answer": true}', "'answer' must be text or a number"),
        ('["q", "2"]', 'expected a JSON object with "question" and "answer"'),
        ('"q"', "expected a JSON object"),
        ("3", "expected a JSON object"),
        # more digits than Python reads
        (
            '{"question": "q", "answer": ' + "7" * 5000 + "}",
            "line 3",
        ),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_faulty_line_is_named_with_file_and_number(tmp_path, line, fault):
    path = write(tmp_path, GOOD, GOOD, line, GOOD)
    with pytest.raises(UserError) as error:
        tasks.load(path, "train")
    assert str(error.value).startswith(f"{path}, line 3: ") and fault in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lines", [[], [""], ["", "  ", "\r"]])
def test_an_empty_file_is_named(tmp_path, lines):
    path = write(tmp_path, *lines)
    with pytest.raises(UserError, match=f"^{re.escape(path)}: the file has no rows"):
        tasks.load(path, "train")


def test_a_missing_file_or_an_unknown_name_is_named(tmp_path):
    with pytest.raises(UserError, match="missing.jsonl: no such file"):
        tasks.load(str(tmp_path / "missing.jsonl"), "train")
    with pytest.raises(UserError, match="'arithmetics'.*arithmetic"):
        tasks.load("arithmetics", "train")


# Prompts that fit


def test_over_long_prompts_are_left_out_and_counted(tmp_path, loaded):
    short, long = "1 + 1?", "How many? " * 40
    lines = [
        json.dumps({"question": q, "answer": "2"}) for q in (short, long, short, long, long, short)
    ]
    source = tasks.load(write(tmp_path, *lines), "train")
    size = len(loaded.prompter.prompt(short))
    # exactly as long is not too long
    rows, dropped = questions_lib.prepare(source, loaded.prompter, size, "mine")
    assert [r.example.id for r in rows] == ["0", "2", "5"] and dropped == 3
    assert all(r.prompt == loaded.prompter.prompt(short) for r in rows)  # whole, never cut
    rows, dropped = questions_lib.prepare(source, loaded.prompter, size, "mine", limit=2)
    assert [r.example.id for r in rows] == [
        "0",
        "2",
    ] and dropped == 1  # of the rows that were looked at
    rows, dropped = questions_lib.prepare(source, loaded.prompter, 10_000, "mine")
    assert len(rows) == 6 and dropped == 0
    with pytest.raises(UserError) as error:
        questions_lib.prepare(source, loaded.prompter, size - 1, "mine")
    assert re.search(r"^mine: all 6 prompts .*config\.data\.max_prompt_tokens", str(error.value))


# Batches


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def stream(count, rows, *arguments):
    """The first `count` rows of `batches(rows, *arguments)`."""
    iterator, found = questions_lib.batches(rows, *arguments), []
    while len(found) < count:
        found += next(iterator)
    return found[:count]


@holds_for(
    [(1, 2, 0), (2, 7, 1), (5, 5, 2), (6, 3, 3), (7, 3, 0), (23, 7, 4), (23, 2, 5)],
    count=st.integers(1, 23),
    batch=st.integers(2, 7),
    seed=st.integers(0, 5),
)
def test_an_epoch_holds_each_row_once(count, batch, seed):
    """Whatever the batch: it may span two epochs, and always has its full size."""
    rows = [f"row {i}" for i in range(count)]
    seen = stream(3 * count, rows, batch, seed)
    for start in range(0, len(seen), count):
        assert sorted(seen[start : start + count]) == sorted(rows)
    assert {len(b) for b in take(questions_lib.batches(rows, batch, seed), 5)} == {batch}


def test_a_batch_may_hold_one_row():
    assert sorted(stream(3, range(3), 1, 0)) == [0, 1, 2]
    assert stream(6, range(3), 1, 0) == stream(6, range(3), 2, 0)


def test_the_order_depends_on_the_seed_and_on_nothing_else():
    first, same, other = (
        take(questions_lib.batches(range(50), 10, seed), 10) for seed in (3, 3, 4)
    )
    assert first == same != other
    # not on the batch either
    assert sum(take(questions_lib.batches(range(50), 5, 3), 20), []) == sum(first, [])
    assert sum(first, [])[:50] != list(range(50))


@pytest.mark.parametrize("shards", [1, 2])
def test_two_epochs_differ(shards):
    seen = stream(2 * 60 // shards, range(60), 10, 0, 0, shards)
    epochs = seen[: 60 // shards], seen[60 // shards :]
    assert epochs[0] != epochs[1] and (shards > 1 or sorted(epochs[0]) == sorted(epochs[1]))


@pytest.mark.parametrize(
    "shards, count, seed", [(1, 5, 0), (2, 8, 1), (2, 9, 2), (3, 20, 3), (4, 4, 4)]
)
def test_shards_partition_the_stream(shards, count, seed):
    """Process i of n takes rows i, i + n, ... of the shuffled order, through the ends of epochs
    that n does not divide."""
    whole = stream(3 * count, range(count), 2, seed)
    for i in range(shards):
        assert stream(len(whole[i::shards]), range(count), 2, seed, i, shards) == whole[i::shards]


@pytest.mark.parametrize("count, batch", [(20, 4), (10, 3)])  # the second's batches span epochs
@pytest.mark.parametrize("steps", [0, 3, 4, 5, 9])  # mid-epoch, around its end, in the second
def test_an_iterator_resumes_exactly(count, batch, steps):
    original = questions_lib.batches(range(count), batch, 7)
    take(original, steps)
    state = json.loads(json.dumps(original.get_state()))  # a checkpoint holds it as JSON
    after = take(original, 12)
    resumed = questions_lib.batches(range(count), batch, 7)
    resumed.set_state(state)
    assert take(resumed, 12) == after
    moved = questions_lib.batches(range(count), batch, 7)
    take(moved, 2)  # one that has been used already, too
    moved.set_state(state)
    assert take(moved, 12) == after


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_a_shard_resumes_exactly(shard):
    original = questions_lib.batches(range(20), 3, 7, shard, 3)
    take(original, 4)
    state, after = original.get_state(), take(original, 6)
    resumed = questions_lib.batches(range(20), 3, 7, shard, 3)
    resumed.set_state(state)
    assert take(resumed, 6) == after


def test_fewer_rows_than_processes_raise():
    with pytest.raises(UserError, match="2 rows.*3 processes"):
        questions_lib.batches(range(2), 1, 0, 0, 3)


def test_train_rows_that_stand_in_the_evaluation_set_are_taken_out_and_counted(
    loaded, tmp_path, capsys
):
    """In all of the set, though only its first question is asked; white space and case do not tell
    questions apart."""
    write = lambda name, questions: (
        (tmp_path / name).write_text(
            "".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in questions)
        )
        and str(tmp_path / name)
    )
    train = write("train.jsonl", ["one?", "two?", "three?", "four?", "word " * 200])
    test = write("test.jsonl", ["five?", " FOUR?", "Two?"])
    rows, eval_rows = questions_lib.load(
        Data(train, test, eval_questions=1, max_prompt_tokens=150), loaded.prompter
    )
    assert [r.example.question for r in rows] == ["one?", "three?"]
    assert [r.example.question for r in eval_rows] == ["five?"]
    assert rows[0].prompt == loaded.prompter.prompt("one?")
    assert capsys.readouterr().out.splitlines() == [
        f"train: 2 questions from {train}; 2 left out because they are in {test}; "
        "1 left out because their prompts are longer than 150 tokens",
        f"test: 1 questions from {test}",
    ]
    alone, nothing = questions_lib.load(Data(train, "", max_prompt_tokens=150), loaded.prompter)
    assert len(alone) == 4 and nothing == []
    with pytest.raises(UserError, match="every question is also in the evaluation set"):
        questions_lib.load(Data(train, train), loaded.prompter)


def rows_of(tmp_path, *answers):
    return write_lines(
        tmp_path / "rows.jsonl",
        [{"question": f"How many is {i}?", "answer": a} for i, a in enumerate(answers)],
    )


NOTHING = ("I do not know", "NaN", "n/a", "?", "First we " + "add this and " * 20 + "so we see it.")


@pytest.mark.parametrize("answer", NOTHING)
def test_a_truth_that_states_nothing_is_refused_with_its_line(tmp_path, answer):
    source = tasks.load(str(rows_of(tmp_path, "5", answer, "6")), "train")
    with pytest.raises(UserError, match=r"rows.jsonl, line 2: .*\(1 of 3 rows"):
        questions_lib.stated(source, "rows.jsonl", 0.3)
    kept, left_out = questions_lib.stated(source, "rows.jsonl", 0.34)
    assert [e.answer for e in kept] == ["5", "6"] and left_out == 1


@pytest.mark.parametrize(
    "answer",
    ["7", "-3/4", "Paris", "none", "no solution", "undefined", "\\infty", "\u221e", "x = 2", "(A)"]
    + ["Sum it up. " * 20 + "#### 12", "the red one and the blue one"],
)
def test_a_truth_that_an_answer_can_equal_is_none_of_them(tmp_path, answer):
    source = tasks.load(str(rows_of(tmp_path, answer)), "train")
    assert questions_lib.stated(source, "rows.jsonl", 0.0).left_out == 0
    assert judge.judge(f"The answer is {answer}." if len(answer) < 99 else answer, answer)


def test_a_step_that_asks_a_question_twice_is_told():
    assert questions_lib.repeated(4, 4) == questions_lib.repeated(5, 4) == ""
    assert "questions is 4, and there are 3" in questions_lib.repeated(3, 4)
