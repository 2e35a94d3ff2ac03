"""Gemma 3 with images: its text part is loaded, trained and written back into the whole folder."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support.models import Loaded, _tokenizer, read_tensors
from support.oracle import assert_same

from sar_jax import config as config_lib
from sar_jax.model import hf, lora, network
from sar_jax.text import carried
from sar_jax.text.prompts import load_tokenizer
from sar_jax.training.commands import exported

TEXT = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 56,
    "sliding_window": 6,
    "sliding_window_pattern": 2,
    "max_position_embeddings": 512,
    "query_pre_attn_scalar": 17,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
VISION = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 8,
    "patch_size": 4,
    "vision_use_head": False,
}
# What the names begin with in the published folders, and in those that transformers 4.52 to 4.57
# wrote, in place of what today's writes.
LAYOUTS = {
    "published": {"vision_tower.": "vision_tower.vision_model."},
    "prefixed": {
        "language_model.model.": "model.language_model.",
        "vision_tower.": "model.vision_tower.vision_model.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
    "today": {},
}


def whole(folder):
    from transformers import Gemma3ForConditionalGeneration

    return Gemma3ForConditionalGeneration.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def folder(request, tmp_path_factory):
    """A random whole model, with the files that come with one, in one of the layouts."""
    from transformers import AutoConfig, Gemma3ForConditionalGeneration

    made, tokenizer = tmp_path_factory.mktemp("gemma") / request.param, _tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(
        "gemma3",
        text_config=text,
        vision_config=VISION,
        mm_tokens_per_image=4,
        image_token_index=3,
        boi_token_index=4,
        eoi_token_index=5,
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    for name, p in model.named_parameters():
        p.data = (0.3 if "norm" in name else 0.1) * torch.randn_like(p)
    model.save_pretrained(made, max_shard_size="60KB")
    tokenizer.save_pretrained(made)
    (made / "preprocessor_config.json").write_text('{"do_resize": true}')
    index = json.loads((made / "model.safetensors.index.json").read_text())
    rename = functools.partial(_renamed, LAYOUTS[request.param])
    for file in set(index["weight_map"].values()):
        renamed = {rename(name): tensor for name, tensor in load_file(made / file).items()}
        save_file(renamed, made / file, {"format": "pt"})
    index["weight_map"] = {rename(name): file for name, file in index["weight_map"].items()}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    if request.param == "published":  # most fields of the text part are left out, too
        raw = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps(raw | {"text_config": text}))
    return made


def _renamed(layout: dict[str, str], name: str) -> str:
    for old, new in layout.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def test_the_text_part_computes_what_the_whole_does(folder, mesh):
    loaded = Loaded(folder, mesh)
    ids = np.random.default_rng(0).integers(6, loaded.cfg.vocab_size, (1, 30))
    packed = (ids, np.arange(30)[None], np.ones((1, 30)))
    packed = [jnp.asarray(x, jnp.int32) for x in packed]
    hidden = network.forward(loaded.network, loaded.params, *packed)
    ours = network.unembed(loaded.network, loaded.params, hidden)
    with torch.no_grad():
        theirs = whole(folder)(torch.tensor(ids)).logits.numpy()
    assert_same(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_export_is_the_whole_with_the_text_s_weights_changed(folder, mesh, tmp_path, dtype):
    loaded, output = Loaded(folder, mesh), tmp_path / "out"
    changed = jax.tree.map(lambda x: (x + 0.01).astype(dtype), loaded.params)
    raw, tokenizer = hf.read_json(folder, "config.json"), load_tokenizer(str(folder))
    exported.write_folder(
        changed, loaded.cfg, output, tokenizer, raw, source=str(folder), max_shard_size="40KB"
    )
    before, after = read_tensors(folder), read_tensors(output)
    assert before.keys() == after.keys() and len(list(output.glob("*.safetensors"))) > 1
    for name, tensor in before.items():
        if "language_model" in name:
            expected = (tensor + np.float32(0.01)).astype(after[name].dtype)
            assert after[name].dtype == dtype
            np.testing.assert_array_equal(after[name], expected)
        else:
            np.testing.assert_array_equal(after[name], tensor)
            assert after[name].dtype == tensor.dtype
    again = whole(output).state_dict()
    assert str(again["model.language_model.norm.weight"].dtype) == f"torch.{dtype}"
    assert all(torch.isfinite(x).all() for x in again.values())
    described = hf.read_json(output, "config.json")
    assert described["dtype"] == described["text_config"].get("dtype", dtype) == dtype
    reread = Loaded(output, mesh)
    assert_same(reread.params["embedding"], changed["embedding"].astype("float32"))
    for file in ("tokenizer.json", "preprocessor_config.json"):
        assert (output / file).read_bytes() == (folder / file).read_bytes()


def test_an_adapter_of_the_text_part_names_modules_of_the_whole(folder, mesh, tmp_path):
    loaded = Loaded(folder, mesh)
    adapted = lora.adapted(loaded.cfg, config_lib.Lora(rank=2, targets="q_proj,down_proj"))
    adapters = lora.init(adapted, jax.random.key(0))
    asked = carried.Carried(config_lib.Prompt(), 8, 8, [1], None)
    exported.write_adapter(adapters, adapted, tmp_path / "out", str(folder), str(folder), "", asked)
    modules = dict(whole(folder).named_modules())
    for name in read_tensors(tmp_path / "out"):
        module = name.removeprefix("base_model.model.").rpartition(".lora_")[0]
        assert module in modules and "language_model" in module
