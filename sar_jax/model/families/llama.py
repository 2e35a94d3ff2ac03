"""Llama, and the decoders that differ from it in windows and rotary embedding alone."""

from sar_jax.errors import UserError
from sar_jax.model.families.family import (
    Family,
    Json,
    attention_biases,
    given_rope,
    listed_windows,
    one_window,
    sizes,
    switched_windows,
)

_MISTRAL = sizes(32, 4096, 32, 8, 14336, 32000, 131072, 1e-6) | {
    "tie_word_embeddings": False,
    "head_dim": None,
    "sliding_window": 4096,
}


def _biases(raw: Json) -> Json:
    return {**attention_biases(raw), "mlp_bias": raw["mlp_bias"]}


def _have_rope(raw: Json) -> list[bool]:
    """Of SmolLM3: which layers have a rotary embedding?"""
    layers, every = raw["num_hidden_layers"], raw["no_rope_layer_interval"]
    listed = raw["no_rope_layers"]
    if listed is None:
        return [bool((layer + 1) % every) for layer in range(layers)]
    if len(listed) != layers:
        raise UserError(f"no_rope_layers has {len(listed)} entries for {layers} layers")
    return [bool(has_one) for has_one in listed]


FAMILIES = {
    "llama": Family(
        sizes(32, 4096, 32, None, 11008, 32000, 2048, 1e-6)
        | {
            "tie_word_embeddings": False,
            "head_dim": None,
            "attention_bias": False,
            "mlp_bias": False,
        },
        own=_biases,
    ),
    "mistral": Family(_MISTRAL, windows=one_window),
    "ministral": Family(
        _MISTRAL | {"layer_types": None},
        windows=lambda raw: listed_windows(raw, lambda layer: raw["sliding_window"] is not None),
    ),
    "smollm3": Family(
        sizes(36, 2048, 16, 4, 11008, 128256, 32768, 1e-6)
        | {
            "tie_word_embeddings": True,
            "head_dim": None,
            "attention_bias": False,
            "mlp_bias": False,
            "use_sliding_window": False,
            "sliding_window": None,
            "layer_types": None,
            "no_rope_layers": None,
            "no_rope_layer_interval": 4,
        },
        theta=2e6,
        windows=lambda raw: switched_windows(raw, lambda layer: not _have_rope(raw)[layer]),
        ropes=lambda raw: [given_rope(raw) if has_one else None for has_one in _have_rope(raw)],
        own=_biases,
    ),
}
