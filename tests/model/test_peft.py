"""Adapter folders of PEFT: read with their base, and written of a LoRA run."""

import json
import math

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.models import Loaded, make_hf_folder, read_tensors
from support.oracle import assert_same

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import download, hf, lora, peft

RANK = 3


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def make_adapter(folder, base, modules, **changes):
    """As PEFT writes it, for some of the base's matrices."""
    rng, tensors = np.random.default_rng(0), {}
    for name, weight in read_tensors(base).items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] in modules:
            for part, shape in (("A", (RANK, weight.shape[1])), ("B", (weight.shape[0], RANK))):
                made = rng.normal(size=shape).astype(np.float32)
                tensors[f"base_model.model.{module}.lora_{part}.weight"] = made
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "r": RANK,
        "lora_alpha": 6,
        "target_modules": modules,
        "bias": "none",
        "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return tensors


@pytest.mark.parametrize(
    "family, modules",
    [
        ("qwen3", ["q_proj", "o_proj", "down_proj"]),
        ("phi3", ["qkv_proj", "gate_up_proj"]),
    ],
)
@pytest.mark.parametrize(
    "changes, factor",
    [
        ({}, 2.0),
        ({"use_rslora": True}, 6 / math.sqrt(RANK)),
        ({"alpha_pattern": {"layers.1.*": 12, "q_proj": 1}}, None),
    ],
)
def test_an_adapter_s_folder_is_its_base_with_the_products_added(
    tmp_path, mesh, family, modules, changes, factor
):
    base = make_hf_folder(tmp_path / "base", family=family)
    adapters = make_adapter(tmp_path / "adapter", base, modules, **changes)
    folder = download.locate(str(tmp_path / "adapter"))
    loaded, output = Loaded(folder, mesh), tmp_path / "merged"
    output.mkdir()
    hf.save_weights(loaded.params, loaded.cfg, output)
    merged = read_tensors(output)
    for name, weight in read_tensors(base).items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{key}A.weight" in adapters:
            own = factor
            if own is None:
                own = 12 / RANK if "layers.1." in name else 2.0
                own = 1 / RANK if "q_proj" in name and "layers.1." not in name else own
            product = adapters[f"{key}B.weight"] @ adapters[f"{key}A.weight"]
            assert_same(merged[name], weight + own * product)
        else:
            assert np.array_equal(merged[name], weight)
    assert loaded.tokenizer.encode("12") == Loaded(base, mesh).tokenizer.encode("12")


def test_an_adapter_s_own_files_come_before_the_base_s(tmp_path, mesh, hf_folder):
    make_adapter(tmp_path / "adapter", hf_folder, ["q_proj"])
    template = "{{ messages }} of the adapter"
    (tmp_path / "adapter/chat_template.jinja").write_text(template)
    first = download.locate(str(tmp_path / "adapter"))
    assert hf.read_json(first, "config.json") == hf.read_json(hf_folder, "config.json")
    assert template in (tmp_path / first / "chat_template.jinja").read_text()
    (tmp_path / "adapter/chat_template.jinja").unlink()
    again = download.locate(str(tmp_path / "adapter"))
    assert again == first
    assert template not in (tmp_path / again / "chat_template.jinja").read_text()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"use_dora": True}, "use_dora = True; merge the adapter"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save = ['lm_head']"),
        ({"lora_alpha": "6"}, "lora_alpha is '6'"),
        ({"base_model_name_or_path": None}, "it names no base_model_name_or_path"),
        ({"base_model_name_or_path": "/nowhere"}, "'/nowhere', where there is no model"),
    ],
)
def test_what_an_adapter_cannot_be_is_named(tmp_path, hf_folder, changes, words):
    make_adapter(tmp_path / "adapter", hf_folder, ["q_proj"], **changes)
    with pytest.raises(UserError) as error:
        hf.Weights(download.locate(str(tmp_path / "adapter")))
    assert words in str(error.value)


def test_adapters_of_another_model_are_named(tmp_path, hf_folder):
    other = make_hf_folder(tmp_path / "other", hidden_size=24)
    make_adapter(tmp_path / "adapter", other, ["up_proj"], base_model_name_or_path=str(hf_folder))
    folder = download.locate(str(tmp_path / "adapter"))
    with pytest.raises(UserError, match="make a matrix of .56, 24., and the base has .56, 48."):
        hf.Weights(folder).check(hf.load_config(folder, 64))


@pytest.mark.parametrize(
    "family, targets",
    [
        ("qwen3", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"),
        ("phi3", "q_proj,v_proj,up_proj,o_proj"),
    ],
)
def test_what_is_written_of_a_run_is_read_as_what_it_learnt(tmp_path, mesh, family, targets):
    base = make_hf_folder(tmp_path / "base", family=family)
    loaded = Loaded(base, mesh)
    adapted = lora.adapted(loaded.cfg, config_lib.Lora(rank=2, alpha=3.0, targets=targets))
    random = lambda x: jax.random.normal(jax.random.key(x.size), x.shape)
    adapters = jax.tree.map(random, lora.init(adapted, jax.random.key(0)))
    expected = lora.folded(adapted, loaded.params, adapters)
    (tmp_path / "out").mkdir()
    peft.write(tmp_path / "out", adapted, adapters, str(base), "model.")
    found = Loaded(download.locate(str(tmp_path / "out")), mesh).params
    jax.tree.map(assert_same, found, expected)
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    stored = load_file(tmp_path / "out/adapter_model.safetensors")
    fused = "qkv_proj" if family == "phi3" else None
    assert config["rank_pattern"] == ({fused: 4} if fused else {})
    assert config["alpha_pattern"] == ({fused: 6.0} if fused else {})
    assert {name.split(".")[-3] for name in stored} == set(config["target_modules"])
