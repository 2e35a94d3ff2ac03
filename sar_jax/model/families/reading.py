"""A config.json, read: the public functions of `families`."""

import json
import re
from typing import Any

from sar_jax.errors import UserError
from sar_jax.model import rope
from sar_jax.model.families import fields, gemma, llama, olmo, phi, qwen, values
from sar_jax.model.families.family import Family, Json
from sar_jax.model.parameters import Kind, ModelConfig

_FAMILIES: dict[str, Family] = {
    **qwen.FAMILIES,
    **llama.FAMILIES,
    **olmo.FAMILIES,
    **phi.FAMILIES,
    **gemma.FAMILIES,
}
MODEL_TYPES = tuple(_FAMILIES)
# What the decoder lacks, by what a config.json names, in this order; and the way out.
_LACKING = (
    ("linear_num_value_heads", "layers of the gated delta rule are not computed here: take Qwen3"),
    ("experts", "mixtures of experts are not computed here: take a dense model of the family"),
    ("gemma3n", "its layers share keys and values: take Gemma 3"),
    ("ministral3", "its queries are scaled by their position: take Ministral-8B of 2024"),
    (
        "vision_config",
        "of models with images only the text part of Gemma 3 is computed: take the "
        "family's model of text",
    ),
    ("ssm|mamba", "state-space layers are not computed here"),
)


def add(kind: Any, family: Any) -> None:
    """Makes a family of one's own known. kind: its model_type. Raises `UserError` if it is taken.

    A family that was added before may be replaced.
    """
    if not isinstance(kind, str):
        raise UserError(f"a model_type is text, and not {kind!r:.60}")
    if kind in MODEL_TYPES:
        raise UserError(f"there is a family {kind!r} already, which comes along")
    if not isinstance(family, Family):
        made = type(family).__name__
        raise UserError(f"the family {kind!r} must be a Family, and is a {made}")
    _FAMILIES[kind] = family


def text_part(raw: Json) -> Json:
    """The part of a config.json that describes a decoder of text: of most models, all of it."""
    if raw.get("model_type") != "gemma3":
        return raw
    text = raw.get("text_config")
    if not isinstance(text, dict):
        raise UserError("text_config is missing, which describes the text part of a gemma3 model")
    whole = {
        "tie_word_embeddings": raw.get("tie_word_embeddings", True),
        "quantization_config": raw.get("quantization_config"),
    }
    return {"model_type": "gemma3_text", **text, **whole}


def parse(raw: Json, max_length: int) -> ModelConfig:
    """The model that a config.json describes.

    max_length   the longest sequence that will be computed, in tokens (LongRoPE chooses its factors
                 by it)

    Raises `UserError` that names every field or value that is not supported.
    """
    raw = text_part(raw)
    family = _family(raw)
    if bad := fields.problems(raw, family):
        raise UserError(f"not supported: {'; '.join(bad)}")
    raw = {**family.defaults, **raw}
    values.check(raw)
    try:
        return _parsed(raw, family, max_length)
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
        # of what is in rope_parameters, whose fields differ from kind to kind
        raise UserError(f"a value cannot be used ({type(error).__name__}: {error})") from None


def without_effect(raw: Json) -> list[str]:
    """The fields of a config.json that `parse` accepts though nothing knows them."""
    raw = text_part(raw)
    return fields.unknown(raw, _family(raw))


def _family(raw: Json) -> Family:
    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in _FAMILIES:
        return _FAMILIES[kind]
    named = json.dumps([kind, raw], default=str)
    lacking = (words for pattern, words in _LACKING if re.search(pattern, named))
    why = next(lacking, "")
    supported = ", ".join((*_FAMILIES, "gemma3"))
    raise UserError(
        f"model_type {kind!r} is not supported{': ' if why else ''}{why} (supported: {supported}; "
        "config.model.families adds one of your own)"
    )


def _parsed(raw: Json, family: Family, max_length: int) -> ModelConfig:
    head_dim = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
    windows = family.windows(raw)
    _check_layer_types(raw, family, windows)
    ropes = [
        _rope(raw, family, parameters, head_dim, max_length) for parameters in family.ropes(raw)
    ]
    layers = list(zip(ropes, windows, strict=True))
    kinds = tuple(dict.fromkeys(Kind(*layer) for layer in layers))
    return ModelConfig(
        **{
            "family": raw["model_type"],
            "num_layers": raw["num_hidden_layers"],
            "embed_dim": raw["hidden_size"],
            "num_heads": raw["num_attention_heads"],
            "num_kv_heads": raw["num_key_value_heads"] or raw["num_attention_heads"],
            "head_dim": head_dim,
            "ffw_dim": raw["intermediate_size"],
            "vocab_size": raw["vocab_size"],
            "norm_eps": raw["rms_norm_eps"],
            "tied": bool(raw["tie_word_embeddings"]),
            "max_positions": raw["max_position_embeddings"],
            "kinds": kinds,
            "query_scale": head_dim**-0.5,
            "layer_kinds": tuple(kinds.index(Kind(*layer)) for layer in layers),
            **family.own(raw),
        }
    )


def _check_layer_types(raw: Json, family: Family, windows: list[int | None]) -> None:
    """Raises `UserError` where the types of a family whose class has none say something else."""
    if "layer_types" in family.defaults or not raw.get("layer_types"):
        return
    implied = ["full_attention" if window is None else "sliding_attention" for window in windows]
    if raw["layer_types"] != implied:
        raise UserError(
            f"layer_types = {raw['layer_types']!r:.60}: a {raw['model_type']} model has none, and "
            "its layers are of other types; take the field out to compute what transformers does"
        )


def _rope(
    raw: Json, family: Family, parameters: Json | None, head_dim: int, max_length: int
) -> rope.Rope:
    """The rotary embedding of a layer, by its parameters, completed as `transformers` does."""
    if parameters is None:
        return rope.none(head_dim)
    given = {name: value for name, value in parameters.items() if value is not None}
    found = {"rope_theta": family.theta, **given}
    kind = found.get("rope_type") or found.get("type") or "default"
    if kind in rope.FROM_A_LENGTH:  # the field at the top wins over that among the parameters
        top = raw.get("original_max_position_embeddings")
        found["original_max_position_embeddings"] = (
            top or found.get("original_max_position_embeddings") or raw["max_position_embeddings"]
        )
    if found.get("partial_rotary_factor", 1.0) != 1.0 and raw["model_type"] != "phi3":
        raise UserError(
            f"partial_rotary_factor = {found['partial_rotary_factor']!r} is not supported for "
            f"{raw['model_type']}"
        )
    return rope.make(found, head_dim, raw["max_position_embeddings"], max_length)


def qwen3_json(**sizes: Any) -> Json:
    """A config.json for a Qwen3 model that is made here from scratch; sizes: fields that differ."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "dtype": "float32",
        **sizes,
    }
