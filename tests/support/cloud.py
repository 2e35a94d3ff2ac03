"""Fakes of gcloud, which plays TPU VMs and Compute Engine, and of kubectl, which plays a cluster.
Both record every call. On the workers and in the pods the real scripts run."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from support.commands import PATIENCE, ROOT, wait_for

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.rglob("*.sh"))
CONFIG = "--config=configs/qwen3_4b.py"
VERBS = {"create", "delete", "describe", "list-instances", "scp", "ssh"}
VARIABLES = {
    "PROJECT": "my-project",
    "ZONE": "us-east5-b",
    "NAME": "slice-1",
    "ACCELERATOR": "v6e-16",
    "WORKDIR": "gs://bucket/run 1",
    "POLL": "0",
}
# Others that a script reads.
OPTIONAL = (
    "CAPACITY MAX_RUN VALID_UNTIL SLICES RESERVATION RESERVATION_PROJECT ADDRESSES LABELS TAGS "
    "NETWORK SUBNETWORK SERVICE_ACCOUNT RUNTIME ENV_FILE FILES PACKAGES WAIT RESUMES DISK "
    "IMAGE_FAMILY CLUSTER LOCATION IMAGE QUEUE KEEP"
).split()
# Answers `describe` with the lines of the file `states`, one a call, the last one for ever. A
# created slice has two workers: folders, each with a Python that only notes what it is asked. `ssh`
# runs the command there, as a shell would.
GCLOUD = r"""#!{python}
import glob, json, os, pathlib, shutil, subprocess, sys
here, args = pathlib.Path({here!r}), sys.argv[1:]
with open(here / "calls", "a") as f:
    f.write(json.dumps(args) + "\n")
if args[0] in ("alpha", "beta"):
    args = args[1:]
options = dict(a.partition("=")[::2] for a in args if a.startswith("--"))

def next_line(name):
    lines = (here / name).read_text().splitlines()
    if len(lines) > 1:
        (here / name).write_text("\n".join(lines[1:]) + "\n")
    return lines[0]

workers = sorted(here.glob("worker-*"))

def of_node(name):
    # two workers; of several nodes the name ends in its number
    number = int(name[-1]) if len(workers) > 2 else 0
    return workers[2 * number : 2 * number + 2]

if args[:2] == ["auth", "list"]:
    print((here / "account").read_text())
elif args[2:4] == ["queued-resources", "describe"]:
    state = next_line("states")
    if state == "ABSENT":
        sys.exit("ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: not found.")
    print("WARNING: a remark of gcloud", file=sys.stderr)
    print(state)
elif args[2:4] == ["queued-resources", "create"]:
    for number in range(2 * int(options.get("--node-count", 1))):
        shutil.rmtree(here / f"worker-{{number}}", ignore_errors=True)
        folder = here / f"worker-{{number}}" / "sar_jax_run" / "venv" / "bin"
        folder.mkdir(parents=True)
        shutil.copy(here / "python", folder / "python")
elif args[:2] == ["storage", "cp"]:
    source, target = args[3:5]
    bucket = lambda path: here / "bucket" / path[5:] if path.startswith("gs://") else path
    pathlib.Path(bucket(target)).mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-R", *glob.glob(str(bucket(source))), bucket(target)], check=True)
elif args[1][:8] == "instance" and {{"describe", "list-instances"}} & set(args):
    if "basename" in options["--format"]:
        print(*(w.name for w in workers), sep="\n")
    else:
        state = next_line("states")
        if state == "ABSENT":
            sys.exit("ERROR: (gcloud.compute) Could not fetch resource: the resource was not found")
        print(*state.split(), sep="\n")
elif args[1] in ("instances", "instance-groups") and "create" in args:
    for number in range(int(options.get("--size", 1))):
        shutil.rmtree(here / f"worker-{{number}}", ignore_errors=True)
        folder = here / f"worker-{{number}}" / "sar_jax_run" / "venv" / "bin"
        folder.mkdir(parents=True)
        shutil.copy(here / "python", folder / "python")
elif args[1] in ("ssh", "scp"):
    names = [a.partition(":")[0] for a in args[2:] if not a.startswith("--")]
    worker = next((w for w in workers if w.name in names), workers[0])
    if next_line("reachable") == "no":
        sys.exit(255)
    if args[1] == "ssh":
        sys.exit(subprocess.run(
            ["bash", "-c", options["--command"]], cwd=worker,
            env=os.environ | {{"HOME": str(worker), "HOSTNAME_IS": worker.name}}).returncode)
    source, target = args[3:5]
    if target == ".":
        path = worker / source.partition(":")[2]
        (shutil.copytree if path.is_dir() else shutil.copy)(path, pathlib.Path(path.name))
    else:
        shutil.copytree(source, worker / pathlib.Path(source).name, dirs_exist_ok=True)
elif args[2:4] == ["tpu-vm", "describe"]:
    print(next_line("nodes"))
elif args[2:4] == ["tpu-vm", "scp"]:
    source, target = args[5:7]
    if target == ".":
        node, _, path = source.partition(":")
        path = of_node(node)[int(options["--worker"])] / path
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, pathlib.Path(path.name))
    else:
        for worker in of_node(target.rstrip(":")):
            shutil.copytree(source, worker / pathlib.Path(source).name, dirs_exist_ok=True)
elif args[2:4] == ["tpu-vm", "ssh"]:
    if next_line("reachable") == "no":
        sys.exit(255)
    codes = [subprocess.run(["bash", "-c", options["--command"]], cwd=w,
                            env=os.environ | {{"HOME": str(w), "HOSTNAME_IS": w.name}}).returncode
             for i, w in enumerate(of_node(args[4])) if options["--worker"] in ("all", str(i))]
    sys.exit(max(codes))
"""
WORKER_PYTHON = r"""#!/bin/bash
printf '%s\0' "$@" >>"$HOME/asked"
case $* in
-V) echo Python 3.12.0 ;;
*sar_jax.*)
    printf '%s\0' "$@" >"$HOME/argv"; env -0 >"$HOME/environment"
    echo "secret is ${SECRET:-unset}"; . "$PLAY" ;;
esac
"""
# Stands for the metadata server of Compute Engine.
CURL = r"""#!/bin/bash
case ${!#} in
*/worker-id) echo "${HOSTNAME_IS##*-}" ;;
*/worker-network-endpoints) echo unknown:unknown:10.0.0.1,unknown:unknown:10.0.0.2 ;;
*) exit 22 ;;
esac
"""
# Plays a JobSet as its controller does: all pods of all jobs, again where one fails, but not after
# an error that its rules name. A pod is a folder with the clone's configs, and a `python` that
# notes what it is asked; the rest of its commands it runs for real. `play` decides how it ends.
KUBECTL = r"""#!{python}
import json, os, pathlib, re, shutil, subprocess, sys, yaml
here, args = pathlib.Path({here!r}), sys.argv[1:]
with open(here / "calls", "a") as f:
    f.write(json.dumps(["kubectl", *args]) + "\n")

def expanded(text):
    "What Kubernetes makes of a command or an argument: $$ is $, and $(NAME) a variable."
    return re.sub(r"\$\$|\$\((\w+)\)", lambda m: "$" if m[0] == "$$" else os.environ[m[1]], text)

def run(jobset):
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    secrets = {{}}
    for source in container.get("envFrom", ()):
        text = (here / ("secret-" + source["secretRef"]["name"])).read_text()
        secrets |= dict(line.split("=", 1) for line in text.splitlines())
    for attempt in range(jobset["spec"]["failurePolicy"]["maxRestarts"] + 1):
        codes = []
        for slice in range(job["replicas"]):
            for worker in range(spec["completions"]):
                pod = here / f"pod-{{slice}}-{{worker}}"
                shutil.rmtree(pod, ignore_errors=True)
                (pod / "configs").mkdir(parents=True)
                env = os.environ | secrets | {{
                    "HOME": str(pod), "PATH": str(here / "image") + ":" + os.environ["PATH"],
                    "ATTEMPT": str(attempt), "PYTHONPATH": str(here / "image"),
                    "TPU_WORKER_ID": str(worker), "MEGASCALE_SLICE_ID": str(slice)}}
                words = [expanded(w) for w in container["command"] + container["args"]]
                codes.append(subprocess.run(words, cwd=pod, env=env).returncode)
        (here / "attempts").write_text(str(attempt + 1))
        if not any(codes) or set(codes) & set(rule["onExitCodes"]["values"]):
            break
    (here / "codes").write_text(json.dumps(codes))

if args[:3] == ["apply", "-f", "-"]:
    for number, document in enumerate(yaml.safe_load_all(sys.stdin)):
        (here / f"applied-{{document['kind']}}.json").write_text(json.dumps(document))
        if document["kind"] == "JobSet":
            run(document)
elif args[:2] == ["get", "jobset"] and (here / "applied-JobSet.json").exists():
    ended = "Failed" if any(json.loads((here / "codes").read_text())) else "Completed"
    print(args[2], "StartupPolicyCompleted", "" if (here / "going").exists() else ended)
elif args[:2] == ["delete", "jobset"]:
    (here / "applied-JobSet.json").unlink(missing_ok=True)
elif args[:3] == ["create", "secret", "generic"]:
    shutil.copy(args[4].partition("=")[2], here / f"secret-{{args[3]}}")
"""
# The image's python: a module of ours is played, other code is run by Python.
POD_PYTHON = r"""#!/bin/bash
if [ "$1" = -c ]; then exec REAL "$@"; fi
printf '%s\0' "$@" >"$HOME/argv"; env -0 >"$HOME/environment"; . "$PLAY"
"""
# What a container copies its files with; the bucket is a folder.
GCSFS = r"""
import pathlib, shutil

def place(path):
    return pathlib.Path({here!r}) / "bucket" / path.removeprefix("gs://")

def copied(source, target):
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target / source.name)

class GCSFileSystem:
    def get(self, remote, local, recursive):
        assert recursive and remote.endswith("/")
        shutil.copytree(place(remote), local, dirs_exist_ok=True)

    def put(self, local, remote, recursive):
        assert recursive and remote.endswith("/")
        place(remote).mkdir(parents=True, exist_ok=True)
        for path in local:
            copied(pathlib.Path(path), place(remote))
"""
# Builds an empty wheel of the right name at once. Asked for anything else, it is Python.
BUILD_PYTHON = rf"""#!/bin/bash
if [ "$1" = -I ]; then exec {sys.executable} "$@"; fi
"""
BUILD_PYTHON += r"""
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
        executable(self.bin / "kubectl", KUBECTL.format(python=sys.executable, here=str(here)))
        executable(self.bin / "curl", CURL)
        (here / "image").mkdir()
        executable(here / "image/python", POD_PYTHON.replace("REAL", sys.executable))
        (here / "image/gcsfs.py").write_text(GCSFS.format(here=str(here)))
        executable(self.bin / "hostname", '#!/bin/bash\necho "${HOSTNAME_IS:-here}"\n')
        executable(here / "python", WORKER_PYTHON)
        self.env = {k: v for k, v in os.environ.items() if k not in {*VARIABLES, *OPTIONAL}} | {
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

    def run(
        self,
        *arguments: str,
        cwd: pathlib.Path | None = None,
        script: str = "tpu_vm",
        **variables: str,
    ) -> subprocess.CompletedProcess:
        env = {k: v for k, v in (self.env | VARIABLES | variables).items() if v}
        return subprocess.run(
            [LAUNCH / f"{script}.sh", *arguments],
            cwd=cwd,
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
            verb = next((word for word in call if word in VERBS), call[0])
            found.append(script[1] if script else verb)
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
        """Of the run on every worker that has one."""
        for log in self.here.glob("worker-*/sar_jax_run/run.log"):
            wait_for(log.with_name("status").exists)

    def clean(self) -> None:
        for pid in self.here.glob("worker-*/sar_jax_run/pid"):
            try:
                group = os.getpgid(int(pid.read_text()))
                if group != os.getpgrp():
                    os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                pass


def environment_of(folder: pathlib.Path) -> dict[str, str]:
    """What a worker's or a pod's command was given."""
    found = (folder / "environment").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in found if "=" in entry)


def command_of(call: list[str]) -> str | None:
    return next((a.removeprefix("--command=") for a in call if a.startswith("--command=")), None)


HOSTILE = [
    '--config.prompt.system=it\'s "$HOME" `id` $(id) \\ *; false ~ & | # ~\ttab',
    "--config.x=",
    "--config.y=two\nlines",
    "--config.z=  two  blanks  ",
    "--config.data.train=a+b,c=ü",
]
