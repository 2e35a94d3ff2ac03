"""A run as a page: what its workdir holds, read for `evaluation.pages.report`.

Nothing of the run is needed but its files; what is damaged or missing is left out and named.
"""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from sar_jax import files
from sar_jax.errors import UserError
from sar_jax.evaluation.pages.report import Shown, report_page
from sar_jax.training.storage import workdir as workdir_lib

PAGE = "report.html"
_MACHINE = "machine.json"
_PACKAGES = ("sar_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers")


def write(workdir: epath.Path) -> None:
    """Writes the run's page into its workdir; where it cannot, a line says so: the run is saved."""
    path = workdir / PAGE
    try:
        files.write_atomically(path, report_page([read(workdir)], {}))
    except OSError as error:
        print(f"warning: {path} could not be written ({error.strerror or error})", flush=True)


def note_machine(workdir: epath.Path) -> None:
    """Keeps what the run runs on, and with which versions."""
    first, devices = jax.devices()[0], jax.device_count()
    found = {
        "commit": _commit(),
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _installed()},
        "devices": f"{devices} x {first.device_kind}",
        "processes": str(jax.process_count()),
        "host": f"{platform.system()} {platform.machine()}",
    }
    files.write_atomically(workdir / _MACHINE, json.dumps(found, indent=2) + "\n")


def _installed() -> list[str]:
    """Of the packages that decide numbers, those that pip knows."""
    known = {d.name.lower() for d in importlib.metadata.distributions()}
    return [name for name in _PACKAGES if name.lower() in known]


def _commit() -> str:
    """Of the clone that the package is in; empty where it is in none."""
    folder = pathlib.Path(__file__).parent
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def read(workdir: epath.Path, name: str | None = None) -> Shown:
    """What the workdir of a run holds.

    name   in the page; by default the folder's

    Raises `UserError` where it is no workdir.
    """
    config = dataclasses.asdict(workdir_lib.read_config(workdir))
    lines = workdir_lib.read_lines(workdir)
    for number in lines.bad:
        print(f"warning: line {number} of {workdir / 'metrics.jsonl'} cannot be read")
    evaluations = sorted((workdir / "samples").glob("eval_*.parquet"))
    steps = sorted((workdir / "samples").glob("step_*.parquet"))
    return Shown(
        name or workdir.name,
        workdir_lib.leaves(config),
        {"began": workdir_lib.facts(workdir).began, **_machine(workdir)},
        lines.found,
        _rows(evaluations[:1]) if len(evaluations) > 1 else [],
        _rows(evaluations[-1:]) if len(evaluations) > 1 else [],
        _rows(steps[-1:]),
    )


def _machine(workdir: epath.Path) -> dict[str, str]:
    path = workdir / _MACHINE
    try:
        found = json.loads(path.read_text())
        return {str(name): str(value) for name, value in found.items()}
    except (OSError, ValueError, AttributeError):  # of a run of before there was one
        return {}


def _rows(paths: Sequence[epath.Path]) -> list[dict[str, Any]]:
    for path in paths:
        try:
            return pq.read_table(pa.BufferReader(path.read_bytes())).to_pylist()
        except (OSError, pa.ArrowException) as error:
            print(f"warning: {path} cannot be read and is left out ({str(error).splitlines()[0]})")
    return []


def named(paths: Sequence[str]) -> Mapping[str, str]:
    """The shortest ends of paths that tell them apart -> the paths."""
    parts = [epath.Path(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, paths))
    raise UserError(f"{next(p for p in paths if paths.count(p) > 1)} is given twice")
