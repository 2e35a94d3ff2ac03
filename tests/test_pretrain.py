"""Supervised training through the command line: from scratch, the same file for the same seed, cold
start, stopped and gone on with, bad rows."""

import math
import re
import signal

import pytest
from safetensors.numpy import load_file
from support.commands import PATIENCE, one_error, run_command, start_in_background, wait_for
from support.training import shipped, write_arithmetic, write_lines

from sar_jax.text import prompts

SMALL = [
    "sar_jax.pretrain",
    "--config=configs/tiny_pretrain.py",
    "--config.steps=12",
    "--config.batch_examples=8",
    "--config.log_every_steps=6",
    "--config.optimizer.warmup_updates=2",
    "--config.data.eval=",
    "--config.data.max_prompt_tokens=150",
    "--config.packing.row_tokens=260",
    "--config.packing.logprob_chunk=260",
    "--config.max_answer_tokens=110",
    "--config.architecture.num_layers=1",
    "--config.architecture.embed_dim=32",
    "--config.architecture.ffw_dim=48",
    "--config.architecture.vocab_size=300",
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    return write_arithmetic(file, "train", range(50), ("question", "answer", "solution"))


@pytest.fixture(scope="module")
def made(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "model"  # a process with a seed of hashes of its own
    done = run_command(
        *SMALL, f"--config.data.train={rows}", f"--output={folder}", real=True, check=True
    )
    return folder, done.stdout


def losses(printed: str) -> list[float]:
    return [
        float(line.split("loss")[1].split()[0])
        for line in printed.splitlines()
        if line.startswith("step")
    ]


def test_the_loss_falls_and_the_folder_is_a_hugging_face_model(made):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, printed = made
    first, last = losses(printed)
    assert last < first - 0.3
    network, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert network.config.vocab_size == len(tokenizer) == 300
    assert network.generation_config.eos_token_id == tokenizer.eos_token_id
    assert sorted(p.name for p in folder.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "sar_jax.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_how_full_rows_are_is_said(tmp_path):
    """Eight copies of one answer, as many in a row as fit there, in micro-batches of two rows."""
    row = {"question": "How many are 2 and 3?", "answer": "5", "solution": "2 + 3 = 5. " * 4}
    file = write_lines(tmp_path / "rows.jsonl", [row] * 8)
    folder = tmp_path / "model"
    rows = "--config.packing.rows_per_microbatch=2"
    words = (rows, "--config.steps=1", f"--config.data.train={file}", f"--output={folder}")
    done = run_command(*SMALL, *words, check=True)
    tokenizer = prompts.load_tokenizer(str(folder))
    prompter = prompts.Prompter(tokenizer, shipped("tiny_pretrain").prompt)
    length = len(prompter.prompt(row["question"])) + len(prompter.answers([row["solution"]])[0])
    needed = math.ceil(8 / (260 // length))
    share = 8 * length / (math.ceil(needed / 2) * 2 * 260)
    assert f"  rows {100 * share:.0f}% full" in done.stdout
    assert 2 <= needed <= 4 and share < 0.9


def test_the_same_seed_gives_the_same_file_and_another_does_not(made, rows, tmp_path):
    for seed, same in ((0, True), (1, False)):
        folder = tmp_path / str(seed)
        run_command(
            *SMALL,
            f"--config.data.train={rows}",
            f"--output={folder}",
            f"--config.seed={seed}",
            check=True,
        )
        weights = (made[0] / "model.safetensors").read_bytes() == (
            folder / "model.safetensors"
        ).read_bytes()
        assert weights == same
        assert (made[0] / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_a_cold_start_goes_on_from_a_model_and_evaluates(made, rows, tmp_path):
    done = run_command(
        *SMALL,
        f"--config.data.train={rows}",
        f"--output={tmp_path / 'm'}",
        f"--config.model.path={made[0]}",
        "--config.data.eval=arithmetic",
        "--config.data.eval_questions=4",
        "--config.eval_batch=4",
        check=True,
    )
    assert losses(done.stdout)[0] < losses(made[1])[0] - 0.3
    assert '"accuracy"' in done.stdout
    before, after = (load_file(f / "model.safetensors") for f in (made[0], tmp_path / "m"))
    assert before.keys() == after.keys()
    assert (tmp_path / "m" / "config.json").read_text() == (made[0] / "config.json").read_text()


CONSTANT = "--config.optimizer.final_lr_fraction=1"  # steps change nothing but the end


@pytest.fixture(scope="module")
def stopped(rows, tmp_path_factory):
    """A training of 1,000 steps that Ctrl-C has stopped, the command, and the last step."""
    output = tmp_path_factory.mktemp("stopped") / "model"
    printed = output.with_name("printed")
    command = [*SMALL, CONSTANT, f"--config.data.train={rows}", f"--output={output}"]
    more = ["--config.steps=1000", "--config.log_every_steps=1"]
    process = start_in_background(*command, *more, output=printed)
    wait_for(lambda: "step 2 " in printed.read_text(), process, printed)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    said = re.search(
        r"stopped and saved at step (\d+) of 1000\. To continue, (.*)", printed.read_text()
    )
    assert said[2] == f"run the same command with --output={output}"
    assert "Traceback" not in printed.read_text()
    return output, command, int(said[1])


@pytest.mark.parametrize(
    "other, words",
    [
        ("--config.seed=1", "config.seed: 0 there, 1 now"),
        ("--config.data.train={others}", "was trained on different questions"),
    ],
)
def test_a_stopped_training_is_no_other_ones_start(stopped, tmp_path, other, words):
    output, command, _ = stopped
    columns = ("question", "answer", "solution")
    others = write_arithmetic(tmp_path / "others.jsonl", "train", range(1, 50), columns)
    other = other.format(others=others)
    error = one_error(run_command(*command, "--config.steps=1000", other))
    assert words in error and f"{output}.unfinished" in error
    assert "--output" in error and "--workdir" not in error


def test_stopped_and_gone_on_with_is_never_stopped_bit_for_bit(stopped, tmp_path):
    """Runs after the test above: it ends the training."""
    output, command, step = stopped
    assert not output.exists()
    more = f"--config.steps={step + 3}"
    again = run_command(*command, more, "--config.checkpoint.every_steps=2", check=True)
    assert f"resumed at step {step} from {output}.unfinished" in again.stdout
    assert sorted(p.name for p in output.parent.iterdir()) == ["model", "printed"]
    run_command(*command, more, f"--output={tmp_path / 'm'}", check=True)
    found, whole = (f / "model.safetensors" for f in (output, tmp_path / "m"))
    assert found.read_bytes() == whole.read_bytes()


def test_what_was_killed_before_its_first_checkpoint_is_no_hindrance(stopped, tmp_path):
    left = tmp_path / "m.unfinished"
    left.mkdir()
    (left / "config.json").write_text('{"seed": 7}')
    run_command(*stopped[1], "--config.steps=1", f"--output={tmp_path / 'm'}", check=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_folder_of_ones_own_beside_the_output_is_left_alone(stopped, tmp_path):
    mine = tmp_path / "m.unfinished/mine"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = run_command(*stopped[1], "--config.steps=1", f"--output={tmp_path / 'm'}")
    assert "m.unfinished is not empty, and what it holds is not a run" in one_error(done)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    "line, words",
    [
        ('{"question": "1 + 1?", "answer": "2"}', 'has no "solution"'),
        (
            '{"question": "1 + 1?", "answer": "2", "solution": "%s"}' % ("so " * 400),
            "every solution is longer",
        ),
    ],
)
def test_rows_without_a_usable_solution(tmp_path, line, words):
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    done = run_command(
        *SMALL, f"--config.data.train={tmp_path / 'rows.jsonl'}", f"--output={tmp_path / 'm'}"
    )
    assert words in one_error(done)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_mistake_in_the_evaluation_data_costs_no_training(rows, tmp_path):
    done = run_command(
        *SMALL,
        f"--config.data.train={rows}",
        "--config.data.eval=nowhere.jsonl",
        f"--output={tmp_path / 'm'}",
    )
    assert "nowhere.jsonl: no such file" in one_error(done)
    assert not losses(done.stdout)


def test_an_output_that_holds_something_is_refused_first(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run_command(*SMALL, "--config.data.train=nowhere.jsonl", f"--output={tmp_path}")
    assert "is not an empty folder" in one_error(done)
    assert (tmp_path / "file").read_text() == "mine"
