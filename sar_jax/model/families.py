"""config.json of a Hugging Face model -> ModelConfig, for every family that the one decoder covers.

    qwen3   qwen2 (also Qwen2.5)   llama (3.x)   phi3 (also Phi-3.5)   gemma3_text   gemma2

Every field is used, known to be without effect, supported with one value only, or refused by name:
a field that is silently ignored would mean another function than the one that the checkpoint was
trained for.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sar_jax.errors import UserError
from sar_jax.model import rope
from sar_jax.model.parameters import Kind, ModelConfig

Json = dict[str, Any]  # a config.json

_SIZES = {
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "rms_norm_eps",
    "max_position_embeddings",
}
_USED = _SIZES | {
    "head_dim",
    "tie_word_embeddings",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "model_type",
}
# Without effect on the function that we compute.
_IGNORED = {
    "architectures",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
    "torch_dtype",
    "initializer_range",
    "transformers_version",
    "use_cache",
    "cache_implementation",
    "_name_or_path",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
    "id2label",
    "label2id",
    "problem_type",
    "resid_pdrop",
    "embd_pdrop",
    "pretraining_tp",
    "hidden_dropout",
    "_attn_implementation_autoset",
}


class _Family(NamedTuple):
    """What differs between families.

    fixed          field -> the values that are supported
    windows        each layer's window
    own            further fields of ModelConfig
    used           further fields of config.json
    needs          sizes without which `transformers` would take a number of its own, not one that
                   follows from the others
    default_tied   where tie_word_embeddings is not given
    """

    fixed: Mapping[str, tuple[Any, ...]]
    windows: Callable[[Json], list[int | None]]
    own: Callable[[Json], dict[str, Any]]
    used: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ("num_key_value_heads",)
    default_tied: bool = False


def _listed_windows(raw: Json, default: Callable[[int], bool]) -> list[int | None]:
    """By layer_types, or by `default` where it is not given: has this layer a window?"""
    layers, window = raw["num_hidden_layers"], raw.get("sliding_window")
    types = raw.get("layer_types")
    if not types:
        types = ["sliding_attention" if default(l) else "full_attention" for l in range(layers)]
    unknown = sorted(set(types) - {"full_attention", "sliding_attention"})
    if unknown:
        raise UserError(f"layer_types contains {', '.join(map(repr, unknown))}")
    if len(types) != layers:
        raise UserError(f"layer_types has {len(types)} entries for {layers} layers")
    if "sliding_attention" in types and not window:
        raise UserError("layer_types contains 'sliding_attention' without a sliding_window")
    return [window if t == "sliding_attention" else None for t in types]


def _no_windows(raw: Json) -> list[int | None]:
    return [None] * raw["num_hidden_layers"]


def _qwen_windows(raw: Json) -> list[int | None]:
    window = raw.get("sliding_window") if raw.get("use_sliding_window") else None
    first = raw.get("max_window_layers", 28)
    has_one = lambda l: window is not None and l >= first
    return _listed_windows(raw | {"sliding_window": window}, has_one)


def _phi3_windows(raw: Json) -> list[int | None]:
    return [raw.get("sliding_window")] * raw["num_hidden_layers"]


def _gemma2_windows(raw: Json) -> list[int | None]:
    return _listed_windows({"sliding_window": 4096} | raw, lambda l: bool((l + 1) % 2))


def _gemma3_windows(raw: Json) -> list[int | None]:
    every = raw.get("sliding_window_pattern") or raw.get("_sliding_window_pattern") or 6
    return _listed_windows({"sliding_window": 4096} | raw, lambda l: bool((l + 1) % every))


def _gemma(raw: Json) -> dict[str, Any]:
    return {
        "post_norms": True,
        "norm_offset": 1.0,
        "activation": "gelu",
        "embed_scale": raw["hidden_size"] ** 0.5,
        "query_scale": raw.get("query_pre_attn_scalar", 256) ** -0.5,
    }


def _gemma2(raw: Json) -> dict[str, Any]:
    return {
        **_gemma(raw),
        "attn_softcap": raw.get("attn_logit_softcapping", 50.0),
        "final_softcap": raw.get("final_logit_softcapping", 30.0),
    }


def _gemma3(raw: Json) -> dict[str, Any]:
    return {**_gemma(raw), "qk_norm": True, "final_softcap": raw.get("final_logit_softcapping")}


_QWEN_FIELDS = frozenset(
    {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"}
)
_GEMMA_FIELDS = frozenset(
    {
        "sliding_window",
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "layer_types",
        "query_pre_attn_scalar",
        "final_logit_softcapping",
        "rope_local_base_freq",
    }
)
_GEMMA_FIXED = {
    "hidden_activation": ("gelu_pytorch_tanh",),
    "hidden_act": ("gelu_pytorch_tanh",),
    "attention_bias": (False,),
    "use_bidirectional_attention": (False, None),
}
_SILU = {"hidden_act": ("silu",)}
_UNBIASED = {"attention_bias": (False,), "mlp_bias": (False,)}
_HEADS = ("num_key_value_heads", "head_dim")

_FAMILIES: Mapping[str, _Family] = {
    "qwen3": _Family(
        _SILU | _UNBIASED,
        _qwen_windows,
        lambda raw: {"qk_norm": True},
        _QWEN_FIELDS,
        needs=_HEADS,
    ),
    "qwen2": _Family(_SILU, _qwen_windows, lambda raw: {"qkv_bias": True}, _QWEN_FIELDS),
    "llama": _Family(
        _SILU | _UNBIASED,
        _no_windows,
        lambda raw: {},
        needs=(),
    ),
    "phi3": _Family(
        _SILU | _UNBIASED,
        _phi3_windows,
        lambda raw: {},
        frozenset({"sliding_window", "original_max_position_embeddings", "partial_rotary_factor"}),
        needs=(),
    ),
    # transformers does not apply attn_logit_softcapping in Gemma 3, so what a value would mean is
    # not known
    "gemma3_text": _Family(
        _GEMMA_FIXED | {"attn_logit_softcapping": (None,)},
        _gemma3_windows,
        _gemma3,
        _GEMMA_FIELDS,
        needs=_HEADS,
        default_tied=True,
    ),
    "gemma2": _Family(
        _GEMMA_FIXED,
        _gemma2_windows,
        _gemma2,
        _GEMMA_FIELDS | {"attn_logit_softcapping"},
        needs=_HEADS,
        default_tied=True,
    ),
}
MODEL_TYPES = tuple(_FAMILIES)


def parse(raw: Json, max_length: int) -> ModelConfig:
    """The model that a config.json describes.

    max_length   the longest sequence that will be computed, in tokens (LongRoPE chooses its factors
                 by it)

    Raises `UserError` that names every field or value that is not supported.
    """
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        hint = ""
        if kind == "gemma3":
            hint = "; of models with images only the text part is supported"
        raise UserError(
            f"model_type {kind!r} is not supported (supported: {', '.join(MODEL_TYPES)}{hint})"
        )
    family = _FAMILIES[kind]
    if bad := _unsupported(raw, family):
        raise UserError(f"not supported: {'; '.join(bad)}")
    _check_values(raw)
    try:
        return _parsed(raw, family, max_length)
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
        # of what is in rope_parameters, whose fields differ from kind to kind
        raise UserError(f"a value cannot be used ({type(error).__name__}: {error})") from None


def _parsed(raw: Json, family: _Family, max_length: int) -> ModelConfig:
    head_dim = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
    layers = list(zip(_ropes(raw, head_dim, max_length), family.windows(raw)))
    kinds = tuple(dict.fromkeys(Kind(*layer) for layer in layers))
    return ModelConfig(
        **{
            "family": raw["model_type"],
            "num_layers": raw["num_hidden_layers"],
            "embed_dim": raw["hidden_size"],
            "num_heads": raw["num_attention_heads"],
            "num_kv_heads": raw.get("num_key_value_heads") or raw["num_attention_heads"],
            "head_dim": head_dim,
            "ffw_dim": raw["intermediate_size"],
            "vocab_size": raw["vocab_size"],
            "norm_eps": raw["rms_norm_eps"],
            "tied": raw.get("tie_word_embeddings", family.default_tied),
            "max_positions": raw["max_position_embeddings"],
            "kinds": kinds,
            "query_scale": head_dim**-0.5,
            "layer_kinds": tuple(kinds.index(Kind(*layer)) for layer in layers),
            **family.own(raw),
        }
    )


_COUNTS = (_SIZES - {"rms_norm_eps"}) | {
    "head_dim",
    "sliding_window",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "original_max_position_embeddings",
}
_NUMBERS = {
    "rms_norm_eps",
    "rope_theta",
    "rope_local_base_freq",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "partial_rotary_factor",
}
_SWITCHES = {"tie_word_embeddings", "use_sliding_window"}
_MOST_LAYERS = 10_000  # more than any model has; each costs a moment before a file is read


def _check_values(raw: Json) -> None:
    """Raises `UserError` for a value of another type or range than its field has; null is none."""
    is_whole = lambda value: isinstance(value, int) and not isinstance(value, bool)
    for name, value in raw.items():
        wrong = f"{name} is {value!r:.60}: it must be"
        if value is None:
            continue
        if name in _COUNTS and not (is_whole(value) and 0 < value < 2**31):
            raise UserError(f"{wrong} a whole number greater than 0")
        if name == "max_window_layers" and not (is_whole(value) and value >= 0):
            raise UserError(f"{wrong} a whole number")
        if name in _NUMBERS:
            is_number = is_whole(value) or isinstance(value, float)
            if not (is_number and 0 < value < 3.4e38):
                raise UserError(f"{wrong} a number greater than 0")
        if name in _SWITCHES and not isinstance(value, bool):
            raise UserError(f"{wrong} true or false")
        if name in ("rope_parameters", "rope_scaling") and not isinstance(value, dict):
            raise UserError(f"{wrong} a JSON object")
        if name == "layer_types" and not (
            isinstance(value, list) and all(isinstance(kind, str) for kind in value)
        ):
            raise UserError(f"{wrong} a list of texts")
    if raw["num_hidden_layers"] > _MOST_LAYERS:
        raise UserError(f"num_hidden_layers is {raw['num_hidden_layers']}: too many to be a model")
    heads, kv_heads = raw["num_attention_heads"], raw.get("num_key_value_heads")
    if heads % (kv_heads or heads):
        raise UserError(f"num_key_value_heads is {kv_heads}: it must divide {heads} heads")
    head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
    if head_dim < 2 or head_dim % 2:
        raise UserError(f"head_dim is {head_dim}: it must be even, and at least 2")


def _unsupported(raw: Json, family: _Family) -> list[str]:
    """What of a config.json cannot be: values, unknown fields, and sizes that are missing."""
    fixed = {"quantization_config": (None,), **family.fixed}
    known = _USED | _IGNORED | family.used | set(fixed)
    needed = _SIZES - {"num_key_value_heads"} | set(family.needs)
    bad = [f"{k} = {raw[k]!r}" for k in raw if k in fixed and raw[k] not in fixed[k]]
    bad += [f"{k} (unknown)" for k in raw if k not in known]
    bad += [f"{k} is missing" for k in sorted(needed) if raw.get(k) is None]
    return bad


def _ropes(raw: Json, head_dim: int, max_length: int) -> list[rope.Rope]:
    """Each layer's rotary embedding.

    The field has moved between versions of `transformers`: rope_theta and rope_scaling at the top,
    then rope_parameters, in Gemma 3 one for each type of layer.
    """
    positions = raw["max_position_embeddings"]
    make = lambda parameters: rope.make(parameters, head_dim, positions, max_length)
    if raw["model_type"] == "gemma3_text":
        full, local = _gemma3_rope_parameters(raw)
        return [make(full if window is None else local) for window in _gemma3_windows(raw)]
    given = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    parameters = {"rope_theta": raw.get("rope_theta"), **given}
    if raw["model_type"] == "phi3":
        _complete_phi3(parameters, raw)
    elif parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(
            f"partial_rotary_factor = {parameters['partial_rotary_factor']!r} is not supported for "
            f"{raw['model_type']}"
        )
    return [make(parameters)] * raw["num_hidden_layers"]


def _gemma3_rope_parameters(raw: Json) -> tuple[Json, Json]:
    """Of layers without a window, and of those with one."""
    given = raw.get("rope_parameters") or {}
    strange = sorted(set(given) - {"full_attention", "sliding_attention"})
    if strange:
        raise UserError(f"rope_parameters has the unknown field {', '.join(strange)}")
    full = {
        "rope_theta": raw.get("rope_theta", 1e6),
        **(raw.get("rope_scaling") or {}),
        **(given.get("full_attention") or {}),
    }
    local = {
        "rope_theta": raw.get("rope_local_base_freq", 1e4),
        **(given.get("sliding_attention") or {}),
    }
    return full, local


def _complete_phi3(parameters: Json, raw: Json) -> None:
    """Adds what Phi-3 has at the top of config.json."""
    parameters.setdefault("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0))
    kind = parameters.get("rope_type", parameters.get("type"))
    if kind in ("longrope", "su"):
        original = raw.get("original_max_position_embeddings")
        parameters.setdefault("original_max_position_embeddings", original)
    elif (parameters.get("rope_type") or parameters.get("type") or "default") != "default":
        raise UserError(f"rope_type {kind!r} is not supported for phi3")


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
