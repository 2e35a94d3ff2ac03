"""Weight files as people have them: what `transformers` does with two that disagree, and one line
that names the cause and the way out for what is not read."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support.models import Loaded, load_torch, make_hf_folder, read_tensors
from support.oracle import assert_same

from sar_jax.errors import UserError
from sar_jax.model import hf

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def copy(hf_folder, tmp_path):
    shutil.copytree(hf_folder, tmp_path / "model")
    return tmp_path / "model"


def change(folder, make) -> dict:
    """Writes the tensors that `make` makes of the folder's."""
    path = folder / "model.safetensors"
    made = make(load_file(path))
    save_file(made, path, {"format": "pt"})
    return made


def refused(folder) -> str:
    with pytest.raises(UserError) as error:
        hf.Weights(folder).check(hf.load_config(folder, 64))
    assert "\n" not in str(error.value)
    return str(error.value)


def is_same(folder, mesh, hf_folder) -> bool:
    """Are the parameters those of the session's model?"""
    ours, other = Loaded(folder, mesh).params, Loaded(hf_folder, mesh).params
    same = lambda a, b: np.array_equal(np.asarray(a), np.asarray(b))
    pairs = zip(*(jax.tree.leaves(params) for params in (ours, other)), strict=True)
    return all(same(a, b) for a, b in pairs)


def test_a_single_file_is_read_and_not_the_index_beside_it(copy, mesh, hf_folder):
    shard = "model-00001-of-00001.safetensors"
    tensors = load_file(copy / "model.safetensors")
    save_file({n: 2 * t for n, t in tensors.items()}, copy / shard, {"format": "pt"})
    index = {"weight_map": {name: shard for name in tensors}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert is_same(copy, mesh, hf_folder)
    theirs = load_torch(copy).state_dict()[EMBEDDING].numpy()
    assert np.array_equal(theirs, tensors[EMBEDDING])
    (copy / shard).unlink()  # an index whose shards are gone
    assert is_same(copy, mesh, hf_folder)


def test_a_tied_head_that_differs_is_refused_and_one_that_is_equal_left_out(copy, mesh, hf_folder):
    change(copy, lambda t: t | {HEAD: t[EMBEDDING].copy()})
    assert is_same(copy, mesh, hf_folder)
    made = change(copy, lambda t: t | {HEAD: t[EMBEDDING] + np.eye(*t[HEAD].shape, dtype="f4")})
    assert "set tie_word_embeddings to false" in refused(copy)
    raw = json.loads((copy / "config.json").read_text())
    theirs = load_torch(copy)(torch.arange(9)[None]).logits.detach().numpy()
    (copy / "config.json").write_text(json.dumps(raw | {"tie_word_embeddings": False}))
    loaded = Loaded(copy, mesh)
    assert np.array_equal(np.asarray(loaded.params["head"]), made[HEAD])
    untied = load_torch(copy)(torch.arange(9)[None]).logits.detach().numpy()
    assert_same(untied, theirs)  # what the message says of transformers


def test_a_head_alone_is_the_embedding_too_where_they_are_tied(copy, mesh, hf_folder):
    change(copy, lambda t: {HEAD if n == EMBEDDING else n: x for n, x in t.items()})
    assert is_same(copy, mesh, hf_folder)
    assert np.array_equal(
        load_torch(copy).model.embed_tokens.weight.detach().numpy(),
        load_file(hf_folder / "model.safetensors")[EMBEDDING],
    )


def test_buffers_that_are_computed_anew_are_left_out(copy, mesh, hf_folder):
    buffer = np.ones(5, np.float32)
    name = "model.layers.{}.self_attn.rotary_emb.inv_freq"
    change(copy, lambda t: t | {name.format(l): buffer for l in range(3)})
    assert is_same(copy, mesh, hf_folder)


def test_a_base_model_without_a_head_has_shorter_names(copy, mesh, hf_folder):
    from transformers import AutoModel

    AutoModel.from_pretrained(hf_folder).save_pretrained(copy)
    assert "embed_tokens.weight" in read_tensors(copy)
    assert is_same(copy, mesh, hf_folder)


@pytest.mark.parametrize(
    "prefix, who",
    [
        ("module.", "DistributedDataParallel"),
        ("base_model.model.", "PEFT"),
        ("_orig_mod.", "torch.compile"),
        ("pretrained_model.", "value head"),
    ],
)
def test_names_that_a_training_program_wrapped_are_named_with_it(copy, prefix, who):
    change(copy, lambda t: {prefix + name: x for name, x in t.items()})
    found = refused(copy)
    assert who in found and f"{prefix}model." in found and "save it again" in found


def test_quantised_weights_are_named(copy):
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = load_file(copy / "model.safetensors")
    for dtype, words in ((ml_dtypes.float8_e4m3fn, "F8_E4M3"), (np.int8, "I8")):
        made = tensors | {name: tensors[name].astype(dtype)}
        save_file(made, copy / "model.safetensors", {"format": "pt"})
        found = refused(copy)
        assert all(part in found for part in ("weights are quantised", name, words, "bfloat16"))
    scale = "model.layers.1.mlp.up_proj.weight_scale_inv"
    made = tensors | {scale: np.ones(1, np.float32)}
    save_file(made, copy / "model.safetensors", {"format": "pt"})
    assert "weights are quantised" in refused(copy) and scale in refused(copy)


@pytest.mark.parametrize(
    "file, words",
    [
        ("pytorch_model.bin", "save_pretrained"),
        ("model.Q4_K_M.gguf", "mostly quantised"),
        ("model-00001-of-00002.safetensors", "without model.safetensors.index.json"),
        ("consolidated.00.safetensors", "its maker's own names"),
        ("other.safetensors", "a model's own weights are in model.safetensors"),
    ],
)
def test_what_is_there_in_place_of_weights_is_named(copy, file, words):
    (copy / "model.safetensors").rename(copy / file)
    found = refused(copy)
    assert "missing weight file(s): model.safetensors" in found
    assert file in found and words in found


def test_the_weights_of_a_family_with_fused_matrices_take_the_right_rows(tmp_path, mesh):
    folder = make_hf_folder(tmp_path / "m", family="phi3")
    loaded = Loaded(folder, mesh)
    fused = read_tensors(folder)["model.layers.0.self_attn.qkv_proj.weight"]
    v = np.asarray(loaded.params["layers"]["v_proj"][0])
    assert np.array_equal(fused[-v.shape[1] * v.shape[2] :].T, v.reshape(len(v), -1))
