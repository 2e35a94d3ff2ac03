"""A model that is not there: what its name may have meant."""

import re

import huggingface_hub
import pytest
from support.commands import ROOT

from sar_jax.errors import UserError
from sar_jax.model import download, known


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def error_of(path: str) -> str:
    with pytest.raises(UserError) as error:
        download.locate(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("start", ["", "./", "{}/", "models/"])
@pytest.mark.parametrize("name", ["my-model-v1", "my_model_v2", "mymodel-v2"])
def test_a_folder_beside_it_with_nearly_its_name(tmp_path, start, name):
    start = start.format(tmp_path)
    (tmp_path / start / "my-model-v2").mkdir(parents=True)
    (tmp_path / start / "my-model-v3.txt").write_text("no folder")
    found = error_of(start + name)
    assert f"id you mean '{start.removeprefix('./')}my-model-v2'?" in found


@pytest.mark.parametrize(
    "path, near",
    [
        ("Qwen/Qwen3-4B-Bse", "Qwen/Qwen3-4B-Base"),
        ("qwen/qwen3-4b-base", "Qwen/Qwen3-4B-Base"),
        ("google/gemma3-1b-it", "google/gemma-3-1b-it"),
        ("Qwen3-1.7B-Base", "Qwen/Qwen3-1.7B-Base"),
        ("Phi-3.5-mini-instruct", "microsoft/Phi-3.5-mini-instruct"),
    ],
)
def test_an_id_that_the_pages_name(path, near):
    assert f"id you mean '{near}'?" in error_of(path)


@pytest.mark.parametrize("path", ["Qwen/Qwen3-4B-Base", "Qwen/Qwen3-8B-Base", "mine/own-model"])
def test_another_model_is_not_taken_for_a_misspelt_one(path):
    """Of another size, say, which the hub may well have."""
    assert "did you mean" not in error_of(path).lower()


@pytest.mark.parametrize("path", ["nowhere", "./nowhere/model", "a/b/c"])
def test_a_folder_that_is_like_nothing_is_for_others_to_name(path):
    assert download.locate(path) == path


def test_the_ids_are_those_of_the_page():
    rows = re.findall(
        r"^\| ([\w.-]+/[\w.-]+)[^|]*\| `\w+` \| ([\d,]*) \|",
        (ROOT / "docs/models.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) > 40
    assert set(known.IDS) == {id for id, parameters in rows if parameters}
    assert set(known.CONFIGS) <= set(known.IDS)
