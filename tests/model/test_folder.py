"""Model folders made by others: every wrong value, file and tensor is one line that names it."""

import json
import os
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sar_jax.errors import UserError
from sar_jax.model import download, hf, parameters
from sar_jax.model import folder as folder_lib
from sar_jax.parallel import sharding
from sar_jax.text import prompts


@pytest.fixture
def copy(hf_folder, tmp_path):
    shutil.copytree(hf_folder, tmp_path / "model")
    return tmp_path / "model"


def load(folder, mesh):
    cfg = hf.load_config(folder, 512)
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    return hf.load_params(folder, cfg, shardings)


def refused(make) -> str:
    with pytest.raises(UserError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


def write(folder, name, **changes) -> None:
    path = folder / name
    fields = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(fields | changes))


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("hidden_size", "48", "hidden_size is '48': it must be a whole number"),
        ("hidden_size", -48, "hidden_size is -48: it must be"),
        ("vocab_size", 320.5, "vocab_size is 320.5: it must be a whole number"),
        ("vocab_size", True, "vocab_size is True: it must be a whole number"),
        ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000: too many"),
        ("num_key_value_heads", 4, "num_key_value_heads is 4: it must divide 6 heads"),
        ("head_dim", 7, "head_dim is 7: it must be even"),
        ("rms_norm_eps", "small", "rms_norm_eps is 'small': it must be a number"),
        ("rms_norm_eps", float("nan"), "rms_norm_eps is nan: it must be a number"),
        ("tie_word_embeddings", "yes", "tie_word_embeddings is 'yes': it must be true or false"),
        ("layer_types", [1, 2, 3], "layer_types is [1, 2, 3]: it must be a list of texts"),
        ("rope_parameters", [1], "rope_parameters is [1]: it must be a JSON object"),
        ("rope_parameters", {"rope_theta": "10"}, "rope rope_theta is '10': it must be a number"),
        ("rope_parameters", {"rope_type": ["x"]}, "rope_type ['x'] is not supported"),
        ("model_type", ["qwen3"], "model_type ['qwen3'] is not supported"),
        ("sliding_window", {}, "sliding_window is {}: it must be a whole number"),
    ],
)
def test_a_value_of_another_kind_is_named(copy, name, value, words):
    write(copy, "config.json", **{name: value})
    found = refused(lambda: hf.load_config(copy, 512))
    assert found.startswith(f"{copy}/config.json: ") and words in found


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe{\x00}\x00", b"[" * 100_000, b"[1, 2]", b'"text"', b"null"],
)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_json_that_is_none_or_no_object_is_named(copy, name, content):
    (copy / name).write_bytes(content)
    read = hf.read_stop_ids if name.startswith("generation") else lambda f: hf.load_config(f, 512)
    assert refused(lambda: read(copy)).startswith(str(copy / name))


@pytest.mark.parametrize("ids", ["<|im_end|>", ["2"], [True], 2.5, -1, 2**40, {"id": 2}, [[2]]])
def test_stop_ids_that_are_no_ids_are_named(copy, ids):
    write(copy, "generation_config.json", eos_token_id=ids)
    found = refused(lambda: hf.read_stop_ids(copy))
    assert found.startswith(f"{copy}/generation_config.json: eos_token_id is ")


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/hostname",
        "sub/model.safetensors",
        "..",
        "config.json",
        "",
        7,
        None,
        ["model.safetensors"],
        "a\0.safetensors",
        "..\\outside.safetensors",
    ],
)
def test_an_index_cannot_leave_its_folder(copy, mesh, name):
    part = (copy / "model.safetensors").rename(copy / "part.safetensors")
    shutil.copy(part, copy.parent / "outside.safetensors")
    listed = {tensor: part.name for tensor in load_file(part)} | {"model.norm.weight": name}
    write(copy, INDEX, weight_map=listed)
    found = refused(lambda: load(copy, mesh))
    assert found.startswith(f"{copy}/{INDEX}: the file of model.norm.weight is {name!r:.10}")


def test_links_of_the_hubs_cache_are_followed(copy, mesh):
    """Its snapshots link to ../../blobs."""
    (copy.parent / "blobs").mkdir()
    for number, file in enumerate(sorted(copy.iterdir())):
        blob = copy.parent / "blobs" / str(number)
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, copy))
    write(copy, INDEX, weight_map=dict.fromkeys(load_file(copy / "model.safetensors"), "x"))
    (copy / INDEX).write_text((copy / INDEX).read_text().replace('"x"', '"model.safetensors"'))
    load(copy, mesh)
    prompts.load_tokenizer(str(copy))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_that_are_no_numbers_are_named(copy, mesh, value, dtype):
    tensors = {n: t.astype(dtype) for n, t in load_file(copy / "model.safetensors").items()}
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    load(copy, mesh)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 4] = value
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    found = refused(lambda: load(copy, mesh))
    assert found == f"{copy}/model.safetensors: {name} holds NaN or infinity"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.int8])
def test_the_largest_numbers_are_numbers(dtype):
    info = np.iinfo(dtype) if dtype is np.int8 else ml_dtypes.finfo(dtype)
    values = np.array([info.max, info.min, 0, 1], dtype)
    assert folder_lib.is_finite(values)
    assert folder_lib.is_finite(values[:0]) and folder_lib.is_finite(values.reshape(2, 2).T)


def test_a_number_format_that_there_is_not_is_named(copy, mesh):
    content = bytearray((copy / "model.safetensors").read_bytes())
    start = content.index(b'"dtype":"F32"')
    content[start : start + 13] = b'"dtype":"X32"'
    (copy / "model.safetensors").write_bytes(content)
    assert refused(lambda: load(copy, mesh)).startswith(f"{copy}/model.safetensors: ")


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_cut_weight_file_is_named(copy, mesh, keep):
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[:keep])
    assert refused(lambda: load(copy, mesh)).startswith(f"{copy}/model.safetensors: ")


def test_a_damaged_tokenizer_is_named(copy):
    text = (copy / "tokenizer.json").read_text()
    for content in (text[:-100], "{}", "[]", "", text.replace('"BPE"', '"XYZ"')):
        (copy / "tokenizer.json").write_text(content)
        found = refused(lambda: prompts.load_tokenizer(str(copy)))
        assert found.startswith(f"{copy}: tokenizer.json cannot be read (")
    (copy / "tokenizer.json").write_text(text)
    (copy / "tokenizer_config.json").write_text("{")
    found = refused(lambda: prompts.load_tokenizer(str(copy)))
    assert found.startswith(f"{copy}: tokenizer_config.json cannot be read (")


def test_a_tokenizer_that_is_a_pipe_is_named(copy):
    (copy / "tokenizer.json").unlink()
    os.mkfifo(copy / "tokenizer.json")
    found = refused(lambda: prompts.load_tokenizer(str(copy)))
    assert found.startswith(f"{copy}: tokenizer.json cannot be read (")


def test_code_that_comes_with_a_tokenizer_is_not_run(copy):
    (copy / "own.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass Own:\n    pass\n")
    (copy / "tokenizer.json").unlink()
    auto = {"AutoTokenizer": ["own.Own", None]}
    write(copy, "tokenizer_config.json", auto_map=auto, tokenizer_class="Own")
    refused(lambda: prompts.load_tokenizer(str(copy)))
    assert not (copy / "ran").exists()


def test_a_home_folder_is_found(monkeypatch, tmp_path):
    """As in a config file, where no shell has seen the path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert download.locate("~/m") == str(tmp_path / "m")
