"""What the scripts and the pages call, read by the real programs' parsers where they are installed:
gcloud, kubectl and XPK. None of them reaches a network."""

import base64
import concurrent.futures
import os
import re
import shlex
import shutil
import string
import subprocess

import pytest
import yaml
from support import docs
from support.cloud import CONFIG, Cloud
from support.commands import PATIENCE, ROOT

EVERYTHING = {
    "CAPACITY": "reserved",
    "RESERVATION_PROJECT": "o",
    "NETWORK": "n",
    "SUBNETWORK": "s",
    "SERVICE_ACCOUNT": "a@b.c",
    "ADDRESSES": "internal",
    "VALID_UNTIL": "6h",
    "LABELS": "team=a,run=b",
    "TAGS": "one,two",
}
FLEX = {"CAPACITY": "flex-start", "MAX_RUN": "1d12h", "VALID_UNTIL": ""}
GCE = EVERYTHING | {"CAPACITY": "on-demand", "VALID_UNTIL": "", "ADDRESSES": "iap"}
GROUP = GCE | {"ACCELERATOR": "tpu7x:2x2x2"}
GKE = {"CLUSTER": "c", "LOCATION": "us-east5", "IMAGE": "i", "WORKDIR": "gs://b/r"}
DRY = [
    *(("tpu_vm", words, EVERYTHING) for words in (["create"], ["install"], ["run", CONFIG])),
    *(("tpu_vm", words, EVERYTHING) for words in (["logs"], ["fetch", "x"], ["delete"])),
    ("tpu_vm", ["create"], EVERYTHING | {"CAPACITY": "spot"}),
    ("tpu_vm", ["create"], EVERYTHING | FLEX | {"SLICES": "2"}),
    ("tpu_vm", ["fetch", "x"], {"ADDRESSES": "iap"}),
    ("gce", ["create"], GCE | {"ACCELERATOR": "v6e-8"}),
    ("gce", ["create"], GROUP | {"CAPACITY": "reservation", "RESERVATION": "r", "MAX_RUN": "1h"}),
    ("gce", ["create"], GROUP | {"CAPACITY": "spot"}),
    ("gce", ["create"], {"ACCELERATOR": "v6e-8"} | FLEX),
    ("gce", ["fetch", "x"], GROUP),
    ("gce", ["install"], {"ACCELERATOR": "v6e-8", "ADDRESSES": "internal"}),
    ("gce", ["delete"], GROUP),
    ("gke", ["create"], GKE | {"ACCELERATOR": "tpu7x:2x2x2", "LABELS": "a=b"}),
    ("gke", ["create"], GKE | FLEX | {"QUEUE": "q"}),
    ("gke", ["create"], GKE | {"CAPACITY": "reservation", "RESERVATION": "r"}),
    ("gke", ["run", CONFIG], GKE | {"FILES": "pyproject.toml"}),
    ("gke", ["fetch", "x"], GKE),
    ("gke", ["delete"], GKE),
    *(("gke", [word], GKE) for word in ("logs", "status", "stop")),
]
# Google's pages have these, and gcloud 528 does not.
NEWER = {
    "--request-valid-for-duration": "unrecognized arguments: --request-valid-for-duration",
    "--target-size-policy-mode": "--target-size-policy-mode flag is available in",  # alpha
    "--provisioning-model=FLEX_START": "Invalid choice: 'FLEX_START'",
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> list[str]:
    """The lines of all dry runs."""
    cloud, lines = Cloud(tmp_path_factory.mktemp("cloud")), []
    for script, words, variables in DRY:
        done = cloud.run(*words, "--dry-run", script=script, cwd=ROOT, **variables)
        assert done.returncode == 0, (words, done.stderr)
        text = re.sub(r"<<'YAML'.*?^YAML$", "", done.stdout, flags=re.M | re.S)
        lines += text.splitlines()
    return lines


def called(printed, program: str) -> list[list[str]]:
    """The program's calls in dry runs and on the pages, but those whose options another one has."""
    lines = [shlex.split(line) for line in printed if line.startswith(program)]
    for command in docs.commands():
        if command.words[0] == program:
            values = dict(a.partition("=")[::2] for a in command.environment)
            lines.append([string.Template(w).safe_substitute(values) for w in command.words])
    # of a call with a flag that gcloud does not know yet, the other flags may not be read
    is_newer = lambda words: any(w in NEWER or w.split("=")[0] in NEWER for w in words)
    known = {}
    for words in lines:
        options = frozenset(word.split("=")[0] for word in words if word.startswith("-"))
        key = tuple(word for word in words if not word.startswith("-")), options
        if key not in known or not is_newer(words):
            known[key] = words
    whole = [key for key, words in known.items() if not is_newer(words)]
    has_more = lambda one, other: one[0] == other[0] and one[1] < other[1]
    kept = [key for key in known if not any(has_more(key, other) for other in whole)]
    return [known[key][1:] for key in kept]


def errors_of(program: str, calls: list[list[str]], env: dict[str, str]) -> list[str]:
    def error(words):
        done = subprocess.run(
            [program, *words],
            env=env,
            input="",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
        return done.stderr

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(error, calls))


def installed(program: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


def test_the_real_gcloud_knows_every_flag(printed, tmp_path):
    """Its parser runs before it asks for credentials, of which it has none here; the proxy keeps it
    off the network. The key of a user who has none is made once: `ssh` and `scp` make it each."""
    gcloud = installed("gcloud")
    key = tmp_path / ".ssh/google_compute_engine"
    key.parent.mkdir(mode=0o700)
    subprocess.run([installed("ssh-keygen"), "-q", "-t", "rsa", "-N", "", "-f", key], check=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CLOUDSDK_", "GOOGLE_"))} | {
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "https_proxy": "http://127.0.0.1:9",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
    }
    zone = ["--project=p", "--zone=z"]
    node = ["compute", "tpus", "tpu-vm", "describe", "s", *zone, "--format=value(state)"]
    lines = [words for words in called(printed, "gcloud") if words[0] != "auth"]
    tried = [*lines, node, [*node, "--no-such-flag"]]
    assert len(lines) >= 30
    errors = errors_of(gcloud, tried, env)
    assert "unrecognized arguments: --no-such-flag" in errors.pop()
    faults = []
    for words, error in zip(tried, errors, strict=False):
        newer = {NEWER.get(word) or NEWER.get(word.split("=")[0]) for word in words} - {None}
        if "active account" not in error and not any(text in error for text in newer):
            faults.append((words, error))
    assert not faults


def test_the_real_kubectl_knows_every_flag(printed, tmp_path):
    kubectl = installed("kubectl")
    env = os.environ | {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    lines = [words for words in called(printed, "kubectl") if words[0] != "apply"]
    assert {"logs", "get", "delete"} <= {words[0] for words in lines}
    *errors, wrong = errors_of(kubectl, [*lines, [*lines[0], "--no-such-flag"]], env)
    assert "unknown flag" in wrong
    for words, error in zip(lines, errors):
        assert "localhost:8080" in error and "unknown" not in error, (words, error)


def test_the_real_kubectl_reads_the_file_of_variables_as_the_workers_do(tmp_path):
    """Quotes, blanks and the like are part of a value."""
    kubectl = installed("kubectl")
    values = {
        "PLAIN": "hf_1",
        "QUOTED": "'a' \"b\"",
        "DOLLAR": "$HOME `id` $(id)",
        "EQUALS": "a=b c",
    }
    (tmp_path / "file").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
    words = ["create", "secret", "generic", "n", f"--from-env-file={tmp_path}/file"]
    done = subprocess.run(
        [kubectl, *words, "--dry-run=client", "-o", "yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    data = yaml.safe_load(done.stdout)["data"]
    assert {k: base64.b64decode(v).decode() for k, v in data.items()} == values


def test_the_real_xpk_knows_every_flag_of_the_page():
    xpk = installed("xpk")
    (line,) = [command.words for command in docs.commands() if command.words[0] == "xpk"]
    shown = subprocess.run([xpk, *line[1:3], "--help"], capture_output=True, text=True).stdout
    flags = {word.split("=")[0] for word in line if word.startswith("--")}
    assert len(flags) >= 8 and not [flag for flag in flags if f"{flag} " not in shown]
