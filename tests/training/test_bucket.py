"""A workdir and a model in a bucket: what a local run gives, and restarts, by the same options."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.commands import ROOT, run_command
from support.training import read_metrics, timeless, train_command


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


def copy(folder, url: str, bucket: dict[str, str]) -> None:
    """In a process of its own, since its variables are read once."""
    code = (
        "import sys; from etils import epath\nfor f in epath.Path(sys.argv[1]).iterdir():\n"
        "    (epath.Path(sys.argv[2]) / f.name).write_bytes(f.read_bytes())"
    )
    subprocess.run([sys.executable, "-c", code, folder, url], env=bucket, check=True)


def test_a_run_in_a_bucket_is_a_local_one(hf_folder, bucket, tmp_path):
    """Two steps, a third of a restart, and the export: the same lines of metrics.jsonl, the same
    weights."""
    local, remote, model = tmp_path / "run", "gs://bucket/runs/a", "gs://bucket/models/tiny"
    copy(hf_folder, model, bucket)
    written = {}
    for workdir, folder, parts in ((local, hf_folder, ["3"]), (remote, model, ["2", "3"])):
        for steps in parts:
            command = train_command(
                hf_folder, workdir, f"--config.model.path={folder}", f"--config.steps={steps}"
            )
            # HOME: a bucket's model is copied there
            done = run_command(*command, check=True, HOME=str(tmp_path), **bucket)
        assert ("resumed at step 2" in done.stdout) == (workdir == remote)
        if workdir == remote:  # of a save that was cut off
            copy(hf_folder, f"{remote}/checkpoints/00000009/state", bucket)
        output = tmp_path / f"from {folder == model}"
        done = run_command(
            "sar_jax.export",
            f"--workdir={workdir}",
            f"--output={output}",
            HOME=str(tmp_path),
            **bucket,
            check=True,
        )
        written[workdir] = load_file(output / "model.safetensors")
    assert set(written[local]) == set(written[remote])
    for name, array in written[local].items():
        np.testing.assert_array_equal(written[remote][name], array)
    code = "import sys; from etils import epath; print(epath.Path(sys.argv[1]).read_text())"
    text = subprocess.run(
        [sys.executable, "-c", code, f"{remote}/metrics.jsonl"],
        env=bucket,
        check=True,
        text=True,
        capture_output=True,
    ).stdout
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert list(map(timeless, lines)) == list(map(timeless, read_metrics(local)))
    assert not (ROOT / "gs:").exists()  # `resolve` makes a local path of a bucket's
