"""A workdir and a model in a bucket: what a local run gives, and restarts, by the same options."""

import json
import pathlib
import subprocess
import sys
import urllib.parse
import urllib.request

import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file
from support.commands import ROOT, run_command
from support.training import read_metrics, timeless, train_command

from sar_jax.training.commands import exported


@pytest.fixture(scope="module")
def bucket():
    """Variables that lead to gs://bucket on this machine."""
    command = [sys.executable, ROOT / "tests/support/bucket.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            here = f"http://127.0.0.1:{int(process.stdout.readline())}"
            yield {
                "STORAGE_EMULATOR_HOST": here,
                "TENSORSTORE_GCS_HTTP_URL": here,
                "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            }
        finally:
            process.kill()


def put(folder: pathlib.Path, there: str, bucket: dict[str, str]) -> None:
    """A folder's files as objects below `there`."""
    for file in folder.iterdir():
        name = urllib.parse.quote(f"{there}/{file.name}", safe="")
        url = f"{bucket['STORAGE_EMULATOR_HOST']}/upload/storage/v1/b/bucket/o"
        url += f"?uploadType=media&name={name}"
        kind = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(url, file.read_bytes(), kind, method="POST")
        urllib.request.urlopen(request).close()


def text_of(there: str, bucket: dict[str, str]) -> str:
    name = urllib.parse.quote(there, safe="")
    url = f"{bucket['STORAGE_EMULATOR_HOST']}/storage/v1/b/bucket/o/{name}?alt=media"
    with urllib.request.urlopen(url) as response:
        return response.read().decode()


def test_a_run_in_a_bucket_is_a_local_one(hf_folder, bucket, tmp_path):
    """Two steps, a third of a restart, and the export: the same lines of metrics.jsonl, the same
    weights."""
    local, remote, model = tmp_path / "run", "gs://bucket/runs/a", "gs://bucket/models/tiny"
    put(hf_folder, "models/tiny", bucket)
    for workdir, folder, parts in ((local, hf_folder, ["3"]), (remote, model, ["2", "3"])):
        for steps in parts:
            command = train_command(
                hf_folder, workdir, f"--config.model.path={folder}", f"--config.steps={steps}"
            )
            # HOME: a bucket's model is copied there
            done = run_command(*command, check=True, HOME=str(tmp_path), **bucket)
        assert ("resumed at step 2" in done.stdout) == (workdir == remote)
    put(hf_folder, "runs/a/checkpoints/00000009/state", bucket)  # of a save that was cut off
    exported.export(epath.Path(local), tmp_path / "local")
    output = f"--output={tmp_path}/remote"
    run_command(
        "sar_jax.export", f"--workdir={remote}", output, HOME=str(tmp_path), **bucket, check=True
    )
    here, there = (load_file(tmp_path / name / "model.safetensors") for name in ("local", "remote"))
    assert set(here) == set(there)
    for name, array in here.items():
        np.testing.assert_array_equal(there[name], array)
    text = text_of("runs/a/metrics.jsonl", bucket)
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert list(map(timeless, lines)) == list(map(timeless, read_metrics(local)))
    assert not (ROOT / "gs:").exists()  # `resolve` makes a local path of a bucket's
