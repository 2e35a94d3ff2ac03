"""Tiny random models in Hugging Face's format, by `transformers` itself, which is the oracle for
ours."""

import functools
import pathlib

import numpy as np
from safetensors.numpy import load_file

from sar_jax.config import Prompt
from sar_jax.model import hf, parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.text.prompts import Prompter, load_tokenizer
from sar_jax.text.tasks import arithmetic
from sar_jax.text.tokenizer import train_tokenizer

# Sizes and values that no default has, for every family that `transformers` knows under these
# names.
_ODD = dict(
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    intermediate_size=56,
    rms_norm_eps=3e-5,
    max_position_embeddings=512,
)
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}}
# Between them all kinds of layers, norms, windows, rope and stored weights: for what takes long.
FEW = ("gemma3_text", "phi3", "qwen3")
FAMILIES: dict[str, dict] = {
    "qwen3": {"head_dim": 10, "tie_word_embeddings": True, **_ROPE},
    "qwen2": {
        "tie_word_embeddings": True,
        "use_sliding_window": True,
        "sliding_window": 7,
        "max_window_layers": 1,
        **_ROPE,
    },
    "llama": {
        "head_dim": 6,
        "num_key_value_heads": 3,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e3,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
    "phi3": {
        "num_key_value_heads": 3,
        "tie_word_embeddings": False,
        "sliding_window": 13,
        "original_max_position_embeddings": 20,
        "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 900.0,
            "short_factor": [1.0, 1.1, 1.3, 1.6],
            "long_factor": [1.2, 2.0, 5.0, 11.0],
        },
    },
    "gemma3_text": {
        "head_dim": 10,
        "num_key_value_heads": 1,
        "num_hidden_layers": 4,
        "query_pre_attn_scalar": 17,
        "sliding_window": 6,
        "final_logit_softcapping": 4.0,
        "tie_word_embeddings": True,
        "layer_types": [
            "sliding_attention",
            "sliding_attention",
            "full_attention",
            "sliding_attention",
        ],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 5e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
        },
    },
    "gemma2": {
        "head_dim": 10,
        "query_pre_attn_scalar": 17,
        "sliding_window": 6,
        "final_logit_softcapping": 5.0,
        "attn_logit_softcapping": 3.0,
        **_ROPE,
    },
    "mistral": {
        "head_dim": 10,
        "sliding_window": 9,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 555.0, "factor": 3.0},
    },
    "ministral": {
        "head_dim": 12,
        "sliding_window": 8,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        **_ROPE,
    },
    "smollm3": {
        "pad_token_id": 0,
        "num_hidden_layers": 4,
        "tie_word_embeddings": True,
        "no_rope_layers": [1, 0, 1, 0],
        "attention_bias": True,
        "mlp_bias": True,
        "use_sliding_window": True,
        "sliding_window": 11,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 5e3,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
    "olmo2": {"pad_token_id": 0, "attention_bias": True, "tie_word_embeddings": False, **_ROPE},
    "olmo3": {
        "pad_token_id": 0,
        "num_hidden_layers": 4,
        "num_key_value_heads": 3,
        "sliding_window": 10,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "full_attention": {
                "rope_type": "yarn",
                "rope_theta": 5e4,
                "factor": 8.0,
                "original_max_position_embeddings": 64,
                "attention_factor": 1.2,
                "beta_fast": 20.0,
                "beta_slow": 2.0,
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": 400.0},
        },
    },
}


def make_hf_folder(
    folder: pathlib.Path, seed: int = 0, family: str = "qwen3", **overrides
) -> pathlib.Path:
    """A random model of the family by `transformers` itself, with a tokenizer; odd sizes and odd
    values on purpose."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = _tokenizer()
    settings = dict(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        **_ODD | FAMILIES.get(family, {}) | overrides,
    )
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
    gemma = family.startswith("gemma")
    for (
        name,
        p,
    ) in network.named_parameters():  # gains other than one, weights large enough to matter
        mean, scale = (0 if gemma else 1, 0.3) if "norm" in name else (0, 0.1)
        p.data = mean + scale * torch.randn_like(p)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def _tokenizer():
    source = arithmetic.Arithmetic("train")
    texts = [
        text
        for i in range(300)
        for text in (source[i].question, source[i].solution, "system user assistant")
    ]
    return train_tokenizer(texts, 320, 512)


def read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder, by the library's own reader."""
    files = folder.glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def load_torch(folder: pathlib.Path, long: bool = False):
    """The model by `transformers`. Eager attention: the one that applies every field (soft caps).
    long: LongRoPE's long factors for rows of any length, where `transformers` would choose by the
    row."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    if long and "long_factor" in (config.rope_parameters or {}):
        config.rope_parameters["short_factor"] = config.rope_parameters["long_factor"]
    return AutoModelForCausalLM.from_pretrained(
        folder, config=config, attn_implementation="eager"
    ).eval()


class Loaded:
    """The random model as ours: cfg, params on one device, network in float32, prompter, stop
    ids."""

    def __init__(self, folder: pathlib.Path, mesh, max_length: int = 512):
        self.folder, self.mesh = folder, mesh
        self.cfg = hf.load_config(folder, max_length)
        self.params = hf.load_params(folder, self.cfg, self.shardings(mesh))
        self.network = Network(self.cfg)
        self.tokenizer = load_tokenizer(str(folder))
        self.prompter = Prompter(self.tokenizer, Prompt())
        self.stop = (self.tokenizer.eos_token_id,)

    def shardings(self, mesh):
        return sharding.param_shardings(parameters.param_specs(self.cfg), mesh)
