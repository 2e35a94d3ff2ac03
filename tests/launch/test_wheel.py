"""The wheel, the pinned versions, and CPUs."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.cloud import BUILD_PYTHON, LAUNCH, executable
from support.commands import ROOT, one_error


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


def test_every_requirement_is_pinned():
    """If this fails after a change of pyproject.toml: make constraints.txt again, by the command at
    its head."""
    lines = (LAUNCH / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(p.name): str(p.specifier).removeprefix("==") for p in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + project["optional-dependencies"]["tpu"]
    assert len(required) > 15 and {"jaxlib", "libtpu"} <= set(versions)
    for requirement in map(Requirement, required):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            requirement
        )


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
