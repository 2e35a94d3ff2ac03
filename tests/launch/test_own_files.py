"""Files of a user's own functions reach every worker of a slice, under the same paths."""

import pytest
from support.cloud import CONFIG


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "rewards").mkdir(parents=True)
    (folder / "rewards/my.py").write_text("import helper\nfrom other import x\nimport numpy\n")
    (folder / "rewards/helper.py").write_text("    import deeper  # a comment\n")
    (folder / "rewards/deeper.py").write_text("")
    (folder / "rewards/other.py").write_text("import helper\n")
    (folder / "rewards/nobody.py").write_text("")
    (folder / "check.py").write_text("")
    (folder / "words.txt").write_text("wait")
    return folder


def sent(cloud, worker: int) -> set[str]:
    """What a worker has that is none of ours."""
    place = cloud.here / f"worker-{worker}/sar_jax_run"
    own = {str(f.relative_to(place)) for f in place.rglob("*.py")} | {
        f.name for f in place.glob("words*")
    }
    return {name for name in own if not name.startswith(("configs/", "venv/"))}


def test_they_and_what_they_import_are_on_all_workers_before_the_run_starts(cloud, project):
    cloud.ready()
    done = cloud.run(
        "run",
        CONFIG,
        "--config.rewards.custom=rewards/my.py:no_wait(word='a b')=0.5, rewards/my.py:g=1",
        "--config.verification.verifier=check.py:f",
        cwd=project,
        FILES="words.txt",
    )
    assert done.returncode == 0, done.stderr
    own = {f"rewards/{name}.py" for name in ("my", "helper", "deeper", "other")}
    assert sent(cloud, 0) == sent(cloud, 1) == own | {"check.py", "words.txt"}
    assert cloud.verbs()[-2:] == ["scp", "start"]


def test_a_run_without_any_sends_nothing(cloud, project):
    cloud.ready()
    assert cloud.run("run", CONFIG, cwd=project).returncode == 0
    assert "scp" not in cloud.verbs() and sent(cloud, 0) == set()


def test_they_come_along_when_a_slice_is_replaced(cloud, project):
    cloud.ready()
    # Runs until the slice is gone; on the slice that replaces it, to the end.
    cloud.set(
        states="ACTIVE SERVICE \nFAILED SERVICE broken\nACTIVE SERVICE ",
        play='touch "$PLAY.$$"; if [ "$(ls "$PLAY".* | wc -l)" -le 2 ]; then '
        "while [ -e worker.sh ]; do sleep 0.1; done; fi",
    )
    own = "--config.data.train=check.py:rows"
    done = cloud.run("run", "--auto-resume", CONFIG, own, cwd=project, POLL="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cloud.verbs().count("create") == 1 and sent(cloud, 1) == {"check.py"}


@pytest.mark.parametrize(
    "option, files",
    [
        ("--config.data.train=rows.jsonl", ["rows.jsonl"]),
        ("--config.data.train=gsm8k+data/mine.csv.gz:200", ["data/mine.csv.gz"]),
        ("--config.data.eval=data", ["data/mine.csv.gz", "data/test.parquet"]),
        ("--config.data.train=a+b.jsonl", ["a+b.jsonl"]),
        ("--config.data.train=my rows.jsonl", ["my rows.jsonl"]),
        ("--config.model.path=model/", ["model/config.json"]),
        ("--config.data.train=gs://bucket/rows.jsonl", []),
        ("--config.data.train=gsm8k+math:100", []),
        ("--config.model.path=Qwen/Qwen3-4B", []),
    ],
)
def test_data_and_models_of_ones_own_come_along(cloud, project, option, files):
    for name in ("rows.jsonl", "data/mine.csv.gz", "data/test.parquet", "model/config.json",
                 "a+b.jsonl", "my rows.jsonl"):  # fmt: skip
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(name)
    done = cloud.run("run", CONFIG, option, "--dry-run", cwd=project)
    assert done.returncode == 0, done.stderr
    place = cloud.here / "wheels/slice-1/own/sar_jax_run"
    found = {str(f.relative_to(place)): f for f in place.rglob("*") if f.is_file()}
    assert sorted(found) == files
    assert all(found[name].read_text() == name for name in files)
    copies = [line for line in done.stdout.splitlines() if f" scp --recurse {place} " in line]
    assert len(copies) == bool(files)


def test_a_config_of_ones_own_brings_what_it_names(cloud, project):
    (project / "mine.py").write_text(
        "from helper_of_config import x\n"
        'config.data.train = "rows.jsonl"  # not "other.jsonl"\n'
        'config.rewards.custom = "rewards/my.py:f=1"\n'
    )
    for name in ("rows.jsonl", "other.jsonl", "helper_of_config.py"):
        (project / name).write_text("")
    cloud.ready()
    done = cloud.run("run", "--config=mine.py", cwd=project)
    assert done.returncode == 0, done.stderr
    own = {f"rewards/{name}.py" for name in ("my", "helper", "deeper", "other")}
    assert sent(cloud, 0) == own | {"mine.py", "helper_of_config.py"}
    place = cloud.here / "worker-1/sar_jax_run"
    assert (place / "rows.jsonl").exists() and not (place / "other.jsonl").exists()


@pytest.mark.parametrize("option", ["data.train=rows.jsonl", "data.eval=gsm8k+no/rows.csv.gz:8"])
def test_data_that_is_not_there_is_named_and_nothing_starts(cloud, project, option):
    done = cloud.run("run", CONFIG, f"--config.{option}", cwd=project)
    assert done.returncode == 2 and "no such file here" in done.stderr
    assert cloud.verbs() == ["auth"]


def test_answers_to_be_explained_come_along_but_not_what_is_written(cloud, project):
    for name in ("answers.jsonl", "scored.jsonl"):
        (project / name).write_text("")
    words = ["explain", "--model=gs://b/run", "--input=answers.jsonl", "--output=scored.jsonl"]
    done = cloud.run("run", *words, "--dry-run", cwd=project)
    assert (
        done.returncode == 0 and "# files of yours for the workers: answers.jsonl\n" in done.stdout
    )


@pytest.mark.parametrize(
    "name, words",
    [
        ("chekk.py", "chekk.py: no such file here"),
        ("../project/check.py", "give a path below the folder that you are in"),
        ("ABSOLUTE/check.py", "give a path below the folder that you are in"),
    ],
)
def test_what_cannot_be_sent_is_named_and_nothing_starts(cloud, project, name, words):
    cloud.ready()
    name = name.replace("ABSOLUTE", str(project))
    done = cloud.run("run", CONFIG, f"--config.data.train={name}:rows", cwd=project)
    assert done.returncode == 2 and words in done.stderr
    assert "start" not in cloud.verbs()


def test_packages_are_installed_on_the_workers(cloud):
    cloud.set(states="ABSENT\nACTIVE SERVICE ")
    assert cloud.run("create").returncode == 0
    assert cloud.run("install", PACKAGES="first==1.2 second").returncode == 0
    for worker in cloud.here.glob("worker-*"):
        lines = (worker / "sar_jax_run/packages").read_text().splitlines()
        assert lines == ["first==1.2", "second"]
        asked = (worker / "asked").read_bytes().split(b"\0")
        assert b"packages" in asked
    assert cloud.run("install").returncode == 0
    assert not list(cloud.here.glob("worker-*/sar_jax_run/packages"))
