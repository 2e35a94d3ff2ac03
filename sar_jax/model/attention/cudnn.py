"""Fused attention on NVIDIA GPUs: cuDNN's kernel, through `jax.nn`, for packed rows.

The scores never leave the chip's own memory, and blocks above the diagonal are skipped. What else a
token may not see, other segments and what is before its window, is a mask [rows, 1, columns,
columns] of 16 bits, read by all heads: cuDNN has windows of its own, but not together with a mask
before version 9.10.2. Left out: soft caps, which `jax.nn` does not pass on.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sar_jax.model.attention.portable import on_each_device

_TILE = 64  # columns; cuDNN's backward pass takes no odd number together with a mask


def lacks(device: jax.Device, dtype: str, head_dim: int, softcap: float | None) -> str | None:
    """What the kernel would need and does not have here; None if it can be used.

    dtype      of the queries, keys and values
    head_dim   size of a head
    softcap    of the model's attention

    The limits are cuDNN's (developer guide, "Scaled Dot Product Attention").
    """
    capability = _compute_capability(device)
    largest = 256 if capability >= (9, 0) else 128
    if capability < (8, 0):
        return "the devices to be NVIDIA GPUs of compute capability 8.0 or above"
    if dtype != "bfloat16":
        return "config.model.dtype to be 'bfloat16'"
    if head_dim % 8 or head_dim > largest:
        return f"the size of a head to be a multiple of 8 up to {largest}"
    if softcap is not None:
        return "a model without soft caps in attention"
    return None


def _compute_capability(device: jax.Device) -> tuple[int, ...]:
    """(9, 0) of an H100; () of what is no NVIDIA GPU."""
    parts = str(getattr(device, "compute_capability", "")).split(".")
    return tuple(map(int, parts)) if all(p.isdecimal() for p in parts) else ()


def attend(
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    segment_ids: Int[Array, "R T"],
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "R T N H"]:
    """`portable.attend` by cuDNN's kernel.

    implementation   "xla" computes the same on any device, to check what is asked of cuDNN

    Raises ValueError for a soft cap.
    """
    if softcap is not None:
        raise ValueError("cuDNN's attention has no soft caps; see `lacks`")
    local = functools.partial(
        _attend_local, scale=scale, window=window, implementation=implementation
    )
    return on_each_device(local, _TILE, q, k, v, segment_ids)


def _attend_local(
    q: Array,
    k: Array,
    v: Array,
    segment_ids: Array,
    *,
    scale: float,
    window: int | None,
    implementation: Literal["cudnn", "xla"],
) -> Array:
    """The rows and heads of one device."""
    columns = jnp.arange(q.shape[1])
    seen = segment_ids[:, :, None] == segment_ids[:, None]
    if window is not None:
        seen &= columns[:, None] - columns < window
    return jax.nn.dot_product_attention(
        q, k, v, mask=seen[:, None], scale=scale, is_causal=True, implementation=implementation
    )
