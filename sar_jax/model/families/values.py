"""What type and range a field of config.json must have."""

from sar_jax.errors import UserError
from sar_jax.model.families.family import SIZES, Json

_COUNTS = (set(SIZES) - {"rms_norm_eps"}) | {
    "head_dim",
    "sliding_window",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "original_max_position_embeddings",
    "no_rope_layer_interval",
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
_SWITCHES = {"attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window"}
_MOST_LAYERS = 10_000  # more than any model has; each costs a moment before a file is read


def check(raw: Json) -> None:
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
        if name == "no_rope_layers" and not (
            isinstance(value, list) and all(x in (0, 1) for x in value)
        ):
            raise UserError(f"{wrong} a list of 0 and 1")
    if raw["num_hidden_layers"] > _MOST_LAYERS:
        raise UserError(f"num_hidden_layers is {raw['num_hidden_layers']}: too many to be a model")
    heads, kv_heads = raw["num_attention_heads"], raw.get("num_key_value_heads")
    if heads % (kv_heads or heads):
        raise UserError(f"num_key_value_heads is {kv_heads}: it must divide {heads} heads")
    head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
    if head_dim < 2 or head_dim % 2:
        raise UserError(f"head_dim is {head_dim}: it must be even, and at least 2")
