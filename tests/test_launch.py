"""The launch scripts: a fake gcloud records every call and plays the slice, on whose workers the
real worker.sh runs."""

import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest
import setuptools
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.commands import PATIENCE, ROOT, one_error, wait_for

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
CONFIG = "--config=configs/qwen3_4b.py"
VARIABLES = {
    "PROJECT": "my-project",
    "ZONE": "us-east5-b",
    "NAME": "slice-1",
    "ACCELERATOR": "v6e-16",
    "WORKDIR": "gs://bucket/run 1",
    "POLL": "0",
}

# Answers `describe` with the lines of the file `states`, one a call, the last one for ever. A
# created slice has two workers: folders, each with a Python that only notes what it is asked. `ssh`
# runs the command there, as a shell would.
GCLOUD = r"""#!{python}
import json, os, pathlib, shutil, subprocess, sys
here, args = pathlib.Path({here!r}), sys.argv[1:]
with open(here / "calls", "a") as f:
    f.write(json.dumps(args) + "\n")

def next_line(name):
    lines = (here / name).read_text().splitlines()
    if len(lines) > 1:
        (here / name).write_text("\n".join(lines[1:]) + "\n")
    return lines[0]

workers = sorted(here.glob("worker-*"))
if args[:2] == ["auth", "list"]:
    print((here / "account").read_text())
elif args[2:4] == ["queued-resources", "describe"]:
    state = next_line("states")
    if state == "ABSENT":
        sys.exit("ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: not found.")
    print("WARNING: a remark of gcloud", file=sys.stderr)
    print(state)
elif args[2:4] == ["queued-resources", "create"]:
    for number in range(2):
        shutil.rmtree(here / f"worker-{{number}}", ignore_errors=True)
        folder = here / f"worker-{{number}}" / "sar_jax_run" / "venv" / "bin"
        folder.mkdir(parents=True)
        shutil.copy(here / "python", folder / "python")
elif args[2:4] == ["tpu-vm", "describe"]:
    print(next_line("nodes"))
elif args[2:4] == ["tpu-vm", "scp"]:
    for worker in workers:
        shutil.copytree(args[5], worker / pathlib.Path(args[5]).name, dirs_exist_ok=True)
elif args[2:4] == ["tpu-vm", "ssh"]:
    if next_line("reachable") == "no":
        sys.exit(255)
    command = [a.partition("=")[2] for a in args if a.startswith("--command=")][0]
    chosen = [a.partition("=")[2] for a in args if a.startswith("--worker=")][0]
    codes = [subprocess.run(["bash", "-c", command], cwd=w,
                            env=os.environ | {{"HOME": str(w), "HOSTNAME_IS": w.name}}).returncode
             for w in workers if chosen in ("all", w.name[-1])]
    sys.exit(max(codes))
"""
WORKER_PYTHON = r"""#!/bin/bash
printf '%s\0' "$@" >>"$HOME/asked"
case $* in
-V) echo Python 3.12.0 ;;
*sar_jax.train*) printf '%s\0' "$@" >"$HOME/argv"; echo "secret is ${SECRET:-unset}"; . "$PLAY" ;;
esac
"""
# Builds an empty wheel of the right name at once.
BUILD_PYTHON = r"""#!/bin/bash
echo "$@" >>"$HERE/built"
while [ $# -gt 1 ]; do if [ "$1" = --wheel-dir ]; then out=$2; fi; shift; done
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$1/sar_jax/__init__.py")
touch "$out/sar_jax-$version-py3-none-any.whl"
"""


def executable(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


class Cloud:
    """A folder with the fake gcloud; `run` calls tpu_vm.sh with it on PATH."""

    def __init__(self, here: pathlib.Path):
        self.here = here
        self.bin = here / "bin"
        self.bin.mkdir()
        executable(self.bin / "gcloud", GCLOUD.format(python=sys.executable, here=str(here)))
        executable(self.bin / "hostname", '#!/bin/bash\necho "${HOSTNAME_IS:-here}"\n')
        executable(here / "python", WORKER_PYTHON)
        self.env = {
            k: v
            for k, v in os.environ.items()
            if k not in {*VARIABLES, "CAPACITY", "RUNTIME", "ENV_FILE"}
        } | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HERE": str(here),
            "PLAY": str(here / "play"),
            "PYTHON": str(executable(here / "build_python", BUILD_PYTHON)),
            "BUILD": str(here / "wheels"),
        }
        self.set(
            account="me@example.com",
            states="ACTIVE SERVICE ",
            nodes="READY",
            reachable="yes",
            play="exit 0",
        )

    def set(self, **files: str) -> None:
        for name, text in files.items():
            (self.here / name).write_text(text + "\n")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        env = {k: v for k, v in (self.env | VARIABLES | variables).items() if v}
        return subprocess.run(
            [LAUNCH / "tpu_vm.sh", *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )

    def calls(self) -> list[list[str]]:
        path = self.here / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self) -> list[str]:
        """The calls in short: `create`, `delete`, `scp`, and of ssh what worker.sh was asked."""
        found = []
        for call in self.calls():
            script = re.search(r"bash \S+/worker\.sh (\w+)", command_of(call) or "")
            found.append(script[1] if script else call[3] if call[0] == "compute" else call[0])
        return found

    def forget(self) -> None:
        (self.here / "calls").unlink(missing_ok=True)

    def ready(self) -> None:
        """A slice with everything installed, and nothing recorded."""
        self.set(states="ABSENT\nACTIVE SERVICE ")
        for command in ("create", "install"):
            done = self.run(command)
            assert done.returncode == 0, done.stderr
        self.forget()

    def wait_for_end(self) -> None:
        for worker in self.here.glob("worker-*"):
            wait_for((worker / "sar_jax_run" / "status").exists)

    def clean(self) -> None:
        for pid in self.here.glob("worker-*/sar_jax_run/pid"):
            try:
                group = os.getpgid(int(pid.read_text()))
                if group != os.getpgrp():
                    os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                pass


@pytest.fixture
def cloud(tmp_path):
    made = Cloud(tmp_path)
    yield made
    made.clean()


def command_of(call: list[str]) -> str | None:
    return next((a.removeprefix("--command=") for a in call if a.startswith("--command=")), None)


# The scripts themselves


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=pathlib.Path(sys.executable).parent
    )
    if not shellcheck:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, "-x", *SCRIPTS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_short_and_say_what_they_are(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert len(text.splitlines()) < 300 and max(map(len, text.splitlines())) <= 125
    for function in re.finditer(r"^(\w+)\(\) \{\n(.*?)^\}", text, re.M | re.S):
        assert function[2].count("\n") < 60, function[1]
    assert script.name == "slice.sh" or "set -euo pipefail" in text and os.access(script, os.X_OK)


def test_gcloud_is_called_in_one_place():
    code = [
        line
        for s in SCRIPTS
        for line in s.read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    assert [line for line in code if re.search(r"(^|[;&|(!] *|\bthen |\bdo )gcloud ", line)] == [
        '    if [[ ! $DRY_RUN ]]; then gcloud "$@" --quiet </dev/null; return; fi'
    ]


def test_help_names_every_command_and_variable(cloud):
    done = cloud.run("--help")
    text = (LAUNCH / "tpu_vm.sh").read_text()
    variables = set(re.findall(r"([A-Z_]+)=\$\{\1:-", text))
    commands = set(re.findall(r"^do_(\w+)\(\)", text, re.M))
    assert done.returncode == 0 and len(variables) >= 15 and len(commands) == 7
    assert not [word for word in variables | commands if not re.search(rf"\b{word}\b", done.stdout)]
    assert "set -euo" not in done.stdout and cloud.calls() == []


# What is checked before anything happens


@pytest.mark.parametrize(
    "command, missing",
    [
        (["create"], "PROJECT ZONE NAME ACCELERATOR"),
        (["install"], "PROJECT ZONE NAME"),
        (["delete", "--yes"], "PROJECT ZONE NAME"),
        (["run", CONFIG], "PROJECT ZONE NAME WORKDIR"),
        (["run", "--auto-resume", CONFIG], "PROJECT ZONE NAME WORKDIR ACCELERATOR"),
    ],
)
def test_missing_variables_are_named_all_at_once(cloud, command, missing):
    error = one_error(cloud.run(*command, **dict.fromkeys(VARIABLES, "")))
    assert f"not set: {missing} (" in error and cloud.calls() == []


@pytest.mark.parametrize(
    "command, variables, words",
    [
        (["create"], {"CAPACITY": "cheap"}, "on-demand, spot or reserved"),
        (["create"], {"ACCELERATOR": "v6e"}, "ACCELERATOR is 'v6e'"),
        (["create"], {"ACCELERATOR": "v6e-8 --spot"}, "ACCELERATOR is"),
        (["create"], {"ACCELERATOR": "tpu7x-8"}, "GKE"),
        (["create"], {"NAME": "Slice_1"}, "NAME is 'Slice_1'"),
        (["create"], {"WAIT": "soon"}, "WAIT is 'soon'"),
        (["install"], {"ENV_FILE": "/no/such/file"}, "no such file"),
        (["run", "--auto-resume", CONFIG], {"WORKDIR": "/mnt/run"}, "needs gs://BUCKET/PATH"),
        (["run", "--auto-resume", CONFIG], {"CAPACITY": "cheap"}, "on-demand, spot or reserved"),
        (["run", "--attach", CONFIG], {}, "--auto-resume"),
        (["run"], {}, "--config=configs/FILE.py"),
        (["run", "--config=configs/none.py"], {}, "--config=configs/FILE.py"),
        (["run", CONFIG, "--workdir=gs://other/run"], {}, "WORKDIR"),
        (["run", CONFIG, "configs/tiny.py"], {}, "unexpected argument 'configs/tiny.py'"),
        (["logs", "--worker=all"], {}, "WORKER is 'all'"),
        (["delete", "--force"], {}, "delete does not take '--force'"),
        (["start"], {}, "not 'start'"),
        ([], {}, "is needed"),
    ],
)
def test_wrong_settings_are_one_error_and_call_nothing(cloud, command, variables, words):
    assert words in one_error(cloud.run(*command, **variables))
    assert cloud.calls() == []


@pytest.mark.parametrize("command", ["create", "install", "logs", "status", "stop", "delete"])
def test_without_gcloud_or_login_there_is_one_error(cloud, command):
    more = ["--yes"] if command == "delete" else []
    cloud.set(account="")
    assert "gcloud auth login" in one_error(cloud.run(command, *more))
    assert cloud.verbs() == ["auth"]
    tools = cloud.here / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "sed", "cat", "grep"):
        (tools / name).symlink_to(shutil.which(name))
    assert "gcloud is missing" in one_error(cloud.run(command, *more, PATH=str(tools)))


def test_a_wheel_that_cannot_be_built_stops_create(cloud):
    broken = str(executable(cloud.here / "broken", "#!/bin/bash\nexit 1\n"))
    assert "the wheel cannot be built" in one_error(cloud.run("create", PYTHON=broken))
    assert cloud.verbs() == ["auth"]


# Create and delete


@pytest.mark.parametrize(
    "variables, flags",
    [
        ({}, []),
        ({"CAPACITY": "spot"}, ["--spot"]),
        ({"CAPACITY": "reserved"}, ["--reserved"]),
        (
            {"CAPACITY": "reserved", "RESERVATION_PROJECT": "owner"},
            ["--reserved", "--reservation-host-project=owner"],
        ),
        (
            {"NETWORK": "n", "SUBNETWORK": "s", "SERVICE_ACCOUNT": "a@b"},
            ["--network=n", "--subnetwork=s", "--service-account=a@b"],
        ),
    ],
)
def test_create_asks_for_the_capacity_and_waits(cloud, variables, flags):
    cloud.set(
        states="ABSENT\nWAITING_FOR_RESOURCES SERVICE \n"
        "PROVISIONING SERVICE \nPROVISIONING SERVICE \nACTIVE SERVICE "
    )
    done = cloud.run("create", **variables)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["auth", "describe", "create", *["describe"] * 4]
    assert cloud.calls()[2] == [
        "compute",
        "tpus",
        "queued-resources",
        "create",
        "slice-1",
        "--project=my-project",
        "--zone=us-east5-b",
        "--node-id=slice-1",
        "--accelerator-type=v6e-16",
        "--runtime-version=v2-alpha-tpuv6e",
        *flags,
        "--quiet",
    ]
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "WAITING_FOR_RESOURCES",
        "PROVISIONING",
        "ACTIVE",
    ]


@pytest.mark.parametrize(
    "accelerator, runtime",
    [
        ("v4-16", "tpu-ubuntu2204-base"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5p-16", "v2-alpha-tpuv5"),
        ("v6e-1", "v2-alpha-tpuv6e"),
    ],
)
def test_the_image_follows_from_the_accelerator(cloud, accelerator, runtime):
    assert (
        f" --runtime-version={runtime} "
        in cloud.run("create", "--dry-run", ACCELERATOR=accelerator).stdout
    )
    assert (
        " --runtime-version=mine "
        in cloud.run("create", "--dry-run", ACCELERATOR=accelerator, RUNTIME="mine").stdout
    )


def test_create_again_goes_on_waiting(cloud):
    cloud.set(states="WAITING_FOR_RESOURCES SERVICE \nACTIVE SERVICE ")
    assert cloud.run("create").returncode == 0
    assert "create" not in cloud.verbs()


@pytest.mark.parametrize(
    "state, words",
    [
        ("FAILED SERVICE no more quota for v6e", "no more quota for v6e"),
        ("SUSPENDED SERVICE ", "tpu_vm.sh delete"),
        ("WAITING_FOR_RESOURCES SERVICE ", "keeps its place in the queue"),
    ],
)
def test_create_says_why_there_is_no_slice(cloud, state, words):
    cloud.set(states=f"ABSENT\n{state}")
    done = cloud.run("create", WAIT="1", POLL="1")
    assert done.returncode == 1 and words in done.stdout


def test_delete_without_an_answer_deletes_nothing(cloud):
    assert "--yes" in one_error(cloud.run("delete"))
    assert cloud.verbs() == ["auth"]
    assert cloud.run("delete", "--yes").returncode == 0
    assert cloud.calls()[-1] == [
        "compute",
        "tpus",
        "queued-resources",
        "delete",
        "slice-1",
        "--project=my-project",
        "--zone=us-east5-b",
        "--force",
        "--quiet",
    ]


@pytest.mark.parametrize("answer, deletes", [("n", 0), ("", 0), ("yes, but no", 0), ("y", 1)])
def test_delete_asks_at_a_terminal(cloud, answer, deletes):
    parent, child = os.openpty()
    process = subprocess.Popen(
        [LAUNCH / "tpu_vm.sh", "delete"],
        env=cloud.env | VARIABLES,
        stdin=child,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.write(parent, f"{answer}\n".encode())
    status = process.wait(timeout=PATIENCE)
    os.close(parent), os.close(child)
    assert cloud.verbs().count("delete") == deletes and status == (0 if deletes else 2)


# Install and run


def test_install_reaches_all_workers(cloud, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.write_text("SECRET='hush hush'\n")
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
    assert "secret is hush hush" in (tmp_path / "worker-0/sar_jax_run/train.log").read_text()
    # not on a command line, which others can see
    assert "hush" not in (tmp_path / "calls").read_text()


HOSTILE = [
    '--config.prompt.system=it\'s "$HOME" `id` $(id) \\ *; false ~ & | # ~\ttab',
    "--config.x=",
    "--config.y=two\nlines",
    "--config.z=  two  blanks  ",
    "--config.data.train=a+b,c=ü",
]


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
    for script in ("start", "install"):  # also where somebody else was quicker than the look
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
    assert "saved" in (folder / "train.log").read_text()
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


def test_logs_follow_one_worker(cloud):
    cloud.set(states="ACTIVE SERVICE ")
    cloud.run("logs", "--worker=3")
    call = cloud.calls()[-1]
    assert "--worker=3" in call and "tail -n 200 -F sar_jax_run/train.log" in command_of(call)


# Preemption


def test_a_completed_run_ends_the_watching(cloud):
    cloud.ready()
    done = cloud.run("run", "--auto-resume", CONFIG)
    assert done.returncode == 0 and "the run is complete" in done.stdout
    assert not {"create", "delete", "scp"} & set(cloud.verbs())


def test_a_failed_run_is_looked_at_twice_and_not_started_again(cloud):
    cloud.ready()
    cloud.set(play="exit 2")
    done = cloud.run("run", "--auto-resume", CONFIG, POLL="1")
    # one line for each worker
    assert done.returncode == 1 and done.stdout.count("ended with status 2") == 2
    assert cloud.verbs() == ["auth", "look", "start", "describe", "look", "describe", "look"]


@pytest.mark.parametrize(
    "states, nodes, reachable",
    [
        (
            "ACTIVE SERVICE \nSUSPENDING SERVICE \nSUSPENDED SERVICE \n"
            "PROVISIONING SERVICE \nACTIVE SERVICE ",
            "READY",
            "yes",
        ),
        ("ACTIVE SERVICE \nFAILED SERVICE broken\nACTIVE SERVICE ", "READY", "yes"),
        (
            "ACTIVE SERVICE \nACTIVE SERVICE \nACTIVE SERVICE ",
            "PREEMPTED",
            "yes\nyes\nyes\nno\nyes",
        ),
    ],
)
def test_after_a_preemption_the_slice_is_created_again_and_the_run_goes_on(
    cloud, states, nodes, reachable
):
    cloud.ready()
    # Runs until the slice is gone; on the slice that replaces it, to the end.
    cloud.set(
        states=states,
        nodes=nodes,
        reachable=reachable,
        play='touch "$PLAY.$$"; if [ "$(ls "$PLAY".* | wc -l)" -le 2 ]; then '
        "while [ -e worker.sh ]; do sleep 0.1; done; fi",
    )
    done = cloud.run("run", "--auto-resume", CONFIG, "--config.steps=7", CAPACITY="spot", POLL="1")
    assert done.returncode == 0, done.stdout + done.stderr
    verbs = cloud.verbs()
    again = verbs[verbs.index("delete") :]
    assert [v for v in again if v != "describe"][:6] == [
        "delete",
        "create",
        "look",
        "ssh",
        "scp",
        "install",
    ]
    assert verbs.count("create") == 1 and verbs.count("start") == 2
    first, second = [
        command_of(c) for c in cloud.calls() if "worker.sh start" in (command_of(c) or "")
    ]
    assert (
        first == second and "--workdir=gs://bucket/run\\ 1" in first and "--config.steps=7" in first
    )
    assert "--spot" in next(c for c in cloud.calls() if "create" in c)
    # without it, machines that are left refuse it
    assert "--force" in next(c for c in cloud.calls() if "delete" in c)
    (shipped,) = {c[5] for c in cloud.calls() if "scp" in c}
    assert pathlib.Path(shipped).parent.parent == cloud.here / "wheels/slice-1"


def test_the_attempts_are_bounded(cloud):
    cloud.ready()
    cloud.set(states="SUSPENDED SERVICE ")
    assert "giving up on slice-1 after 3 attempts" in one_error(
        cloud.run("run", "--auto-resume", CONFIG, RESUMES="3")
    )
    assert cloud.verbs().count("create") == cloud.verbs().count("delete") == 3


def test_a_failed_installation_is_tried_again_without_losing_the_slice(cloud):
    cloud.ready()
    cloud.set(states="SUSPENDED SERVICE \nACTIVE SERVICE ", reachable="yes\nyes\nno\nyes")
    done = cloud.run("run", "--auto-resume", CONFIG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cloud.verbs().count("create") == 1 and "attempt 2 of 20" in done.stdout


@pytest.mark.parametrize(
    "states", ["ABSENT", "SUSPENDED USER ", "DELETING USER ", "SUSPENDED SERVICE \nABSENT"]
)
def test_what_somebody_deleted_is_not_created_again(cloud, states):
    cloud.ready()
    cloud.set(states=states)
    assert "not creating it again" in one_error(cloud.run("run", "--auto-resume", CONFIG))
    assert cloud.verbs().count("create") == (1 if "SERVICE" in states else 0)


def test_attach_watches_without_starting(cloud):
    cloud.ready()
    cloud.run("run", CONFIG)
    cloud.wait_for_end()
    cloud.forget()
    assert cloud.run("run", "--auto-resume", "--attach", CONFIG).returncode == 0
    assert cloud.verbs() == ["auth", "describe", "look"]


# Dry runs and the real gcloud

DRY = [
    ["create"],
    ["install"],
    ["run", CONFIG, *HOSTILE],
    ["run", "--auto-resume", CONFIG],
    ["logs"],
    ["stop", "--kill"],
    ["delete", "--yes"],
    ["status"],
]


@pytest.mark.parametrize("command", DRY, ids=lambda c: " ".join(c[:2])[:20])
def test_a_dry_run_prints_what_a_run_calls(cloud, command):
    if command[0] != "create":
        cloud.ready()
    cloud.set(states="ABSENT\nACTIVE SERVICE " if command[0] == "create" else "ACTIVE SERVICE ")
    before = cloud.calls()
    dry = cloud.run(*command, "--dry-run", CAPACITY="spot", POLL="3600")
    assert dry.returncode == 0 and cloud.calls() == before, dry.stderr
    if command[0] != "logs":
        assert cloud.run(*command, CAPACITY="spot", POLL="1").returncode == 0
    else:
        (cloud.here / "worker-0/sar_jax_run/train.log").unlink(missing_ok=True)
        executable(cloud.bin / "tail", "#!/bin/bash\n")
        cloud.run(*command)
    real = cloud.calls()
    cloud.wait_for_end() if command[0] == "run" else None
    cloud.forget()
    subprocess.run(
        ["bash", "-c", dry.stdout],
        env=cloud.env,
        check=False,
        timeout=PATIENCE,
        capture_output=True,
    )
    assert cloud.calls() == real and real


def test_a_dry_run_needs_no_gcloud(cloud):
    tools = cloud.here / "tools"
    tools.mkdir()
    for name in "bash basename cat cp dirname env git grep ls mkdir mktemp mv rm sed touch".split():
        (tools / name).symlink_to(shutil.which(name))
    done = cloud.run("create", "--dry-run", PATH=str(tools))
    assert done.returncode == 0 and " create slice-1 " in done.stdout, done.stderr


def test_the_real_gcloud_knows_every_flag(cloud, tmp_path):
    """Its parser runs before it asks for credentials, of which it has none here; the proxy keeps it
    off the network."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        pytest.skip("gcloud is not installed")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CLOUDSDK_", "GOOGLE_"))} | {
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "https_proxy": "http://127.0.0.1:9",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
    }
    everything = {
        "CAPACITY": "reserved",
        "RESERVATION_PROJECT": "o",
        "NETWORK": "n",
        "SUBNETWORK": "s",
        "SERVICE_ACCOUNT": "a@b.c",
    }
    lines = {}
    for command in (["create"], ["install"], ["run", CONFIG], ["logs"], ["delete"]):
        for line in cloud.run(*command, "--dry-run", **everything).stdout.splitlines():
            if line.startswith("gcloud compute"):
                words = shlex.split(line)[1:]
                lines[tuple(w.split("=")[0] for w in words)] = words
    (spot,) = [
        shlex.split(line)[1:]
        for line in cloud.run("create", "--dry-run", CAPACITY="spot").stdout.splitlines()
        if " create " in line
    ]
    node = [
        "compute",
        "tpus",
        "tpu-vm",
        "describe",
        "s",
        "--project=p",
        "--zone=z",
        "--format=value(state)",
        "--quiet",
    ]
    wrong = [*node, "--no-such-flag"]
    tried = [*lines.values(), spot, node, wrong]
    assert len(tried) >= 8
    running = [
        subprocess.Popen(
            [gcloud, *words],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in tried
    ]
    errors = [process.communicate(timeout=PATIENCE)[1] for process in running]
    assert "unrecognized arguments: --no-such-flag" in errors.pop()
    for words, error in zip(tried, errors):
        assert "active account" in error, (words, error)


# The wheel, the pinned versions, GKE, CPU


def test_the_wheel_carries_the_commit_and_everything_in_it(tmp_path):
    # "0" is yes: pip negates flags that begin with NO.
    env = os.environ | {"PYTHON": sys.executable, "PIP_NO_BUILD_ISOLATION": "0"}
    done = subprocess.run([LAUNCH / "wheel.sh", tmp_path], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = pathlib.Path(done.stdout.strip())
    assert {p.name for p in folder.iterdir()} - {p.name for p in folder.glob("*.whl")} == {
        "configs",
        "constraints.txt",
        "worker.sh",
    }
    (wheel,) = folder.glob("*.whl")
    version = re.fullmatch(
        r"sar_jax-(.+\+g[0-9a-f]{12}(\.d[0-9a-f]{8})?)-py3-none-any\.whl", wheel.name
    )[1]
    with zipfile.ZipFile(wheel) as opened:
        assert f'__version__ = "{version}"' in opened.read("sar_jax/__init__.py").decode()
        packed = set(opened.namelist())
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "sar_jax").rglob("*.py")}
    assert sources <= packed and any(name.startswith("sar_jax/assets/tiny/") for name in packed)
    built = wheel.stat().st_mtime_ns
    subprocess.run(
        [LAUNCH / "wheel.sh", tmp_path],
        env=env | {"PYTHON": "false"},
        capture_output=True,
        check=True,
    )
    assert wheel.stat().st_mtime_ns == built


def test_a_changed_clone_is_another_version(tmp_path):
    clone = tmp_path / "clone"
    for name in (
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "configs",
        "launch",
        "sar_jax/__init__.py",
    ):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, clone / name)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=clone, check=True)
    env = os.environ | {
        "PYTHON": str(executable(tmp_path / "python", BUILD_PYTHON)),
        "HERE": str(tmp_path),
    }

    def version():
        folder = subprocess.check_output(
            [clone / "launch/wheel.sh", tmp_path / "out"], env=env, text=True
        )
        return pathlib.Path(folder.strip()).parent.name

    found = [version()]
    (clone / "notes.txt").write_text("not part of it")
    assert [version()] == found and ".d" not in found[0]
    (clone / "sar_jax/new.py").write_text("1")
    found.append(version())
    (clone / "sar_jax/new.py").write_text("2")
    found.append(version())
    (clone / "configs/tiny.py").write_text("3")
    found.append(version())
    assert len(set(found)) == 4 and all(".d" in v for v in found[1:])


def test_every_requirement_is_pinned(monkeypatch):
    """If this fails after a change of setup.py: make constraints.txt again, by the command at its
    head."""
    lines = (LAUNCH / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(p.name): str(p.specifier).removeprefix("==") for p in pins}
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path(str(ROOT / "setup.py"))
    required = given["install_requires"] + given["extras_require"]["tpu"]
    assert len(required) > 15 and {"jaxlib", "libtpu"} <= set(versions)
    for requirement in map(Requirement, required):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            requirement
        )


def test_the_jobset_fits_its_slice_and_its_command_is_ours():
    jobset = yaml.safe_load((LAUNCH / "gke.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    x, y = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert x * y == spec["completions"] * container["resources"]["limits"]["google.com/tpu"]
    assert spec["parallelism"] == spec["completions"] and job["replicas"] == 1
    # Restarted as a whole, in the same workdir, but not on an error of the settings (exit status
    # 2).
    assert spec["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [2],
    }
    assert container["command"][-2:] == ["-m", "sar_jax.train"]
    assert [a for a in container["args"] if a.startswith("--workdir=gs://")]


def test_the_jobset_s_settings_are_settings_of_the_trainer():
    jobset = yaml.safe_load((LAUNCH / "gke.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    check = (
        "import sys; from absl import flags; from sar_jax import checks, cli, config, train\n"
        "get = cli.config_flag(config.TrainConfig); assert len(flags.FLAGS(sys.argv)) == 1\n"
        "checks.check(get()); print(flags.FLAGS.workdir)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, *container["args"]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.stdout.strip() == "gs://BUCKET/runs/qwen3_4b", done.stderr


def test_cpu_runs_a_command_on_virtual_devices(tmp_path):
    python = executable(tmp_path / "python", '#!/bin/bash\necho "$JAX_PLATFORMS|$XLA_FLAGS|$*"\n')

    def run(*arguments, **env):
        return subprocess.run(
            [LAUNCH / "cpu.sh", *arguments],
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
            | {"PYTHON": str(python)}
            | env,
        )

    platform, flags, command = (
        run("--config=configs/tiny.py", "--config.x=a b").stdout.strip().split("|")
    )
    assert (
        platform == "cpu" and command == "-m sar_jax.train --config=configs/tiny.py --config.x=a b"
    )
    assert "--xla_force_host_platform_device_count=8" in flags.split()
    _, flags, command = (
        run("pretrain", "--config=c", DEVICES="4", XLA_FLAGS="--xla_mine").stdout.strip().split("|")
    )
    assert {"--xla_mine", "--xla_force_host_platform_device_count=4"} <= set(flags.split())
    assert command == "-m sar_jax.pretrain --config=c"
    assert "DEVICES is 'many'" in one_error(run(DEVICES="many"))
    flags = run("explain").stdout.split("|")[1]
    # XLA ends the process at a flag that it does not know.
    done = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.device_count())"],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )
    assert done.stdout.strip() == "8", done.stderr
