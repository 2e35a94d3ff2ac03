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
