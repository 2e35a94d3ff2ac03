"""Qwen2, Qwen2.5 and Qwen3, and what was distilled into them."""

from sar_jax.model.families.family import Family, Json, attention_biases, sizes, switched_windows

_SIZES = sizes(32, 4096, 32, 32, 22016, 151936, 32768, 1e-6)
_SHARED = _SIZES | {
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}


def _windows(raw: Json) -> list[int | None]:
    return switched_windows(raw, lambda layer: layer >= raw["max_window_layers"])


FAMILIES = {
    "qwen2": Family(
        _SHARED | {"head_dim": None},
        windows=_windows,
        own=lambda raw: {"qkv_bias": True},
    ),
    "qwen3": Family(
        _SHARED | {"head_dim": 128, "attention_bias": False},
        windows=_windows,
        own=lambda raw: {"qk_norm": "head", **attention_biases(raw)},
    ),
}
