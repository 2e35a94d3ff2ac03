"""config.json of the models that the shipped configs train, as far as it says what is computed.

Published with the models. `sar_jax.plan` needs no more, so it works where the hub cannot be
reached.
"""

from typing import Any

_QWEN3: dict[str, Any] = dict(
    model_type="qwen3",
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151936,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    max_position_embeddings=32768,
    tie_word_embeddings=True,
)

CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-1.7B-Base": _QWEN3
    | dict(num_hidden_layers=28, hidden_size=2048, num_attention_heads=16, intermediate_size=6144),
    "Qwen/Qwen3-4B-Base": _QWEN3
    | dict(num_hidden_layers=36, hidden_size=2560, num_attention_heads=32, intermediate_size=9728),
    # LongRoPE's factors are left out: they change no shape
    "microsoft/Phi-3.5-mini-instruct": dict(
        model_type="phi3",
        num_hidden_layers=32,
        hidden_size=3072,
        num_attention_heads=32,
        num_key_value_heads=32,
        intermediate_size=8192,
        vocab_size=32064,
        rope_theta=1e4,
        rms_norm_eps=1e-5,
        max_position_embeddings=131072,
        sliding_window=262144,
        tie_word_embeddings=False,
    ),
    "google/gemma-3-1b-it": dict(
        model_type="gemma3_text",
        num_hidden_layers=26,
        hidden_size=1152,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        intermediate_size=6912,
        vocab_size=262144,
        rms_norm_eps=1e-6,
        max_position_embeddings=32768,
        query_pre_attn_scalar=256,
        sliding_window=512,
        sliding_window_pattern=6,
    ),
}
