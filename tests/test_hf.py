"""Hugging Face folders: bit-equal there and back, sharded loading, and every defect named."""

import json
import shutil

import jax
import numpy as np
import pytest
from conftest import Loaded, make_hf_folder
from safetensors.numpy import load_file, save_file

from sar_jax import export, hf, model, sharding
from sar_jax.errors import UserError


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 30_000])
def test_folder_to_params_to_folder_is_bit_equal(tmp_path, mesh, tied, shard_bytes):
    source = make_hf_folder(tmp_path / "source", tie_word_embeddings=tied)
    loaded = Loaded(source, mesh)
    tensors = hf.to_tensors(loaded.params, loaded.cfg)
    again = tmp_path / "again"
    again.mkdir()
    hf.save_weights(tensors, again, shard_bytes)
    assert (again / "model.safetensors.index.json").exists() == (shard_bytes == 30_000)
    shutil.copy(source / "config.json", again)
    original = load_file(source / "model.safetensors")
    reread = {n: h.get_tensor(n) for n, h in hf.Weights(again).where.items()}
    assert original.keys() == reread.keys() == tensors.keys()
    for name, tensor in original.items():
        np.testing.assert_array_equal(tensor, reread[name])
    params = hf.load_params(again, loaded.cfg, sharding.param_shardings(model.param_specs(loaded.cfg), mesh))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), params, loaded.params)))


def test_every_device_gets_its_own_slice(loaded):
    mesh = sharding.make_mesh(1, 4, 2)
    params = hf.load_params(loaded.folder, loaded.cfg, sharding.param_shardings(model.param_specs(loaded.cfg), mesh))
    assert params["layers"]["o_proj"].addressable_shards[0].data.shape == (3, 3, 10, 12)
    for ours, one in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params)):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(one))


def test_bfloat16_is_the_rounded_float32(loaded, mesh):
    shardings = sharding.param_shardings(model.param_specs(loaded.cfg), mesh)
    half = hf.load_params(loaded.folder, loaded.cfg, shardings, "bfloat16")
    for h, f in zip(jax.tree.leaves(half), jax.tree.leaves(loaded.params)):
        assert h.dtype == "bfloat16"
        np.testing.assert_array_equal(np.asarray(h), np.asarray(f.astype("bfloat16")))


def test_bfloat16_folders_load(tmp_path, mesh, loaded):
    """Published checkpoints are bfloat16; float32 master weights hold every one of their values."""
    folder = tmp_path / "half"
    shutil.copytree(loaded.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    import ml_dtypes
    save_file({n: t.astype(ml_dtypes.bfloat16) for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    params = Loaded(folder, mesh).params
    np.testing.assert_array_equal(np.asarray(params["embedding"]),
                                  tensors["model.embed_tokens.weight"].astype(ml_dtypes.bfloat16).astype(np.float32))


def test_exported_folder_loads_in_transformers_with_the_same_logits(tmp_path, loaded, torch_model, rng):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    output = tmp_path / "out"
    export.write_folder(hf.to_tensors(loaded.params, loaded.cfg), output, loaded.tokenizer, str(loaded.folder))
    ids = torch.tensor(rng.integers(0, loaded.cfg.vocab_size, (1, 20)))
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(output).eval()(ids).logits, torch_model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.encode("12 apples €") == loaded.tokenizer.encode("12 apples €")
    assert tokenizer.chat_template == loaded.tokenizer.chat_template
    with pytest.raises(UserError, match="not an empty folder"):
        export.write_folder({}, output, loaded.tokenizer, None)


def test_a_failed_export_leaves_nothing(tmp_path, loaded):
    with pytest.raises(AttributeError):
        export.write_folder({"x": object()}, tmp_path / "out", loaded.tokenizer, str(loaded.folder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change, message", [
    ({"model_type": "mamba"}, "model_type 'mamba'"),
    ({"model_type": None}, "model_type None"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ({"attention_bias": True}, "attention_bias = True"),
    ({"use_sliding_window": True}, "use_sliding_window = True"),
    ({"num_experts": 8}, r"num_experts \(unknown\)"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4}}, "rope rope_type = 'yarn'"),
    ({"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "linear"}}, "rope type = 'linear'"),
    ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding_attention"),
])
def test_what_is_not_supported_is_refused_by_name(tmp_path, hf_folder, change, message):
    raw = json.loads((hf_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(UserError, match=message):
        hf.load_config(tmp_path)


def test_older_configs_with_rope_theta_at_the_top_load(tmp_path, hf_folder):
    raw = json.loads((hf_folder / "config.json").read_text())
    del raw["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(raw | {"rope_theta": 123.0, "rope_scaling": None}))
    assert hf.load_config(tmp_path).rope_theta == 123.0


def _copy(tmp_path, hf_folder):
    shutil.copytree(hf_folder, tmp_path / "m")
    return tmp_path / "m", tmp_path / "m" / "model.safetensors"


def test_defects_of_a_folder_are_named(tmp_path, hf_folder, mesh):
    folder, weights = _copy(tmp_path, hf_folder)
    tensors = load_file(weights)
    dropped, odd = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"
    broken = {n: t for n, t in tensors.items() if n != dropped} | {"extra": np.ones(2, np.float32)}
    broken[odd] = broken[odd][:-1].copy()
    save_file(broken, weights)
    with pytest.raises(UserError) as error:
        Loaded(folder, mesh)
    for words in (f"missing {dropped}", "unexpected extra", f"{odd} has shape (55, 48), expected (56, 48)"):
        assert words in str(error.value)
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        Loaded(folder, mesh)
    weights.unlink()
    with pytest.raises(UserError, match="missing weight file.*model.safetensors"):
        Loaded(folder, mesh)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        Loaded(folder, mesh)
    with pytest.raises(UserError, match="no such folder"):
        hf.load_config(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no config.json"):
        hf.load_config(tmp_path / "empty")
