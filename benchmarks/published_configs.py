"""config.json of models that people fine-tune, as published: which load, and how large they are.

    python benchmarks/published_configs.py             prints the table of docs/models.md
    python benchmarks/published_configs.py --write     puts it there
    python benchmarks/published_configs.py --count     counts by transformers too (needs torch)

A model is in the table with the parameters that it has here, the size of its weights in bfloat16,
and what one that learns needs: float32 weights, two moments and gradients, 16 bytes a parameter. Or
with the line that refuses it. Fields that say nothing of the function (architectures, ids of
tokens, dropout, versions) are left out where they are the same in all.
"""

import argparse
import pathlib
import sys
from typing import Any

Json = dict[str, Any]
PAGE = pathlib.Path(__file__).parent.parent / "docs/models.md"
BEGIN, END = "<!-- published_configs.py -->", "<!-- end -->"
LONGEST = 4096  # tokens of a run's longest sequence


def _sizes(kind: str, layers: int, width: int, heads: int, kv: int, ffw: int, vocab: int) -> Json:
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": ffw,
        "vocab_size": vocab,
    }


def _qwen2(*sizes: int, tied: bool = False, **more: Any) -> Json:
    """Of Qwen2.5, with fields that its class does not know or use."""
    return {
        **_sizes("qwen2", *sizes),
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "max_window_layers": 24,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "sliding_window": 32768,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_mrope": False,
        "use_sliding_window": False,
        **more,
    }


def _qwen3(*sizes: int, tied: bool = False, **more: Any) -> Json:
    return {
        **_sizes("qwen3", *sizes),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 40960,
        "max_window_layers": sizes[0],
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1e6,
        "sliding_window": None,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        **more,
    }


_LLAMA3_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def _llama(*sizes: int, **more: Any) -> Json:
    return {
        **_sizes("llama", *sizes),
        "attention_bias": False,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": _LLAMA3_ROPE,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        **more,
    }


def _mistral(*sizes: int, **more: Any) -> Json:
    return {
        **_sizes("mistral", *sizes),
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "sliding_window": None,
        "tie_word_embeddings": False,
        **more,
    }


def _gemma2(*sizes: int, **more: Any) -> Json:
    return {
        **_sizes("gemma2", *sizes),
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "sliding_window_size": 4096,
        **more,
    }


def _gemma3(text: Json) -> Json:
    """Of the multimodal folders, whose text part leaves most fields out."""
    return {
        "model_type": "gemma3",
        "boi_token_index": 255999,
        "eoi_token_index": 256000,
        "image_token_index": 262144,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "text_config": {"model_type": "gemma3_text", "sliding_window": 1024, **text},
        "vision_config": {
            "hidden_size": 1152,
            "image_size": 896,
            "intermediate_size": 4304,
            "model_type": "siglip_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "patch_size": 14,
            "vision_use_head": False,
        },
    }


_GEMMA3_ROPE = {"factor": 8.0, "rope_type": "linear"}


def _phi(*sizes: int, **more: Any) -> Json:
    return {
        **_sizes("phi3", *sizes),
        "attention_bias": False,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
        "embd_pdrop": 0.0,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": 262144,
        "tie_word_embeddings": False,
        **more,
    }


def _longrope(pairs: int) -> Json:
    """Its factors change no shape: 1 stands for each."""
    return {"type": "longrope", "short_factor": [1.0] * pairs, "long_factor": [1.0] * pairs}


def _olmo2(*sizes: int, **more: Any) -> Json:
    return {
        **_sizes("olmo2", *sizes),
        "attention_bias": False,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 500000,
        "tie_word_embeddings": False,
        **more,
    }


_SMOLLM3 = {
    **_sizes("smollm3", 36, 2048, 16, 4, 11008, 128256),
    "attention_bias": False,
    "hidden_act": "silu",
    "layer_types": ["full_attention"] * 36,
    "max_position_embeddings": 65536,
    "max_window_layers": 28,
    "mlp_bias": False,
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "pretraining_tp": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "use_sliding_window": False,
}
_OLMO3 = {
    **_olmo2(32, 4096, 32, 32, 11008, 100278),
    "model_type": "olmo3",
    "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 8,
    "max_position_embeddings": 65536,
    "rope_scaling": {
        "attention_factor": 1.2079441541679836,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "yarn",
    },
    "sliding_window": 4096,
}
_YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}

# by id, with the parameters as the hub counts them where that is known
MODELS: dict[str, tuple[Json, int | None]] = {
    "Qwen/Qwen2.5-0.5B": (_qwen2(24, 896, 14, 2, 4864, 151936, tied=True), 494032768),
    "Qwen/Qwen2.5-1.5B": (_qwen2(28, 1536, 12, 2, 8960, 151936, tied=True), 1543714304),
    "Qwen/Qwen2.5-3B": (_qwen2(36, 2048, 16, 2, 11008, 151936, tied=True), 3085938688),
    "Qwen/Qwen2.5-7B": (_qwen2(28, 3584, 28, 4, 18944, 152064), 7615616512),
    "Qwen/Qwen2.5-14B": (_qwen2(48, 5120, 40, 8, 13824, 152064), 14770033664),
    "Qwen/Qwen2.5-32B": (_qwen2(64, 5120, 40, 8, 27648, 152064), 32763876352),
    "Qwen/Qwen2.5-72B": (_qwen2(80, 8192, 64, 8, 29568, 152064), 72706203648),
    "Qwen/Qwen2.5-Math-7B": (
        _qwen2(28, 3584, 28, 4, 18944, 152064, rope_theta=1e4, max_position_embeddings=4096),
        7615616512,
    ),
    "Qwen/Qwen2.5-7B-Instruct (YaRN)": (
        _qwen2(28, 3584, 28, 4, 18944, 152064, rope_scaling=_YARN),
        7615616512,
    ),
    "Qwen/Qwen3-0.6B": (_qwen3(28, 1024, 16, 8, 3072, 151936, tied=True), 596049920),
    "Qwen/Qwen3-1.7B": (_qwen3(28, 2048, 16, 8, 6144, 151936, tied=True), 1720574976),
    "Qwen/Qwen3-1.7B-Base": (
        _qwen3(28, 2048, 16, 8, 6144, 151936, tied=True, max_position_embeddings=32768),
        1720574976,
    ),
    "Qwen/Qwen3-4B": (_qwen3(36, 2560, 32, 8, 9728, 151936, tied=True), 4022468096),
    "Qwen/Qwen3-4B-Base": (
        _qwen3(36, 2560, 32, 8, 9728, 151936, tied=True, max_position_embeddings=32768),
        4022468096,
    ),
    "Qwen/Qwen3-8B": (_qwen3(36, 4096, 32, 8, 12288, 151936), 8190735360),
    "Qwen/Qwen3-14B": (_qwen3(40, 5120, 40, 8, 17408, 151936), 14768307200),
    "Qwen/Qwen3-32B": (_qwen3(64, 5120, 64, 8, 25600, 151936), 32762123264),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": (
        _qwen2(28, 1536, 12, 2, 8960, 151936, rope_theta=1e4, max_position_embeddings=131072),
        1777088000,
    ),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (
        _qwen2(28, 3584, 28, 4, 18944, 152064, rope_theta=1e4, max_position_embeddings=131072),
        7615616512,
    ),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": (
        _llama(32, 4096, 32, 8, 14336, 128256, _name_or_path="meta-llama/Llama-3.1-8B"),
        8030261248,
    ),
    "meta-llama/Llama-2-7b-hf": (
        {
            **_sizes("llama", 32, 4096, 32, 32, 11008, 32000),
            "_name_or_path": "meta-llama/Llama-2-7b-hf",
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-5,
            "rope_scaling": None,
            "tie_word_embeddings": False,
        },
        6738415616,
    ),
    "meta-llama/Llama-3.1-8B": (_llama(32, 4096, 32, 8, 14336, 128256), 8030261248),
    "meta-llama/Llama-3.1-70B": (_llama(80, 8192, 64, 8, 28672, 128256), 70553706496),
    "meta-llama/Llama-3.2-1B": (
        _llama(
            *(16, 2048, 32, 8, 8192, 128256),
            head_dim=64,
            tie_word_embeddings=True,
            rope_scaling=_LLAMA3_ROPE | {"factor": 32.0},
        ),
        1235814400,
    ),
    "meta-llama/Llama-3.2-3B": (
        _llama(
            *(28, 3072, 24, 8, 8192, 128256),
            head_dim=128,
            tie_word_embeddings=True,
            rope_scaling=_LLAMA3_ROPE | {"factor": 32.0},
        ),
        3212749824,
    ),
    "unsloth/Llama-3.2-1B": (
        _llama(
            *(16, 2048, 32, 8, 8192, 128256),
            head_dim=64,
            tie_word_embeddings=True,
            rope_scaling=_LLAMA3_ROPE | {"factor": 32.0},
            unsloth_fixed=True,
        ),
        1235814400,
    ),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": (
        _llama(
            *(22, 2048, 32, 4, 5632, 32000),
            max_position_embeddings=2048,
            rope_scaling=None,
            rope_theta=10000.0,
        ),
        1100048384,
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": (
        _llama(
            *(24, 2048, 32, 32, 8192, 49152),
            is_llama_config=True,
            max_position_embeddings=8192,
            rope_interleaved=False,
            rope_scaling=None,
            rope_theta=130000,
            tie_word_embeddings=True,
        ),
        1711376384,
    ),
    "HuggingFaceTB/SmolLM3-3B": (_SMOLLM3, 3075098624),
    "google/gemma-2-2b": (_gemma2(26, 2304, 8, 4, 9216, 256000), 2614341888),
    "google/gemma-2-9b": (_gemma2(42, 3584, 16, 8, 14336, 256000), 9241705984),
    "google/gemma-2-27b": (
        _gemma2(46, 4608, 32, 16, 36864, 256000, head_dim=128, query_pre_attn_scalar=144),
        27227128320,
    ),
    "google/gemma-3-1b-it": (
        {
            **_sizes("gemma3_text", 26, 1152, 4, 1, 6912, 262144),
            "attn_logit_softcapping": None,
            "cache_implementation": "hybrid",
            "final_logit_softcapping": None,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 32768,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-6,
            "rope_local_base_freq": 10000,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
        },
        999885952,
    ),
    "google/gemma-3-4b-it": (
        _gemma3(
            {
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "num_hidden_layers": 34,
                "rope_scaling": _GEMMA3_ROPE,
            }
        ),
        None,
    ),
    "google/gemma-3-12b-it": (
        _gemma3(
            {
                "hidden_size": 3840,
                "intermediate_size": 15360,
                "num_attention_heads": 16,
                "num_hidden_layers": 48,
                "num_key_value_heads": 8,
                "rope_scaling": _GEMMA3_ROPE,
            }
        ),
        None,
    ),
    "google/gemma-3-27b-it": (
        _gemma3(
            {
                "head_dim": 128,
                "hidden_size": 5376,
                "intermediate_size": 21504,
                "num_attention_heads": 32,
                "num_hidden_layers": 62,
                "num_key_value_heads": 16,
                "query_pre_attn_scalar": 168,
                "rope_scaling": _GEMMA3_ROPE,
            }
        ),
        None,
    ),
    "microsoft/Phi-3.5-mini-instruct": (
        _phi(32, 3072, 32, 32, 8192, 32064, rope_scaling=_longrope(48)),
        3821079552,
    ),
    "microsoft/Phi-4-mini-instruct": (
        _phi(
            *(32, 3072, 24, 8, 8192, 200064),
            full_attn_mod=1,
            interpolate_factor=1,
            lm_head_bias=False,
            mlp_bias=False,
            partial_rotary_factor=0.75,
            rope_scaling=_longrope(48),
            tie_word_embeddings=True,
        ),
        3836021760,
    ),
    "microsoft/phi-4": (
        _phi(
            *(40, 5120, 40, 10, 17920, 100352),
            max_position_embeddings=16384,
            original_max_position_embeddings=16384,
            rope_scaling=None,
            rope_theta=250000,
            sliding_window=None,
        ),
        14659507200,
    ),
    "mistralai/Mistral-7B-v0.1": (
        _mistral(32, 4096, 32, 8, 14336, 32000, rope_theta=1e4, sliding_window=4096),
        7241732096,
    ),
    "mistralai/Mistral-7B-Instruct-v0.3": (_mistral(32, 4096, 32, 8, 14336, 32768), 7248023552),
    "mistralai/Mistral-Nemo-Instruct-2407": (
        _mistral(*(40, 5120, 32, 8, 14336, 131072), head_dim=128, max_position_embeddings=131072),
        12247782400,
    ),
    "mistralai/Ministral-8B-Instruct-2410": (
        _mistral(
            36, 4096, 32, 8, 12288, 131072, head_dim=128, rope_theta=1e8, sliding_window=32768
        ),
        8019808256,
    ),
    "mistralai/Mistral-Small-24B-Instruct-2501": (
        _mistral(40, 5120, 32, 8, 32768, 131072, head_dim=128, rope_theta=1e8),
        23572403200,
    ),
    "allenai/OLMo-2-0425-1B": (_olmo2(16, 2048, 16, 16, 8192, 100352), 1484916736),
    "allenai/OLMo-2-1124-7B": (_olmo2(32, 4096, 32, 32, 11008, 100352), None),
    "allenai/OLMo-2-1124-13B": (_olmo2(40, 5120, 40, 40, 13824, 100352), None),
    "allenai/Olmo-3-7B-Instruct": (_OLMO3, None),
    "Qwen/Qwen2.5-7B-Instruct-AWQ": (
        _qwen2(28, 3584, 28, 4, 18944, 152064, quantization_config={"quant_method": "awq"}),
        None,
    ),
    "Qwen/Qwen3-30B-A3B": (
        _qwen3(48, 2048, 32, 4, 6144, 151936, num_experts=128, num_experts_per_tok=8)
        | {"model_type": "qwen3_moe"},
        None,
    ),
    "Qwen/Qwen3-Next-80B-A3B-Instruct": (
        _qwen3(48, 2048, 16, 2, 5120, 151936, num_experts=512, linear_num_value_heads=32)
        | {"model_type": "qwen3_next"},
        None,
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": (
        _qwen2(36, 2048, 16, 2, 11008, 151936, vision_config={"depth": 32})
        | {"model_type": "qwen2_5_vl"},
        None,
    ),
    "mistralai/Mixtral-8x7B-v0.1": (
        _mistral(32, 4096, 32, 8, 14336, 32000, num_local_experts=8) | {"model_type": "mixtral"},
        None,
    ),
    "openai/gpt-oss-20b": (
        _sizes("gpt_oss", 24, 2880, 64, 8, 2880, 201088) | {"num_local_experts": 32},
        None,
    ),
    "deepseek-ai/DeepSeek-V2-Lite": (
        _sizes("deepseek_v2", 27, 2048, 16, 16, 10944, 102400)
        | {"kv_lora_rank": 512, "n_routed_experts": 64},
        None,
    ),
    "mistralai/Ministral-3-8B-Instruct-2512": (
        {
            "model_type": "mistral3",
            "text_config": {"model_type": "ministral3"},
            "vision_config": {},
        },
        None,
    ),
    "google/gemma-3n-E4B-it": (
        {"model_type": "gemma3n", "text_config": {}, "vision_config": {}, "audio_config": {}},
        None,
    ),
}


def row(name: str) -> str:
    """A line of the table. Raises `AssertionError` where the parameters are not as published."""
    from sar_jax.errors import UserError
    from sar_jax.model import families, parameters

    raw, published = MODELS[name]
    try:
        cfg = families.parse(raw, LONGEST)
    except UserError as error:
        why = str(error).partition(" (supported")[0]
        return f"| {name} | `{raw['model_type']}` | | | | {why} |"
    count = parameters.count_params(cfg)
    assert published in (None, count), (name, count, published)
    without = ", ".join(f"`{field}`" for field in families.without_effect(raw))
    sizes = f"{count:,} | {2 * count / 2**30:.1f} | {16 * count / 2**30:.1f}"
    return f"| {name} | `{raw['model_type']}` | {sizes} | {without} |"


def table() -> str:
    """Of all models, in the order above."""
    head = (
        "| model | `model_type` | parameters | bfloat16, GiB | training, GiB | without effect, or "
    )
    lines = [f"{head}why not |", "|---|---|---|---|---|---|", *map(row, MODELS)]
    return "\n".join(lines) + "\n"


def count(name: str) -> tuple[int, int]:
    """The parameters of a model here, and by `transformers` on its device without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from sar_jax.model import families, parameters

    raw = families.text_part(MODELS[name][0])
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**raw))
    cfg = families.parse(raw, LONGEST)
    return parameters.count_params(cfg), sum(p.numel() for p in network.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--count", action="store_true")
    options = parser.parse_args()
    if options.count:
        for name in (n for n in MODELS if "| |" not in row(n)):
            ours, theirs = count(name)
            print(f"{'same' if ours == theirs else 'OTHER'}  {name}  {ours:,}  {theirs:,}")
        sys.exit()
    if not options.write:
        print(table())
        return
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
