"""A fake gcloud that records every call and plays the slice, on whose workers the real worker.sh
runs."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from support.commands import PATIENCE, ROOT, wait_for

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
            if k not in {*VARIABLES, "CAPACITY", "RUNTIME", "ENV_FILE", "FILES", "PACKAGES"}
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

    def run(
        self, *arguments: str, cwd: pathlib.Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess:
        env = {k: v for k, v in (self.env | VARIABLES | variables).items() if v}
        return subprocess.run(
            [LAUNCH / "tpu_vm.sh", *arguments],
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


def command_of(call: list[str]) -> str | None:
    return next((a.removeprefix("--command=") for a in call if a.startswith("--command=")), None)


HOSTILE = [
    '--config.prompt.system=it\'s "$HOME" `id` $(id) \\ *; false ~ & | # ~\ttab',
    "--config.x=",
    "--config.y=two\nlines",
    "--config.z=  two  blanks  ",
    "--config.data.train=a+b,c=ü",
]
