"""Random models as Hugging Face folders, which every program reads.

python -m peers.models FOLDER [VOCABULARY|ID]
"""

import json
import pathlib
import sys
from typing import Any

import jax

from sar_jax.model import families, hf, known, parameters
from sar_jax.model.parameters import ModelConfig, Params
from sar_jax.parallel import sharding


def describe(vocabulary: int, **fields: Any) -> families.Json:
    """config.json of a 4-layer Qwen3 of width 256; fields: others that it has."""
    standard = dict(
        num_hidden_layers=4,
        hidden_size=256,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=1024,
        vocab_size=vocabulary,
        rope_theta=1e6,
        max_position_embeddings=4096,
        eos_token_id=1,
        pad_token_id=0,
    )
    return families.qwen3_json(**standard | fields)


def published(name: str) -> families.Json:
    """config.json of a shipped config's model, by its id on the hub; its stops are left out.

    Raises SystemExit for another.
    """
    if name not in known.CONFIGS:
        raise SystemExit(f"{name!r} is none of {', '.join(known.CONFIGS)}")
    return known.CONFIGS[name] | dict(eos_token_id=1, pad_token_id=0)


def draw(raw: families.Json, longest: int) -> tuple[ModelConfig, Params]:
    """The model of a config.json with random weights, on the first device."""
    cfg, mesh = families.parse(raw, longest), sharding.make_mesh(1, 1, 1, jax.devices()[:1])
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    init = jax.jit(lambda key: parameters.init_params(cfg, key), out_shardings=shardings)
    return cfg, init(jax.random.key(0))


def write(folder: pathlib.Path, raw: families.Json) -> None:
    """A folder without a tokenizer; what is there already stays."""
    if (folder / "model.safetensors").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    cfg, params = draw(raw, 4096)
    (folder / "config.json").write_text(json.dumps(raw, indent=2))
    hf.save_weights(params, cfg, folder)


if __name__ == "__main__":
    _, to, *asked = sys.argv
    which = asked[0] if asked else "4096"
    write(pathlib.Path(to), describe(int(which)) if which.isdecimal() else published(which))
