"""Rotary position embedding (Su et al., arXiv 2104.09864).

    make     one angle a position for each pair of features, once on the host from config.json
    tables   cos and sin of all positions, once a forward pass
    rotate   queries and keys; the halves of a head are its pairs, as in Hugging Face's models

The kinds of scaling are those that Hugging Face names in `rope_type`: default, linear (Chen et al.,
arXiv 2306.15595), llama3 (the rule that came with Llama 3.1), longrope (Ding et al., arXiv
2402.13753). Left out: dynamic and yarn.
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
    """A kind of scaling: its function, the fields that it needs, and those that it may have."""

    function: Callable[[Parameters, np.ndarray, int, int], tuple[np.ndarray, float]]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


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
        _longrope,
        ("short_factor", "long_factor", "original_max_position_embeddings"),
        ("factor", "attention_factor"),
    ),
}
_TYPES["su"] = _TYPES["longrope"]  # its name in the first Phi-3 checkpoints


def make(parameters: Parameters, head_dim: int, max_positions: int, max_length: int) -> Rope:
    """The rotary embedding that these parameters describe.

    head_dim        size of a head
    max_positions   the model's limit, in tokens
    max_length      the longest sequence that will be computed, in tokens

    Raises `UserError` that names the type or field that is not supported.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UserError(
            f"rope_type {kind!r} is not supported (supported: {', '.join(sorted(_TYPES))})"
        )
    function, needs, takes = _TYPES[kind]
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *needs, *takes}
    unknown = sorted(k for k, v in parameters.items() if k not in known and v is not None)
    missing = sorted(k for k in ("rope_theta", *needs) if parameters.get(k) is None)
    if unknown or missing:
        problems = [f"has the unknown field {k}" for k in unknown] + [f"lacks {k}" for k in missing]
        raise UserError(f"rope of type {kind} {', '.join(problems)}")
    _check_values(parameters)
    rotated = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    exponents = np.arange(0, rotated, 2, dtype=np.float32) / np.float32(rotated)
    power = np.power(float(parameters["rope_theta"]), exponents.astype(np.float64))
    power = power.astype(np.float32)
    frequencies, scale = function(parameters, power, max_positions, max_length)
    if not rotated or not (np.isfinite(frequencies).all() and math.isfinite(scale)):
        raise UserError(f"rope of type {kind} has values that give no frequencies")
    return Rope(tuple(frequencies.astype(np.float32).tolist()), scale)


def _check_values(parameters: Parameters) -> None:
    """Raises `UserError` for a value that is no number, or no list of numbers."""
    is_number = lambda x: isinstance(x, (int, float)) and not isinstance(x, bool) and 0 < x < 3.4e38
    for name, value in parameters.items():
        if value is None or name in ("rope_type", "type"):
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
