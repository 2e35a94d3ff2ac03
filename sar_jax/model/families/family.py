"""What a family of models is, and what most of them share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sar_jax.errors import UserError

Json = dict[str, Any]  # a config.json

# used in every family
SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
)
SILU = {"hidden_act": ("silu",)}
_FULL, _SLIDING = "full_attention", "sliding_attention"


def every_layer_full(raw: Json) -> list[int | None]:
    """Each layer's window, where there is none."""
    return [None] * raw["num_hidden_layers"]


def one_rope(raw: Json) -> list[Json]:
    """Each layer's rotary parameters, where all have the same."""
    return [given_rope(raw)] * raw["num_hidden_layers"]


def no_more(raw: Json) -> Json:
    return {}


class Family(NamedTuple):
    """What differs between families.

    defaults   the fields that are used, with what `transformers` takes where one is not given
    fixed      other fields that it knows, each with the values that are supported
    theta      the rotary base where none is given
    windows    each layer's window
    ropes      each layer's rotary parameters; None for a layer without a rotary embedding
    own        further fields of ModelConfig
    """

    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]] = SILU
    theta: float = 1e4
    windows: Callable[[Json], list[int | None]] = every_layer_full
    ropes: Callable[[Json], list[Json | None]] = one_rope
    own: Callable[[Json], Json] = no_more


def sizes(
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None,
    ffw: int,
    vocabulary: int,
    positions: int,
    eps: float,
) -> dict[str, Any]:
    """The defaults of SIZES, which are those of the first model of a family."""
    return dict(zip(SIZES, (layers, width, heads, kv_heads, ffw, vocabulary, positions, eps)))


def given_rope(raw: Json, base: str = "rope_theta") -> Json:
    """The rotary parameters that config.json gives for all layers alike; base: its field.

    The fields have moved between versions of `transformers`: rope_theta and rope_scaling at the
    top, then rope_parameters. Where there are both, `transformers` takes rope_scaling.
    """
    found = dict(raw.get("rope_scaling") or raw.get("rope_parameters") or {})
    if raw.get(base) is not None:
        found.setdefault("rope_theta", raw[base])
    return found


def rope_by_type(raw: Json, sliding_base: str) -> tuple[Json, Json]:
    """Rotary parameters of layers without a window, and of those with one.

    rope_scaling is that of the former alone. sliding_base: the field of the latter's base.
    """
    given = raw.get("rope_parameters") or {}
    strange = sorted(set(given) - {_FULL, _SLIDING})
    if strange:
        raise UserError(f"rope_parameters has the unknown field {', '.join(strange)}")
    full = {**(given.get(_FULL) or {}), **(raw.get("rope_scaling") or {})}
    sliding = dict(given.get(_SLIDING) or {})
    full.pop("truncate", None)  # of YaRN; transformers does not look for it here
    for parameters, base in ((full, "rope_theta"), (sliding, sliding_base)):
        if raw.get(base) is not None:
            parameters.setdefault("rope_theta", raw[base])
    return full, sliding


def listed_windows(raw: Json, default: Callable[[int], bool]) -> list[int | None]:
    """By layer_types, or by `default` where it is not given: has this layer a window?"""
    layers, window = raw["num_hidden_layers"], raw["sliding_window"]
    types = raw.get("layer_types") or [_SLIDING if default(l) else _FULL for l in range(layers)]
    unknown = sorted(set(types) - {_FULL, _SLIDING})
    if unknown:
        raise UserError(f"layer_types contains {', '.join(map(repr, unknown))}")
    if len(types) != layers:
        raise UserError(f"layer_types has {len(types)} entries for {layers} layers")
    if _SLIDING in types and not window:
        raise UserError(f"layer_types contains {_SLIDING!r} without a sliding_window")
    return [window if kind == _SLIDING else None for kind in types]


def one_window(raw: Json) -> list[int | None]:
    """The same of every layer."""
    return [raw["sliding_window"]] * raw["num_hidden_layers"]


def switched_windows(raw: Json, default: Callable[[int], bool]) -> list[int | None]:
    """As `listed_windows`, where use_sliding_window switches the window on."""
    window = raw["sliding_window"] if raw["use_sliding_window"] else None
    has_one = lambda layer: window is not None and default(layer)
    return listed_windows(raw | {"sliding_window": window}, has_one)


def attention_biases(raw: Json) -> Json:
    """Of q, k, v and o together."""
    return {"qkv_bias": raw["attention_bias"], "o_bias": raw["attention_bias"]}
