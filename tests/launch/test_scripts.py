"""The launch scripts themselves: how they are written, what they check before anything happens, and
that dry runs print what runs call."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from support.cloud import CONFIG, HOSTILE, LAUNCH, SCRIPTS, VARIABLES, executable
from support.commands import PATIENCE, ROOT, one_error

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
