"""What is installed: dependencies, extras, what the distributions hold, the container."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.commands import ROOT, modules_after, one_error

import sar_jax

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Packages whose modules have other names.
PACKAGES = {
    "absl": "absl-py",
    "orbax": "orbax-checkpoint",
    "text_to_num": "text2num",
    "yaml": "pyyaml",
}
# What only an extra brings: where it is imported, its absence is an error that names the extra.
OF_EXTRAS = {
    "adjusttext": "plot",
    "libtpu": "plan",
    "matplotlib": "plot",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "wandb": "wandb",
}
# Dependencies that no module of the package imports.
UNSEEN = {"importlib-resources"}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(given).name) for given in requirements}


def imported() -> set[str]:
    """The packages that modules of sar_jax import, anywhere in them, without the standard ones."""
    found = set()
    for file in (ROOT / "sar_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    found -= {*sys.stdlib_module_names, "sar_jax"}
    return {canonicalize_name(PACKAGES.get(name, name)) for name in found}


def test_every_import_is_declared():
    found, base = imported(), names(PROJECT["dependencies"])
    assert {"jax", "pyyaml", "matplotlib"} <= found
    assert found - base <= OF_EXTRAS.keys()
    for name in found - base:
        assert name in names(EXTRAS[OF_EXTRAS[name]])


def test_every_dependency_is_imported():
    assert names(PROJECT["dependencies"]) - imported() <= UNSEEN
    for name in ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "datasets", "grain",
                 "tensorflow-datasets"):  # fmt: skip
        assert name in names(PROJECT["dependencies"])


def test_extras():
    assert EXTRAS.keys() == {
        "tpu", "gpu", "plan", "plot", "wandb", "trackio", "mlflow", "tfds", "notebook", "eval",
        "test", "all",
    }  # fmt: skip
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {"all", "tpu", "gpu", "test", "tfds"}
    assert names(EXTRAS["tfds"]) <= names(PROJECT["dependencies"])


def test_an_extra_that_a_message_names_is_there():
    text = "".join(file.read_text() for file in (ROOT / "sar_jax").rglob("*.py"))
    assert set(re.findall(r"sar_jax\[(\w+)\]", text)) <= EXTRAS.keys()


def test_the_version_and_the_licence_are_said_once():
    assert PROJECT["dynamic"] == ["version"] and PROJECT["license"] == "MIT"
    assert f"version: {sar_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert "setup()" in (ROOT / "setup.py").read_text()


def test_pythons():
    lowest = Requirement(f"x{PROJECT['requires-python']}").specifier
    tried = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"3\.\d+$", c)]
    assert tried == ["3.11", "3.12", "3.13"] and all(map(lowest.contains, tried))
    assert not lowest.contains("3.10")


def test_the_command_is_one_of_the_package():
    module, _, name = PROJECT["scripts"]["sar_jax"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))


def test_training_and_evaluation_need_no_extra():
    modules = "sar_jax.train, sar_jax.report, sar_jax.evaluation.comparison"
    assert not OF_EXTRAS.keys() & modules_after(f"import {modules}")


def test_a_picture_that_cannot_be_drawn_is_named_before_anything_is_scored(tmp_path):
    """Python finds a matplotlib that cannot be imported."""
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib/__init__.py").write_text("raise ImportError('broken')\n")
    (tmp_path / "a.jsonl").write_text('{"question": "2 + 3?", "answer": "5"}\n')
    words = ["--model=nowhere", f"--input={tmp_path}/a.jsonl", f"--png={tmp_path}/a.png"]
    done = subprocess.run(
        [sys.executable, "-m", "sar_jax.explain", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert one_error(done) == (
        "error: drawing needs matplotlib (broken): pip install 'sar_jax[plot]'"
    )


def test_the_source_distribution_is_a_whole_clone(tmp_path):
    """The tests, the configs and the pages are in it, and nothing that was made."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, source, ignore=ignored)
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(file) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "Dockerfile", "setup.py",
                 "configs/tiny.py", "tests/conftest.py", "docs/configuration.md",
                 "launch/constraints.txt", "examples/filler.jsonl",
                 "sar_jax/assets/tiny/model.safetensors"):  # fmt: skip
        assert name in packed
    assert not [name for name in packed if re.search(r"__pycache__|\.pyc$|^runs/", name)]


def test_the_container_copies_what_is_there():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    text = (ROOT / "Dockerfile").read_text()
    copied = [w for line in re.findall(r"^COPY (.+)$", text, re.M) for w in line.split()[:-1]]
    assert len(copied) > 5
    for name in copied:
        assert (ROOT / name).exists() and f"!{name}" in ignored
    # what the build of the package reads
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "sar_jax"} <= set(copied)
    (extra,) = re.findall(r"--build-arg EXTRA=(\w+)", text.splitlines()[0])
    assert extra in EXTRAS


def test_what_is_installed_is_what_is_declared():
    """Each dependency as it is here: the bounds hold."""
    for given in map(Requirement, PROJECT["dependencies"]):
        assert given.specifier.contains(importlib.metadata.version(given.name))
