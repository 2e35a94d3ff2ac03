"""A family from a user's file: read as those that come along, and never in place of one."""

import dataclasses
import json

import pytest

from sar_jax.errors import UserError
from sar_jax.model import families
from sar_jax.training.own import families as own_families

SOURCE = """
from sar_jax.model.families.family import Family, sizes
from sar_jax.model.families.llama import FAMILIES as LLAMA

FAMILIES = {"llama_of_mine": LLAMA["llama"]}
TAKEN = {"llama": LLAMA["llama"]}
NUMBER = {3: LLAMA["llama"]}
WRONG = {"llama_of_mine": {"hidden_size": 3}}
EMPTY = {}
def function(): pass
"""
RAW = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 100,
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(SOURCE)


@pytest.mark.quick
def test_it_is_read_as_its_entry_says(file):
    own_families.use("")
    with pytest.raises(UserError, match="llama_of_mine"):
        families.parse(RAW | {"model_type": "llama_of_mine"}, 64)
    own_families.use("my.py:FAMILIES")
    own_families.use("my.py:FAMILIES")  # of a second command in one process
    try:
        found = families.parse(RAW | {"model_type": "llama_of_mine"}, 64)
        same = families.parse(RAW | {"model_type": "llama"}, 64)
        assert found.family == "llama_of_mine"
        assert dataclasses.replace(found, family="llama") == same
    finally:
        families.reading._FAMILIES.pop("llama_of_mine")


@pytest.mark.parametrize(
    "name, words",
    [
        ("TAKEN", "there is a family 'llama' already"),
        ("WRONG", "the family 'llama_of_mine' must be a Family, and is a dict"),
        ("NUMBER", "a model_type is text, and not 3"),
        ("EMPTY", "must be a dict of Family by model_type"),
        ("function", "must be a dict of Family by model_type, and is a function"),
        ("FAMILLIES", "did you mean 'FAMILIES'?"),
    ],
)
def test_what_is_none_is_named(file, name, words):
    with pytest.raises(UserError) as error:
        own_families.use(f"my.py:{name}")
    assert words in str(error.value) and "config.model.families" in str(error.value)
    assert json.dumps(str(error.value)).count("\\n") == 0
