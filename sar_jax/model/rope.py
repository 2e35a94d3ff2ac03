"""Rotary position embedding (Su et al., arXiv 2104.09864).

    make     one angle a position for each pair of features, once on the host from config.json
    tables   cos and sin of all positions, once a forward pass
    rotate   queries and keys; the halves of a head are its pairs, as in Hugging Face's models

The kinds of scaling are those that Hugging Face names in `rope_type`: default, linear (Chen et al.,
arXiv 2306.15595), dynamic (as long as it scales nothing), yarn (Peng et al., arXiv 2309.00071),
llama3 (the rule that came with Llama 3.1), longrope (Ding et al., arXiv 2402.13753).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sar_jax.errors import UserError

Parameters = Mapping[str, Any]  # Hugging Face's rope_parameters


class Rope(NamedTuple):
    """One rotary embedding.

    frequencies   radians a position, for each rotated pair; where these are fewer than
                  head_dim / 2, the other features stay as they are
    scale         factor on cos and sin, LongRoPE's attention scaling
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0


class _Scaling(NamedTuple):
    """A kind of scaling: its function, and the fields that it needs."""

    function: Callable[[Parameters, np.ndarray, int, int], tuple[np.ndarray, float]]
    needs: tuple[str, ...] = ()


# Each takes the parameters, theta ** (2i / dim), and in tokens the model's limit and the longest
# sequence; it returns (frequencies, scale). In float32, step by step as the models were trained: a
# frequency that is off by its last bit is off by a thousandth of a radian after ten thousand
# positions.
def _default(
    p: Parameters, power: np.ndarray, max_positions: int, max_length: int
) -> tuple[np.ndarray, float]:
    return 1 / power, 1.0


def _linear(
    p: Parameters, power: np.ndarray, max_positions: int, max_length: int
) -> tuple[np.ndarray, float]:
    return 1 / power / np.float32(p["factor"]), 1.0


def _dynamic(
    p: Parameters, power: np.ndarray, max_positions: int, max_length: int
) -> tuple[np.ndarray, float]:
    """Within the model's limit: no scaling.

    Beyond it the base follows the length of the row, so that each token would turn the keys of all
    before it: no cache can hold them.
    """
    if max_length > max_positions:
        raise UserError(
            f"rope of type dynamic scales by the length of a row beyond {max_positions} positions, "
            f"which no cache of keys can follow: a sequence of this run may have {max_length} "
            "tokens; make data.max_prompt_tokens and the limit of an answer smaller"
        )
    return 1 / power, 1.0


def _yarn(
    p: Parameters, power: np.ndarray, max_positions: int, max_length: int
) -> tuple[np.ndarray, float]:
    """Pairs that turn often within the original length are kept, those that turn seldom stretched.

    Between the two the frequencies are interpolated along the pairs' numbers.
    """
    original, half = p["original_max_position_embeddings"], len(power)
    factor, base = p.get("factor") or max_positions / original, p["rope_theta"]

    def pair(turns: float) -> float:
        return half * math.log(original / (turns * 2 * math.pi)) / math.log(base)

    low, high = pair(p.get("beta_fast") or 32), pair(p.get("beta_slow") or 1)
    if p.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    high += 0.001 if low == high else 0  # nothing is divided by 0
    ramp = (np.arange(half, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    kept = 1 - np.clip(ramp, 0, 1)
    stretched = 1 / (np.float32(factor) * power)
    return stretched * (1 - kept) + 1 / power * kept, _yarn_scale(p, factor)


def _yarn_scale(p: Parameters, factor: float) -> float:
    """YaRN's attention scaling: given, of two multiples, or 0.1 ln(factor) + 1."""
    if p.get("attention_factor"):
        return p["attention_factor"]
    scale = lambda multiple: 0.1 * multiple * math.log(factor) + 1 if factor > 1 else 1.0
    if p.get("mscale") and p.get("mscale_all_dim"):
        return scale(p["mscale"]) / scale(p["mscale_all_dim"])
    return scale(1)


def _llama3(
    p: Parameters, power: np.ndarray, max_positions: int, max_length: int
) -> tuple[np.ndarray, float]:
    """Long wavelengths are stretched by `factor`, short ones kept, those between interpolated."""
    original = p["original_max_position_embeddings"]
    low, high = p["low_freq_factor"], p["high_freq_factor"]
    inverse = 1 / power
    turns = original / (2 * math.pi / inverse)  # of each pair within the original length
    kept = np.clip((turns - low) / (high - low), 0, 1).astype(np.float32)
    return (1 - kept) * inverse / np.float32(p["factor"]) + kept * inverse, 1.0


def _longrope(
    p: Parameters, power: np.ndarray, max_positions: int, max_length: int
) -> tuple[np.ndarray, float]:
    """One set of factors for everything, chosen by the longest sequence that the run allows.

    `transformers` chooses by the longest row of each batch: the two perplexities of one answer
    could then come from two different models.
    """
    original = p["original_max_position_embeddings"]
    name = "long_factor" if max_length > original else "short_factor"
    if len(p[name]) != len(power):
        raise UserError(f"rope {name} has {len(p[name])} entries, but the heads need {len(power)}")
    stretch = p.get("factor") or max_positions / original
    scale = p.get("attention_factor")
    if not scale:
        scale = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(original))
    return 1 / (np.asarray(p[name], np.float32) * power), scale


# by the name in config.json
_TYPES = {
    "default": _Scaling(_default),
    "linear": _Scaling(_linear, ("factor",)),
    "llama3": _Scaling(
        _llama3,
        ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    ),
    "longrope": _Scaling(
        _longrope, ("short_factor", "long_factor", "original_max_position_embeddings")
    ),
    "dynamic": _Scaling(_dynamic, ("factor",)),
    "yarn": _Scaling(_yarn, ("original_max_position_embeddings",)),
}
# those with original_max_position_embeddings
FROM_A_LENGTH = ("llama3", "longrope", "yarn")


def none(head_dim: int) -> Rope:
    """Of a layer without rotary embedding: nothing is turned."""
    return Rope((0.0,) * (head_dim // 2))


def make(parameters: Parameters, head_dim: int, max_positions: int, max_length: int) -> Rope:
    """The rotary embedding that these parameters describe.

    head_dim        size of a head
    max_positions   the model's limit, in tokens
    max_length      the longest sequence that will be computed, in tokens

    Raises `UserError` that names the type that is not supported, or the field that is missing.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UserError(
            f"rope_type {kind!r} is not supported (supported: {', '.join(sorted(_TYPES))})"
        )
    function, needs = _TYPES[kind]
    missing = sorted(k for k in ("rope_theta", *needs) if parameters.get(k) is None)
    if missing:
        raise UserError(f"rope of type {kind} lacks {', '.join(missing)}")
    _check_values(parameters)
    rotated = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    exponents = np.arange(0, rotated, 2, dtype=np.float32) / np.float32(rotated)
    power = np.power(float(parameters["rope_theta"]), exponents.astype(np.float64))
    power = power.astype(np.float32)
    frequencies, scale = function(parameters, power, max_positions, max_length)
    if not rotated or not (np.isfinite(frequencies).all() and math.isfinite(scale)):
        raise UserError(f"rope of type {kind} has values that give no frequencies")
    return Rope(tuple(frequencies.astype(np.float32).tolist()), scale)


_NUMBERS = {
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "short_factor",
}


def _check_values(parameters: Parameters) -> None:
    """Raises `UserError` for a value that is no number, or no list of numbers.

    A field that no type has is not looked at.
    """
    is_number = lambda x: isinstance(x, (int, float)) and not isinstance(x, bool) and 0 < x < 3.4e38
    for name, value in parameters.items():
        if value is None or name not in _NUMBERS:
            continue
        if name in ("short_factor", "long_factor"):
            if not (isinstance(value, list) and all(map(is_number, value))):
                raise UserError(f"rope {name} must be a list of numbers greater than 0")
        elif not is_number(value):
            raise UserError(f"rope {name} is {value!r:.60}: it must be a number greater than 0")


def tables(
    ropes: Sequence[Rope],
    positions: Int[Array, "*B T"],
) -> tuple[Float[Array, "kinds *B T half"], Float[Array, "kinds *B T half"]]:
    """cos and sin of every position, for each kind of rope, in float32."""
    angles = positions.astype(jnp.float32)[..., None]
    cos, sin = [], []
    for r in ropes:
        cos.append(jnp.cos(angles * jnp.asarray(r.frequencies, jnp.float32)) * r.scale)
        sin.append(jnp.sin(angles * jnp.asarray(r.frequencies, jnp.float32)) * r.scale)
    return jnp.stack(cos), jnp.stack(sin)


def rotate(
    x: Float[Array, "*B T N H"],
    cos: Float[Array, "*B T half"],
    sin: Float[Array, "*B T half"],
) -> Float[Array, "*B T N H"]:
    """Rotates the first 2 * half features of every head, in float32; the others stay."""
    half = cos.shape[-1]
    cos, sin = cos[..., None, :], sin[..., None, :]
    x1, x2 = x[..., :half].astype(jnp.float32), x[..., half : 2 * half].astype(jnp.float32)
    rotated = jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)
    if 2 * half == x.shape[-1]:
        return rotated
    return jnp.concatenate([rotated, x[..., 2 * half :]], axis=-1)
