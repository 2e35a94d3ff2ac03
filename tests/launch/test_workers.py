"""Workers of a slice: what is installed on them, and how a run starts there."""

import shutil
import subprocess

import pytest
from support.cloud import CONFIG, HOSTILE, VARIABLES, command_of, environment_of
from support.commands import ROOT, one_error, wait_for


def test_install_reaches_all_workers(cloud, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.write_text("SECRET=hush hush\n")
    cloud.set(states="ABSENT\nACTIVE SERVICE ")
    assert cloud.run("create").returncode == 0
    cloud.forget()
    done = cloud.run("install", ENV_FILE=str(secrets))
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["auth", "look", "ssh", "scp", "install"]
    assert all("--worker=all" in call for call in cloud.calls()[1:])
    commit = subprocess.check_output(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, text=True
    ).strip()
    for number in range(2):
        folder = tmp_path / f"worker-{number}" / "sar_jax_run"
        (wheel,) = folder.glob("*.whl")
        asked = (folder.parent / "asked").read_text().split("\0")
        assert (
            f"+g{commit}" in wheel.name
            and f"./{wheel.name}[tpu]" in asked
            and "constraints.txt" in asked
        )
        assert (folder / "installed").read_text().strip() == wheel.name
        assert (folder / "configs/qwen3_4b.py").is_file() and (
            folder / "env"
        ).stat().st_mode & 0o077 == 0
    assert cloud.run("run", CONFIG).returncode == 0
    cloud.wait_for_end()
    assert "secret is hush hush" in (tmp_path / "worker-0/sar_jax_run/run.log").read_text()
    # not on a command line, which others can see
    assert "hush" not in (tmp_path / "calls").read_text()


# what a shell would run or take apart
VALUES = {
    "PLAIN": "hf_1234",
    "BLANKS": "  two  blanks  ",
    "COMMAND": "$(touch ran)`touch ran`; touch ran & touch ran | touch ran",
    "DOLLAR": "$HOME ${HOME} \\$HOME",
    "QUOTES": "'single' \"double\" it's",
    "QUOTED": "'as a shell has it'",
    "GLOB": "* ? [a] ~",
    "HASH": "a # no remark",
    "EQUALS": "--xla_a=1 --xla_b=2",
    "UNICODE": "ü \u2028",
    "EMPTY": "",
    "_LOW_1er": "x",
}


def test_lines_of_the_file_are_values_and_nothing_is_run(cloud):
    """With remarks, empty lines, ends of lines as Windows has them, and no end of the last one."""
    secrets = cloud.here / "secrets"
    lines = [f"{name}={value}" for name, value in VALUES.items()]
    secrets.write_bytes(
        b"# a remark, $(touch ran)\n\n  # another\n   \n"
        + "\n".join(lines).encode()
        + b"\r\nBYTES=\xff\xfe\nLAST=no end"
    )
    cloud.set(states="ABSENT\nACTIVE SERVICE ", play='env -0 >"$HOME/environment"; exit 0')
    done = cloud.run("create")
    done = cloud.run("install", ENV_FILE=str(secrets))
    assert done.returncode == 0, done.stderr
    assert "note: ENV_FILE, line 10: the quotes are part of the value of QUOTED" in done.stderr
    assert cloud.run("run", CONFIG).returncode == 0
    cloud.wait_for_end()
    expected = {name.encode(): value.encode() for name, value in VALUES.items()}
    expected |= {b"BYTES": b"\xff\xfe", b"LAST": b"no end"}
    for number in range(2):
        found = (cloud.here / f"worker-{number}/environment").read_bytes().split(b"\0")
        assert expected.items() <= dict(entry.split(b"=", 1) for entry in found if entry).items()
    assert not list(cloud.here.rglob("ran"))


@pytest.mark.parametrize(
    "line", ["HF_TOKEN hush", "export HF_TOKEN=hush", "1A=hush", "A-B=hush", "=hush", "UID=hush",
             "A =hush", "\ufeffA=hush", "$(touch ran)", "source ./hush"]
)  # fmt: skip
@pytest.mark.parametrize("where", ["here", "there"])
def test_a_line_that_is_none_is_named_and_nothing_starts(cloud, line, where):
    """Before anything is called; and by the workers, whose file somebody may have changed."""
    text = f"A=1\n\n{line}\nB=2\n"
    if where == "here":
        (cloud.here / "secrets").write_text(text)
        done = cloud.run("create", ENV_FILE=str(cloud.here / "secrets"))
        assert not cloud.calls()
    else:
        cloud.ready()
        for number in range(2):
            (cloud.here / f"worker-{number}/sar_jax_run/env").write_text(text)
        done = cloud.run("run", CONFIG)
        assert not list(cloud.here.glob("worker-*/argv"))
    assert done.returncode == 2 and "error: ENV_FILE, line 3: " in done.stderr
    assert "hush" not in done.stderr.replace("'export'", "") and not list(cloud.here.rglob("ran"))


def test_arguments_arrive_as_they_were_given(cloud):
    cloud.ready()
    done = cloud.run("run", CONFIG, *HOSTILE)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["auth", "look", "start"] and "--worker=all" in cloud.calls()[2]
    cloud.wait_for_end()
    for number in range(2):
        argv = (cloud.here / f"worker-{number}/argv").read_text().split("\0")[:-1]
        assert argv == [
            "-u",
            "-m",
            "sar_jax.train",
            CONFIG,
            *HOSTILE,
            f"--workdir={VARIABLES['WORKDIR']}",
        ]


def test_a_run_outlives_its_session_and_refuses_a_second(cloud):
    cloud.ready()
    cloud.set(play='trap "echo saved; exit 130" TERM; while true; do sleep 0.1; done')
    # returns at once, and so do the sessions on the workers
    assert cloud.run("run", CONFIG).returncode == 0
    status = cloud.run("status")
    assert (
        status.stdout.startswith("slice-1: ACTIVE")
        and status.stdout.count(": running; installed sar_jax-") == 2
    )
    cloud.forget()
    for command in (["run", CONFIG], ["install"]):
        assert "a run is under way" in one_error(cloud.run(*command))
    assert cloud.verbs() == ["auth", "look", "auth", "look"]
    folder = cloud.here / "worker-1/sar_jax_run"
    for script in ("start train", "install"):  # also where somebody else was quicker than the look
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"flock() {{ shift $(($# - 1)); command flock -n $1; }}; export -f flock; "
                f"bash worker.sh {script}",
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            env=cloud.env,
        )
        assert done.returncode == 75 and "under way" in done.stdout
    assert cloud.run("stop").returncode == 0
    cloud.wait_for_end()
    assert cloud.run("status").stdout.count(": ended with status 130;") == 2
    assert "saved" in (folder / "run.log").read_text()
    assert cloud.run("run", CONFIG).returncode == 0
    assert cloud.run("stop", "--kill").returncode == 0
    assert cloud.run("status").stdout.count("ended without a status") == 2
    assert "no run" in cloud.run("stop").stdout


def test_run_wants_the_wheel_of_this_clone_on_every_worker(cloud):
    cloud.ready()
    (cloud.here / "worker-1/sar_jax_run/installed").write_text("sar_jax-0.0.1-py3-none-any.whl\n")
    assert "install' brings it" in one_error(cloud.run("run", CONFIG))
    shutil.rmtree(cloud.here / "worker-1/sar_jax_run")
    done = cloud.run("run", CONFIG)
    assert one_error(done) and "worker-1: nothing installed" in done.stderr
    assert not list(cloud.here.glob("worker-*/argv"))


def test_workers_that_cannot_be_reached_are_an_error(cloud):
    cloud.ready()
    cloud.set(reachable="no")
    for command in (["run", CONFIG], ["install"], ["status"]):
        assert "cannot be reached" in one_error(cloud.run(*command))


@pytest.mark.parametrize(
    "words, platform",
    [
        (["evaluate", "--model=gs://bucket/run 1", "--tasks=gsm8k", "--output=results"], None),
        (["explain", "--model=gs://bucket/run", "--answer_types=gsm8k:8", "--html=x.html"], None),
        (["export", "--workdir=gs://bucket/run", "--output=hf"], "cpu"),
        (["report", "gs://bucket/run 1", "--output=page.html"], "cpu"),
    ],
    ids=lambda words: words and words[0],
)
@pytest.mark.parametrize("accelerator, alone", [("v6e-8", False), ("v6e-16", True)])
def test_other_commands_are_one_process_on_the_first_worker(
    cloud, words, platform, accelerator, alone
):
    """On a slice of several machines with the chips of one, for the others do not take part."""
    cloud.ready()
    done = cloud.run("run", *words, ACCELERATOR=accelerator, WORKDIR="", JAX_PLATFORMS="")
    assert done.returncode == 0, done.stderr
    first = cloud.here / "worker-0"
    wait_for((first / "sar_jax_run/status").exists)
    assert not (cloud.here / "worker-1/argv").exists()
    argv = (first / "argv").read_text().split("\0")[:-1]
    assert argv == ["-u", "-m", f"sar_jax.{words[0]}", *words[1:]]
    found = environment_of(first)
    assert found.get("JAX_PLATFORMS") == platform
    bounds = found.get("TPU_PROCESS_BOUNDS"), found.get("TPU_CHIPS_PER_PROCESS_BOUNDS")
    assert bounds == (("1,1,1", "2,2,1") if alone else (None, None))


def test_what_a_command_wrote_is_fetched(cloud, tmp_path):
    cloud.ready()
    cloud.set(play='mkdir results && echo good >results/results.md && echo page >"a page.html"')
    words = ["evaluate", "--model=m", "--output=results"]
    assert cloud.run("run", *words).returncode == 0
    wait_for((cloud.here / "worker-0/sar_jax_run/status").exists)
    here = tmp_path / "here"
    here.mkdir()
    assert cloud.run("fetch", "results", "a page.html", cwd=here).returncode == 0
    assert (here / "results/results.md").read_text() == "good\n"
    assert (here / "a page.html").read_text() == "page\n"


def test_logs_follow_one_worker(cloud):
    cloud.set(states="ACTIVE SERVICE ")
    cloud.run("logs", "--worker=3")
    call = cloud.calls()[-1]
    assert "--worker=3" in call and "tail -n 200 -F sar_jax_run/run.log" in command_of(call)
