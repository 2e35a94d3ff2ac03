"""A run with functions of one's own everywhere: trained, broken on the way, mended, resumed,
exported, evaluated; one line for each that cannot be used, and nothing lost."""

import json

import pyarrow.parquet as pq
import pytest
from support.commands import one_error, run_command
from support.judge import Server
from support.training import read_metrics, small

from sar_jax.training.storage import workdir as workdir_lib

SOURCE = """
def spelt(answers, by=10):
    print("looked at", len(answers))
    return [len(answer.text) / by for answer in answers]

def apart(group):
    assert len({answer.question for answer in group}) == 1
    return [abs(a.values.mean()) + a.extra["level"] for a in group]

def check(text, truth, row):
    return len(text) % 2 == 0 and row["level"] >= 0

def rows(split):
    for i in range(40 if split == "train" else 6):
        yield {"question": f"{split}: what is {i} + {i}?", "answer": str(2 * i), "level": i % 3}

def messages(row):
    return [{"role": "user", "content": f"{row['question']} ({row['level']})"}]

def log(step, metrics, to):
    with open(to, "a") as file:
        print(step, metrics.get("reward/spelt/mean"), file=file)
"""
FIRST_LINE = '    print("looked at"'
FAILS = "    if {condition}: raise ValueError('no more')\n"
BROKEN = SOURCE.replace(FIRST_LINE, FAILS.format(condition="len(answers) > 2") + FIRST_LINE)
# the trial on made-up answers is the first call, so this is step 3
BREAKS_IN_STEP_3 = "CALLS = []\n" + SOURCE.replace(
    FIRST_LINE,
    "    CALLS.append(1)\n" + FAILS.format(condition="len(CALLS) == 4") + FIRST_LINE,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with my.py, and a run of two steps in it, with what it printed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my.py").write_text(SOURCE)
    done = run_command(*command(folder, "steps=2"), check=True)
    return folder, done.stdout


def command(folder, *overrides: str) -> list[str]:
    file = folder / "my.py"
    own = {
        "rewards.custom": f"{file}:spelt(by=5)=0.5,{file}:apart=0.25",
        "verification.verifier": f"{file}:check",
        "data.train": f"{file}:rows",
        "data.eval": f"{file}:rows",
        "prompt.function": f"{file}:messages",
        "logging.to": f"{file}:log(to='{folder / 'log.txt'}')",
        "loss.minibatch_questions": "4",
    }
    given = [f"{name}={value}" for name, value in own.items()]
    return ["sar_jax.train", *small(*given, *overrides), f"--workdir={folder / 'run'}"]


def test_every_function_is_used(project):
    folder, printed = project
    file = folder / "my.py"
    assert f"train: 40 questions from {file}:rows" in printed
    assert f"reward {file}:apart: 2 made-up answers took" in printed
    assert f"{file}:spelt(by=5) prints: looked at 12" in printed
    last = read_metrics(folder / "run")[-1]
    table = pq.read_table(sorted((folder / "run/samples").glob("step_*2.parquet"))[0]).to_pylist()
    for row in table:
        assert row["reward/spelt"] == len(row["answer"]) / 5
        assert row["correct"] == (len(row["answer"]) % 2 == 0)
        level = json.loads(row["extra"])["level"]
        assert row["reward/apart"] == pytest.approx(
            abs(sum(row["token_values"]) / len(row["token_values"])) + level, abs=1e-2
        )
        parts = row["reward/verifiable"] + 0.2 * row["reward/self_aligned"]
        own = 0.5 * row["reward/spelt"] + 0.25 * row["reward/apart"]
        assert row["reward"] == pytest.approx(parts + own)
    mean = sum(row["reward/spelt"] for row in table) / len(table)
    assert last["reward/spelt/mean"] == pytest.approx(mean)
    assert {"advantage_share/apart", "time/reward"} <= last.keys()
    steps = [line.split()[0] for line in (folder / "log.txt").read_text().splitlines()]
    assert steps[:3] == ["0", "1", "2"]


def test_the_workdir_knows_their_sources(project):
    folder, _ = project
    known = json.loads((folder / "run/plugins.json").read_text())
    options = {name.split()[0] for name in known}
    assert options == {
        f"config.{name}"
        for name in (
            "rewards.custom",
            "verification.verifier",
            "data.train",
            "data.eval",
            "prompt.function",
            "logging.to",
        )
    }
    assert all(len(digest) == 64 for digest in known.values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same project, whose run of four steps never broke."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "my.py").write_text(SOURCE)
    run_command(*command(folder, "steps=4"), check=True)
    return folder


def learnt(folder) -> list[dict[str, float]]:
    """What each step asked and learnt, by its metrics."""
    kept = ("reward", "loss", "kl", "accuracy", "completions")
    lines = read_metrics(folder / "run")
    return [{n: v for n, v in line.items() if n.startswith(kept)} for line in lines]


def test_a_step_that_fails_is_made_up_with_its_own_questions(whole, tmp_path):
    """No checkpoint was due before it: the one that is saved must not have asked them yet."""
    (tmp_path / "my.py").write_text(BREAKS_IN_STEP_3)
    rarely = ("steps=4", "checkpoint.every_steps=100")
    done = run_command(*command(tmp_path, *rarely))
    assert "no more. The run is saved at step 2" in one_error(done)
    (tmp_path / "my.py").write_text(SOURCE)
    run_command(*command(tmp_path, *rarely), check=True)
    assert learnt(tmp_path) == learnt(whole)


def test_one_that_breaks_at_once_after_a_restart_is_mended_and_goes_on(project, whole):
    folder, _ = project
    (folder / "my.py").write_text(BROKEN)
    done = run_command(*command(folder, "steps=4"))
    assert one_error(done) == (
        f"error: config.rewards.custom: {folder}/my.py:spelt(by=5): line 3: ValueError: no more. "
        "The run is saved at step 2: once this is mended, the same command continues"
    )
    changed = f"changed since the last start: the source of config.rewards.custom {folder}/my.py"
    assert changed in done.stdout
    (folder / "my.py").write_text(SOURCE)
    done = run_command(*command(folder, "steps=4"), check=True)
    assert "resumed at step 2" in done.stdout and changed in done.stdout
    assert learnt(folder) == learnt(whole)


def test_export_and_report_need_none_of_it_and_evaluate_uses_the_verifier(project, tmp_path):
    folder, _ = project
    file, away = folder / "my.py", folder / "away.py"
    file.rename(away)
    try:
        workdir = f"--workdir={folder / 'run'}"
        run_command("sar_jax.export", workdir, f"--output={tmp_path / 'hf'}", check=True)
        page = f"--output={tmp_path / 'report.html'}"
        run_command("sar_jax.report", str(folder / "run"), page, check=True)
        card = (tmp_path / "hf/README.md").read_text()
        assert "spelt (weight 0.5)" in card and f"`{file}:messages`" in card
        evaluate = [
            "sar_jax.evaluate",
            f"--model={folder / 'run'}",
            f"--tasks={file}:rows",
            f"--output={tmp_path / 'results'}",
        ]
        assert f"no such file: {file}" in one_error(run_command(*evaluate))
    finally:
        away.rename(file)
    run_command(*evaluate, check=True)
    (answers,) = (tmp_path / "results/answers").glob("*.parquet")
    assert answers.stem == "rows"
    for row in pq.read_table(answers).to_pylist():
        assert row["correct"] == (len(row["answer"]) % 2 == 0)
    file.write_text(SOURCE.replace("% 2 == 0", "% 2 == 1"))
    try:
        assert "verification.verifier.source" in one_error(run_command(*evaluate))
    finally:
        file.write_text(SOURCE)


@pytest.mark.parametrize(
    "override, words",
    [
        ("rewards.custom=FILE:spelt", "has no weight"),
        ("rewards.custom=FILE:spelled=1", "has no 'spelled': did you mean 'spelt'?"),
        ("rewards.custom=FILE:check=1", "cannot be called with the answers"),
        ("verification.verifier=FILE:chek", "has no 'chek': did you mean 'check'?"),
        ("verification.verifier=FILE:log(to='x')", "log(to='x')"),
        ("verification.verifier=exakt", "did you mean 'exact'?"),
        ("verification.verifier=judge", "config.verification.judge_url is empty"),
        ("prompt.function=FILE:rows", "must return a list of messages"),
        ("logging.to=FILE:rows", "cannot be called with step and metrics"),
        ("model.families=FILE:rows", "must be a dict of Family"),
        ("data.train=FILE:messages", "data source"),
    ],
)
def test_one_line_for_each_that_cannot_be_used(project, tmp_path, override, words):
    folder, _ = project
    override = override.replace("FILE", str(folder / "my.py"))
    line = command(folder, "steps=9", override)
    done = run_command(*line[:-1], f"--workdir={tmp_path / 'run'}")
    assert words in one_error(done)
    assert not (tmp_path / "run").exists()


def test_a_judge_in_a_run(project, tmp_path):
    """What it took is a metric; with nobody there, the run ends with one line."""
    folder, _ = project
    with Server("RIGHT") as server:
        judge = [
            "verification.verifier=judge",
            f"verification.judge_url={server.url}",
            "verification.judge_model=m",
            "verification.timeout=60",
        ]
        line = command(folder, "steps=1", "data.eval=", "rewards.custom=", *judge)[:-1]
        run_command(*line, f"--workdir={tmp_path / 'run'}", check=True)
        last = read_metrics(tmp_path / "run")[-1]
        asked = len(server.requests)
        assert 0 < asked <= 12 and last["accuracy"] == 1
        assert last["verifier/judge_calls"] == asked
        assert last["verifier/judge_tokens"] == 10 * asked
    done = run_command(*line, f"--workdir={tmp_path / 'alone'}")
    assert "100.0% of the last 12 answers could not be verified" in one_error(done)


def test_an_older_workdir_has_no_such_fields(project):
    folder, _ = project
    fields = json.loads((folder / "run/config.json").read_text())
    for section, names in {
        "rewards": ("custom", "custom_timeout"),
        "verification": ("verifier", "judge_url", "judge_model"),
        "prompt": ("function",),
        "model": ("families",),
    }.items():
        for name in names:
            del fields[section][name]
    (folder / "older").mkdir(exist_ok=True)
    (folder / "older/config.json").write_text(json.dumps(fields))
    assert workdir_lib.read_config(workdir_lib.epath.Path(folder / "older")).rewards.custom == ""
