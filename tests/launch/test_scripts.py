"""The launch scripts themselves: how they are written, what they check before anything happens, and
that dry runs print what runs call."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from support.cloud import CONFIG, HOSTILE, LAUNCH, SCRIPTS, VARIABLES, executable
from support.commands import PATIENCE, ROOT, one_error

# The scripts themselves

SOURCED = {"common.sh", "workers.sh", "manifests.sh"}


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
    assert script.name in SOURCED or "set -euo pipefail" in text and os.access(script, os.X_OK)


def test_gcloud_is_called_in_one_place():
    code = [
        line
        for s in SCRIPTS
        for line in s.read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    assert not [line for line in code if re.search(r"(^|[;&|(!] *|\bthen |\bdo )gcloud ", line)]
    assert [line for line in code if re.search(r"\bcall gcloud ", line)] == [
        'gcloud_call() { call gcloud "$@" --quiet; }'
    ]


def test_help_names_every_command_and_variable(cloud):
    done = cloud.run("--help")
    text = "".join((LAUNCH / name).read_text() for name in ("tpu_vm.sh", "common.sh", "workers.sh"))
    variables = set(re.findall(r"([A-Z_]+)=\$\{\1:-", text)) - {"RESERVATION"}
    commands = set(re.findall(r"^do_(\w+)\(\)", text, re.M))
    assert done.returncode == 0 and len(variables) >= 20 and len(commands) == 8
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
        (["create"], {"CAPACITY": "cheap"}, "on-demand spot flex-start reserved"),
        (["create"], {"CAPACITY": "flex-start"}, "needs MAX_RUN"),
        (["create"], {"CAPACITY": "flex-start", "MAX_RUN": "8d"}, "at most 168 hours"),
        (["create"], {"CAPACITY": "flex-start", "MAX_RUN": "6d25h"}, "at most 168 hours"),
        (["create"], {"CAPACITY": "flex-start", "MAX_RUN": "12"}, "12h or 1d12h"),
        (["create"], {"MAX_RUN": "4h"}, "only flex-start has an end"),
        (["create"], {"RESERVATION": "r"}, "here CAPACITY=reserved"),
        (["create"], {"VALID_UNTIL": "tomorrow"}, "VALID_UNTIL is 'tomorrow'"),
        (["create"], {"VALID_UNTIL": "0h"}, "VALID_UNTIL is '0h'"),
        (["create"], {"ADDRESSES": "none"}, "external, internal or iap"),
        (["create"], {"LABELS": "Team=a b"}, "LABELS is 'Team=a b'"),
        (["create"], {"TAGS": "a b"}, "TAGS is 'a b'"),
        (["create"], {"SLICES": "0"}, "SLICES is '0'"),
        (["create"], {"ACCELERATOR": "v6e"}, "ACCELERATOR is 'v6e'"),
        (["create"], {"ACCELERATOR": "v6e-12"}, "v6e-8, v6e-16"),
        (["create"], {"ACCELERATOR": "v6e-8 --spot"}, "ACCELERATOR is"),
        (["create"], {"ACCELERATOR": "tpu7x-8"}, "see launch/gce.sh, launch/gke.sh"),
        (["create"], {"NAME": "Slice_1"}, "NAME is 'Slice_1'"),
        (["create"], {"WAIT": "soon"}, "WAIT is 'soon'"),
        (["install"], {"ENV_FILE": "/no/such/file"}, "no such file"),
        (["run", "--auto-resume", CONFIG], {"WORKDIR": "/mnt/run"}, "needs gs://BUCKET/PATH"),
        (["run", "--auto-resume", CONFIG], {"CAPACITY": "cheap"}, "on-demand spot"),
        (["run", "--attach", CONFIG], {}, "--auto-resume"),
        (["run"], {}, "--config=configs/FILE.py"),
        (["run", "--config=configs/none.py"], {}, "neither a file of the clone"),
        (["run", "evaluate", "--auto-resume", "--model=x"], {}, "--auto-resume is for training"),
        (["run", "evaluate", "--model=x"], {"SLICES": "2"}, "evaluate works on one slice"),
        (["run", "evaluate", "results"], {}, "unexpected argument 'results'"),
        (["run", "evaluate", "--workdir=gs://b/run"], {}, "WORKDIR"),
        (["fetch"], {}, "fetch needs the names"),
        (["fetch", "../other"], {}, "a path below sar_jax_run"),
        (["fetch", "--all"], {}, "fetch does not take '--all'"),
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
    """There is a Python, but no pip that works."""
    text = f'#!/bin/bash\n[ "$1" = -I ] || exit 1\nexec {sys.executable} "$@"\n'
    broken = str(executable(cloud.here / "broken", text))
    assert "the wheel cannot be built" in one_error(cloud.run("create", PYTHON=broken))
    assert cloud.verbs() == ["auth"]
    assert "PYTHON is 'none'" in one_error(cloud.run("create", PYTHON="none"))


@pytest.mark.parametrize(
    "variables, script",
    [
        ({}, "tpu_vm"),
        ({"ACCELERATOR": "v5e-8"}, "tpu_vm"),
        ({"ACCELERATOR": "tpu7x-8"}, "gce"),
        ({"ACCELERATOR": "tpu7x-8", "CLUSTER": "c"}, "gke"),
        ({"ACCELERATOR": "nonsense"}, "tpu_vm"),
        ({"ACCELERATOR": ""}, "tpu_vm"),
    ],
)
def test_the_front_picks_the_script_that_has_the_slice(cloud, variables, script):
    same = [cloud.run("create", "--dry-run", script=s, **variables) for s in ("launch", script)]
    front, own = ((done.returncode, done.stdout, done.stderr) for done in same)
    assert front == own and front[1] + front[2]


# Dry runs and the real gcloud


DRY = [
    ["create"],
    ["run", "evaluate", "--model=gs://bucket/run", "--tasks=gsm8k", "--output=results"],
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
        (cloud.here / "worker-0/sar_jax_run/run.log").unlink(missing_ok=True)
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
