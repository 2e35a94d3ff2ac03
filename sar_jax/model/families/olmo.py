"""OLMo 2 and 3: norms behind attention and feed-forward alone, and over whole queries and keys."""

from sar_jax.model.families.family import (
    Family,
    Json,
    attention_biases,
    listed_windows,
    rope_by_type,
    sizes,
)

_SHARED = sizes(32, 4096, 32, None, 11008, 50304, 2048, 1e-5) | {
    "tie_word_embeddings": False,
    "head_dim": None,
    "attention_bias": False,
}


def _own(raw: Json) -> Json:
    return {"pre_norms": False, "post_norms": True, "qk_norm": "whole", **attention_biases(raw)}


def _windows(raw: Json) -> list[int | None]:
    return listed_windows(raw, lambda layer: bool((layer + 1) % 4))


def _ropes(raw: Json) -> list[Json]:
    # rope_theta is the base of the layers without a window alone, as transformers 5 reads it
    full, sliding = rope_by_type(raw, sliding_base="")
    return [full if window is None else sliding for window in _windows(raw)]


FAMILIES = {
    "olmo2": Family(_SHARED, own=_own),
    "olmo3": Family(
        _SHARED | {"sliding_window": 4096, "layer_types": None},
        theta=5e5,
        windows=_windows,
        ropes=_ropes,
        own=_own,
    ),
}
