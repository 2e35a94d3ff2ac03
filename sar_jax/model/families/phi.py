"""Phi-3, Phi-3.5 and Phi-4-mini."""

from sar_jax.errors import UserError
from sar_jax.model.families.family import Family, Json, given_rope, one_window, sizes


def _ropes(raw: Json) -> list[Json]:
    """LongRoPE, once named "su" and "yarn", or none.

    Only here may a part of each head be rotated.
    """
    found = given_rope(raw)
    kind = found.get("rope_type") or found.get("type") or "default"
    if kind not in ("default", "longrope", "su", "yarn"):
        raise UserError(f"rope_type {kind!r} is not supported for phi3")
    factor = raw["partial_rotary_factor"]
    found.setdefault("partial_rotary_factor", 1.0 if factor is None else factor)
    found["rope_type"] = "default" if kind == "default" else "longrope"
    return [found] * raw["num_hidden_layers"]


FAMILIES = {
    "phi3": Family(
        sizes(32, 3072, 32, None, 8192, 32064, 4096, 1e-5)
        | {
            "tie_word_embeddings": False,
            "head_dim": None,
            "sliding_window": None,
            "original_max_position_embeddings": 4096,
            "partial_rotary_factor": None,
        },
        windows=one_window,
        ropes=_ropes,
    ),
}
