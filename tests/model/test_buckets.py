"""Workdirs and models in a bucket (gs://): etils' own code, over a file system that fsspec keeps in
memory.

Not tested: Orbax, which reads and writes gs:// with code of its own.
"""

import time

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import download, hf
from sar_jax.training.reporting import metrics
from sar_jax.training.storage import workdir as workdir_lib


def test_metrics_and_samples_of_a_run_that_was_resumed(bucket):
    workdir = bucket / "runs/one"
    workdir.mkdir(parents=True)
    first = metrics.Metrics(workdir, None)
    for step in range(4):
        first.write(step, {"loss": step / 2})
    first.write_samples(3, [{"answer": "72", "correct": True}])
    first.close()
    time.sleep(1.1)  # event files are named by the second
    again = metrics.Metrics(workdir, 2)  # the checkpoint of step 2
    again.write(3, {"loss": 9.0})
    again.close()
    assert [line["loss"] for line in workdir_lib.read_metrics(workdir)] == [0, 0.5, 1, 9]
    with (workdir / "samples/step_000003.parquet").open("rb") as file:
        assert pq.read_table(file).to_pylist() == [{"answer": "72", "correct": True}]
    events = [f for f in (workdir / "tensorboard").iterdir() if "tfevents" in f.name]
    assert len(events) == 2 and all(f.stat().length > 100 for f in events)


def test_a_workdir_belongs_to_one_config(bucket):
    workdir, config = bucket / "runs/two", config_lib.TrainConfig()
    workdir_lib.check(workdir, config)
    workdir_lib.claim(workdir, config, workdir_lib.facts(workdir))
    workdir_lib.check(workdir, config)
    assert workdir_lib.read_config(workdir) == config
    config.seed = 5
    with pytest.raises(UserError, match="different config .config.seed"):
        workdir_lib.check(workdir, config)


def put(folder, model):
    """A model's folder into a bucket's."""
    for file in model.iterdir():
        (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_model_is_copied_once_and_loads(bucket, loaded, home):
    put(bucket / "model", loaded.folder)
    (bucket / "model" / "notes.pdf").write_bytes(b"x")
    folder = download.locate("gs://bucket/model")
    params = hf.load_params(folder, loaded.cfg, loaded.shardings(loaded.mesh))
    for ours, expected in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params)):
        np.testing.assert_array_equal(ours, expected)
    assert not (epath.Path(folder) / "notes.pdf").exists()
    before = (epath.Path(folder) / "model.safetensors").stat().mtime
    assert download.locate("gs://bucket/model") == folder
    assert (epath.Path(folder) / "model.safetensors").stat().mtime == before


def test_an_object_that_was_written_again_is_copied_again(bucket, loaded, home):
    """Of the same size; and one that is gone from the bucket is gone here."""
    put(bucket / "model", loaded.folder)
    (bucket / "model/chat_template.jinja").write_text("{{ messages }}")
    folder = epath.Path(download.locate("gs://bucket/model"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    before = (folder / "tokenizer.json").stat().mtime
    weights[-1] ^= 1
    (bucket / "model/model.safetensors").write_bytes(bytes(weights))
    (bucket / "model/chat_template.jinja").unlink()
    assert download.locate("gs://bucket/model") == str(folder)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert not (folder / "chat_template.jinja").exists()
    assert (folder / "tokenizer.json").stat().mtime == before


@pytest.mark.parametrize("one, other", [("run-1", "run_1"), ("a/b", "a_b"), ("ü", "ö")])
def test_folders_of_like_names_do_not_meet(bucket, home, one, other):
    for name in (one, other):
        (bucket / name).mkdir(parents=True)
        (bucket / name / "config.json").write_text(name)
    folders = [epath.Path(download.locate(f"gs://bucket/{name}")) for name in (one, other)]
    assert [(f / "config.json").read_text() for f in folders] == [one, other]


@pytest.mark.parametrize("path", ["gs://bucket/nothing", "gs://bucket/empty"])
def test_a_folder_without_a_model_is_one_error(bucket, path, home):
    (bucket / "empty").mkdir(parents=True)
    with pytest.raises(UserError, match=path):
        download.locate(path)
