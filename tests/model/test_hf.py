"""Hugging Face folders: bit-equal there and back, sharded loading, and every defect named."""

import functools
import json
import os
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.models import FAMILIES, FEW, Loaded, load_torch, make_hf_folder, read_tensors

from sar_jax.errors import UserError
from sar_jax.model import download, hf
from sar_jax.parallel import sharding
from sar_jax.training.commands import exported


@pytest.mark.parametrize(
    "family, shard_size, tied",
    [
        *((family, "30KB", tied) for family in sorted(FAMILIES) for tied in (True, False)),
        *((family, "5GB", family == "qwen3") for family in FEW),  # all in one file
    ],
)
def test_folder_to_params_to_folder_is_bit_equal(tmp_path, mesh, family, tied, shard_size):
    source = make_hf_folder(tmp_path / "source", family=family, tie_word_embeddings=tied)
    loaded = Loaded(source, mesh)
    again = tmp_path / "again"
    again.mkdir()
    hf.save_weights(loaded.params, loaded.cfg, again, shard_size)
    assert (again / "model.safetensors.index.json").exists() == (shard_size == "30KB")
    original, reread = read_tensors(source), read_tensors(again)
    assert original.keys() == reread.keys()
    assert ("lm_head.weight" in reread) == (not tied)
    for name, tensor in original.items():
        assert tensor.dtype == reread[name].dtype
        np.testing.assert_array_equal(tensor, reread[name])
    params = hf.load_params(again, loaded.cfg, loaded.shardings(mesh))
    assert all(
        jax.tree.leaves(
            jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), params, loaded.params)
        )
    )


def test_folders_that_transformers_shards_load(tmp_path, each_family, mesh):
    each_family.oracle.single.save_pretrained(tmp_path / "m", max_shard_size="40KB")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 1
    params = hf.load_params(tmp_path / "m", each_family.cfg, each_family.shardings(mesh))
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)),
        params,
        each_family.params,
    )


@pytest.mark.few_families
@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 1, 8), (1, 8, 1)])
def test_every_slice_of_every_family_is_the_right_one(each_family, shape):
    """Rows and columns of folded and fused matrices, cut over devices."""
    mesh = sharding.make_mesh(*shape)
    params = hf.load_params(each_family.folder, each_family.cfg, each_family.shardings(mesh))
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)),
        params,
        each_family.params,
    )


def test_a_device_reads_only_its_part(loaded, monkeypatch):
    """Bytes taken from the files for one device of eight: its share, but for what is replicated."""
    mesh, read = sharding.make_mesh(1, 4, 2), []
    original = hf.Weights.read

    def counted(self, tensor, shape, index, layer, first_row):
        part = original(self, tensor, shape, index, layer, first_row)
        # what came from the file, before head_dim is cut
        whole = part if part.base is None else part.base
        read.append(whole.nbytes)
        return part

    monkeypatch.setattr(hf.Weights, "read", counted)
    params = hf.load_params(loaded.folder, loaded.cfg, loaded.shardings(mesh))
    held = sum(
        shard.data.nbytes for leaf in jax.tree.leaves(params) for shard in leaf.addressable_shards
    )
    assert sum(read) <= held


def test_every_device_gets_its_own_slice(loaded):
    mesh = sharding.make_mesh(1, 4, 2)
    params = hf.load_params(loaded.folder, loaded.cfg, loaded.shardings(mesh))
    assert params["layers"]["o_proj"].addressable_shards[0].data.shape == (3, 3, 10, 12)
    for ours, one in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params)):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(one))


def test_bfloat16_is_the_rounded_float32(loaded, mesh):
    shardings = loaded.shardings(mesh)
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

    save_file(
        {n: t.astype(ml_dtypes.bfloat16) for n, t in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    params = Loaded(folder, mesh).params
    np.testing.assert_array_equal(
        np.asarray(params["embedding"]),
        tensors["model.embed_tokens.weight"].astype(ml_dtypes.bfloat16).astype(np.float32),
    )


def test_exported_folder_loads_in_transformers_with_the_same_logits(tmp_path, each_family, rng):
    import torch
    from transformers import AutoTokenizer

    output, raw = tmp_path / "out", hf.read_json(each_family.folder, "config.json")
    exported.write_folder(
        each_family.params,
        each_family.cfg,
        output,
        each_family.tokenizer,
        raw,
        source=str(each_family.folder),
    )
    assert json.loads((output / "config.json").read_text()) == raw
    ids = torch.tensor(rng.integers(0, each_family.cfg.vocab_size, (1, 20)))
    with torch.no_grad():
        again = load_torch(output, long=True)(ids).logits
        assert torch.equal(again, each_family.oracle.single(ids).logits)
    for file in each_family.folder.iterdir():  # what training did not change
        if file.suffix != ".safetensors":
            assert (output / file.name).read_bytes() == file.read_bytes(), file.name
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.encode("12 apples €") == each_family.tokenizer.encode("12 apples €")
    assert tokenizer.chat_template == each_family.tokenizer.chat_template
    with pytest.raises(UserError, match="not an empty folder"):
        exported.write_folder({}, each_family.cfg, output, each_family.tokenizer, raw)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_an_export_in_bfloat16_says_so_where_the_folder_did(tmp_path, loaded, name):
    raw = hf.read_json(loaded.folder, "config.json")
    del raw["dtype"]
    params = jax.tree.map(lambda x: x.astype("bfloat16"), loaded.params)
    exported.write_folder(
        params, loaded.cfg, tmp_path / "out", loaded.tokenizer, raw | {name: "float32"}
    )
    assert json.loads((tmp_path / "out/config.json").read_text()) == raw | {name: "bfloat16"}
    tensors = read_tensors(tmp_path / "out")
    assert {str(t.dtype) for t in tensors.values()} == {"bfloat16"}
    assert str(load_torch(tmp_path / "out").dtype) == "torch.bfloat16"


def test_an_export_takes_the_files_beside_the_weights_as_they_are_and_no_others(tmp_path, loaded):
    source = tmp_path / "source"
    shutil.copytree(loaded.folder, source)
    taken = {
        "tokenizer_config.json": '{"tokenizer_class": "SomeOlderTokenizer"}',
        "special_tokens_map.json": "{}",
        "merges.txt": "#version: 0.2",
        "tokenizer.model": "sentencepiece",
        "chat_template.json": "{}",
        "preprocessor_config.json": "{}",
        "configuration_other.py": "raise SystemExit",
        "LICENSE": "one's own",
        "additional_chat_templates/tools.jinja": "{{ messages }}",
    }
    left = ("training_args.bin", "optimizer.pt", "README.md", "adapter_config.json", "sar_jax.json")
    for name in (*taken, *left):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(taken.get(name, "{}"))
    (source / "adapter_config.json").unlink()
    raw = hf.read_json(source, "config.json")
    exported.write_folder(
        loaded.params, loaded.cfg, tmp_path / "out", loaded.tokenizer, raw, source=str(source)
    )
    for name, text in taken.items():
        assert (tmp_path / "out" / name).read_text() == text
    assert not any((tmp_path / "out" / name).exists() for name in left)


def test_a_failed_export_leaves_nothing(tmp_path, loaded):
    with pytest.raises(TypeError):
        exported.write_folder(
            loaded.params, loaded.cfg, tmp_path / "out", loaded.tokenizer, {"x": object()}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["5 apples", "GB", ""])
def test_a_shard_size_that_is_none_is_refused(loaded, size):
    with pytest.raises(UserError, match="--max-shard-size"):
        hf.check_shard_size(size)


@pytest.mark.parametrize(
    "family, change, message",
    [
        ("qwen3", {"model_type": "mamba"}, "model_type 'mamba'"),
        ("qwen3", {"model_type": None}, "model_type None"),
        ("qwen3", {"model_type": "gemma3"}, "text_config is missing"),
        ("qwen3", {"model_type": "qwen3_moe"}, "model_type 'qwen3_moe'"),
        ("qwen3", {"model_type": "qwen3_moe", "num_experts": 8}, "take a dense model"),
        ("qwen3", {"model_type": "qwen3_next", "linear_num_value_heads": 8}, "take Qwen3"),
        ("qwen3", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation = 'gelu'"),
        ("qwen3", {"num_experts": 8}, r"num_experts = 8 \(unknown\)"),
        ("llama", {"kv_lora_rank": 16}, r"kv_lora_rank = 16 \(unknown\)"),
        ("qwen2", {"is_causal": False}, "is_causal = False"),
        ("qwen2", {"per_layer_config": {"0": {"head_dim": 4}}}, "per_layer_config"),
        ("mistral", {"layer_types": ["full_attention"] * 3}, "a mistral model has none"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers has 2 entries for 4 layers"),
        ("smollm3", {"no_rope_layers": [1, 0, 2, 1]}, "a list of 0 and 1"),
        ("llama", {"attention_bias": "yes"}, "attention_bias is 'yes': it must be true or false"),
        ("qwen3", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("qwen3", {"rope_parameters": {"rope_type": "proportional"}}, "rope_type 'proportional'"),
        (
            "qwen3",
            {"rope_scaling": {"type": "dynamic", "factor": 2}, "max_position_embeddings": 511},
            "dynamic scales by the length of a row beyond 511 positions",
        ),
        (
            "qwen3",
            {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "linear"}},
            "linear lacks factor",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}},
            "lacks high_freq_factor, low_freq_factor",
        ),
        (
            "qwen3",
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor = 0.5",
        ),
        (
            "phi3",
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
            "'llama3' is not supported for phi3",
        ),
        (
            "phi3",
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "short_factor": [1.0],
                    "long_factor": [1.0],
                    "original_max_position_embeddings": 20,
                }
            },
            "long_factor has 1 entries, but the heads need 4",
        ),
        ("gemma3_text", {"rope_parameters": {"rope_theta": 1e4}}, "unknown field rope_theta"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
        (
            "gemma3_text",
            {"use_bidirectional_attention": True},
            "use_bidirectional_attention = True",
        ),
        (
            "qwen2",
            {"layer_types": ["full_attention", "chunked_attention", "full_attention"]},
            "'chunked_attention'",
        ),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 3 layers"),
        (
            "qwen2",
            {"layer_types": ["sliding_attention"] * 3, "use_sliding_window": False},
            "without a sliding_window",
        ),
        ("qwen3", {"hidden_size": None}, "hidden_size is missing"),
        ("qwen3", {"head_dim": None}, "head_dim is missing"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, written, family, change, message):
    (tmp_path / "config.json").write_text(json.dumps(written(family) | change))
    with pytest.raises(UserError, match=message):
        hf.load_config(tmp_path, 512)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """config.json of a family's model."""

    @functools.cache
    def read(family):
        folder = make_hf_folder(tmp_path_factory.mktemp("written") / "m", family=family)
        return json.loads((folder / "config.json").read_text())

    return read


# config.json as published, before `transformers` renamed the rotary fields: the same model either
# way.
_OLDER = {
    "qwen3": (
        {"rope_theta": 123.0, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}},
    ),
    "llama": (
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0}},
    ),
    "phi3": (
        {
            "rope_theta": 900.0,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1, 1, 1, 1.5],
                "long_factor": [1, 2, 5, 11],
            },
        },
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 900.0,
                "short_factor": [1, 1, 1, 1.5],
                "long_factor": [1, 2, 5, 11],
                "original_max_position_embeddings": 20,
            }
        },
    ),
    "gemma3_text": (
        {
            "rope_theta": 5e4,
            "rope_local_base_freq": 300.0,
            "rope_scaling": {"rope_type": "linear", "factor": 3.0},
        },
        {},
    ),
}


@pytest.mark.parametrize("family", sorted(_OLDER))
def test_older_spellings_of_the_rotary_fields_mean_the_same(written, family):
    raw = dict(written(family))
    older, newer = _OLDER[family]
    expected = hf.families.parse(raw | newer, 512)
    del raw["rope_parameters"]
    assert hf.families.parse(raw | older, 512) == expected


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
    for words in (
        f"missing {dropped}",
        "unexpected extra",
        f"{odd} has shape (55, 48), expected (56, 48)",
    ):
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
        hf.load_config(tmp_path / "nowhere", 9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no config.json"):
        hf.load_config(tmp_path / "empty", 9)


def test_defects_of_an_index_are_named(tmp_path, hf_folder, mesh):
    """A shard that is gone, one that is cut off, a tensor that is not where the index says, no map
    at all."""
    folder = tmp_path / "m"
    load_torch(hf_folder).save_pretrained(folder, max_shard_size="40KB")
    cfg = hf.load_config(folder, 512)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))

    def fails(message):
        with pytest.raises(UserError, match=message):
            hf.Weights(folder).check(cfg)

    tensor = next(t for t, f in index["weight_map"].items() if f == names[0])
    wrong = index | {"weight_map": index["weight_map"] | {tensor: names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(wrong))
    fails(f"{tensor} is not in {names[1]}")
    (folder / "model.safetensors.index.json").write_text("{}")
    fails("no weight_map")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    content = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(content[:-8])
    fails(f"{names[1]}: not a complete safetensors file")
    (folder / names[1]).unlink()
    fails(f"missing weight file.*{names[1]}")


def test_a_hub_id_that_cannot_be_fetched_says_what_to_do():
    with pytest.raises(UserError, match="hf download nobody/nothing --local-dir"):
        download.locate("nobody/nothing")
    for folder in ("./a/b", "/a/b", "a", "a/b/c"):
        assert download.locate(folder) == folder
    assert download.locate("~/a") == os.path.expanduser("~/a")
