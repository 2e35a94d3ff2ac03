"""A model of the hub stays the revision with which a run began. The cache is the hub's own layout;
there is no network."""

import shutil

import huggingface_hub
import pytest

from sar_jax.errors import UserError
from sar_jax.model import download

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Two revisions of a model, the newer of which is `main`."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--mine--model"
    for revision in (OLD, NEW):
        (folder / "snapshots" / revision).mkdir(parents=True)
        (folder / "snapshots" / revision / "config.json").write_text(revision)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(NEW)
    return folder


@pytest.mark.parametrize("asked, found", [(None, NEW), (NEW, NEW), (OLD, OLD)])
def test_the_revision_that_was_asked_for(cache, asked, found):
    folder = download.locate("mine/model", asked)
    assert download.revision_of(folder) == found
    assert (cache / "snapshots" / found / "config.json").samefile(f"{folder}/config.json")


def test_a_revision_that_is_gone_is_named(cache):
    shutil.rmtree(cache / "snapshots" / OLD)
    with pytest.raises(UserError, match=f"at the revision {OLD} with which the run began"):
        download.locate("mine/model", OLD)


@pytest.mark.parametrize("name", ["model", "snapshots/main", f"other/{OLD}"])
def test_other_folders_have_none(tmp_path, name):
    assert download.revision_of(str(tmp_path / name)) is None
