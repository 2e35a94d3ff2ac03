"""Gemma 2, and the text part of Gemma 3."""

from sar_jax.model.families.family import (
    Family,
    Json,
    attention_biases,
    listed_windows,
    rope_by_type,
    sizes,
)

_SHARED = {
    "head_dim": 256,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "layer_types": None,
}
_FIXED = {
    "hidden_activation": ("gelu_pytorch_tanh",),
    "use_bidirectional_attention": (False, None),
}


def _gemma2_windows(raw: Json) -> list[int | None]:
    return listed_windows(raw, lambda layer: bool((layer + 1) % 2))


def _gemma3_windows(raw: Json) -> list[int | None]:
    every = raw["sliding_window_pattern"] or raw["_sliding_window_pattern"] or 6
    return listed_windows(raw, lambda layer: bool((layer + 1) % every))


def _gemma3_ropes(raw: Json) -> list[Json]:
    full, sliding = rope_by_type(raw, "rope_local_base_freq")
    full.setdefault("rope_theta", 1e6)
    return [full if window is None else sliding for window in _gemma3_windows(raw)]


def _own(raw: Json) -> Json:
    return {
        "post_norms": True,
        "norm_offset": 1.0,
        "activation": "gelu",
        "embed_scale": raw["hidden_size"] ** 0.5,
        "query_scale": raw["query_pre_attn_scalar"] ** -0.5,
        "final_softcap": raw["final_logit_softcapping"],
        **attention_biases(raw),
    }


FAMILIES = {
    "gemma2": Family(
        sizes(26, 2304, 8, 4, 9216, 256000, 8192, 1e-6)
        | _SHARED
        | {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
        _FIXED,
        windows=_gemma2_windows,
        own=lambda raw: {**_own(raw), "attn_softcap": raw["attn_logit_softcapping"]},
    ),
    "gemma3_text": Family(
        sizes(26, 2304, 8, 4, 9216, 262208, 131072, 1e-6)
        | _SHARED
        | {
            "final_logit_softcapping": None,
            "rope_local_base_freq": None,
            "sliding_window_pattern": None,
            "_sliding_window_pattern": None,
        },
        # transformers does not apply a cap of the scores here, so what one would mean is not known
        _FIXED | {"attn_logit_softcapping": (None,)},
        windows=_gemma3_windows,
        ropes=_gemma3_ropes,
        own=lambda raw: {**_own(raw), "qk_norm": "head"},
    ),
}
