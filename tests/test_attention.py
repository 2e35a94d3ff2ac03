"""Attention of packed rows, portable and fused, against a dozen lines of numpy; the kernel's steps run here on the CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sar_jax import attention, model, sharding, splash
from sar_jax.errors import UserError

KERNELS = {"xla": attention.attend, "splash": functools.partial(splash.attend, interpret=True)}
CASES = {   # heads, kv heads, head size, columns, window, soft cap
    "grouped": (4, 2, 32, 128, None, None), "window": (4, 1, 16, 200, 50, None), "capped": (6, 3, 24, 256, None, 3.0),
    "narrow": (2, 2, 8, 130, 1, None), "all": (6, 2, 16, 300, 17, 2.0)}


@functools.cache
def by_hand(case):
    """One query at a time."""
    (q, k, v, ids), options = draw(case)
    scale, softcap, window = (options[name] for name in ("scale", "softcap", "window"))
    out = np.zeros_like(q)
    group = q.shape[2] // k.shape[2]
    for r, t, n in np.ndindex(q.shape[:3]):
        seen = [s for s in range(t + 1) if ids[r, s] == ids[r, t] and (window is None or t - s < window)]
        scores = k[r, seen, n // group] @ q[r, t, n] * scale
        scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
        weights = np.exp(scores - scores.max())
        out[r, t, n] = weights @ v[r, seen, n // group] / weights.sum()
    return out


def draw(case, rows=2):
    N, K, H, T, window, softcap = CASES[case]
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(rows, T, heads, H)) for heads in (N, K, K))
    ids = np.sort(rng.integers(1, 4, (rows, T)), axis=1)
    ids[:, -5:] = 0   # padding
    return (q, k, v, ids), dict(scale=0.3, softcap=softcap, window=window)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_equals_one_query_at_a_time(kernel, case):
    arrays, options = draw(case)
    expected = by_hand(case)
    *qkv, ids = arrays
    ours = KERNELS[kernel](*(jnp.asarray(x, jnp.float32) for x in qkv), jnp.asarray(ids, jnp.int32), **options)
    np.testing.assert_allclose(np.asarray(ours)[:, :-5], expected[:, :-5], atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_kernels_gradients_are_the_portable_ones(case):
    arrays, options = draw(case)
    *qkv, ids = (jnp.asarray(x, jnp.float32) for x in arrays)
    valid = jnp.arange(ids.shape[1]) < ids.shape[1] - 5

    def total(kernel, qkv):
        out = KERNELS[kernel](*qkv, ids.astype(jnp.int32), **options)
        return ((out * valid[:, None, None]) ** 2).sum()

    portable, fused = (jax.jit(jax.grad(functools.partial(total, kernel)))(qkv) for kernel in ("xla", "splash"))
    for a, b in zip(portable, fused):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=3e-5)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 4, 2), (1, 2, 4), (1, 1, 8)])
@pytest.mark.parametrize("case", ["grouped", "window"])
def test_the_kernel_is_the_same_on_any_mesh(case, shape):
    """Rows and heads cut over eight devices, where they can be; with one kv head that all devices need."""
    (q, k, v, ids), options = draw(case, rows=8)
    arrays = [jnp.asarray(x, jnp.float32) for x in (q, k, v)] + [jnp.asarray(ids, jnp.int32)]
    one = jax.jit(functools.partial(KERNELS["splash"], **options))(*arrays)
    with jax.set_mesh(sharding.make_mesh(*shape)):
        eight = jax.jit(functools.partial(KERNELS["splash"], **options))(*arrays)
    np.testing.assert_allclose(np.asarray(eight), np.asarray(one), atol=1e-6)


def test_a_kernel_for_other_devices_is_refused(mesh):
    assert model.pick_kernel("auto", mesh) == model.pick_kernel("xla", mesh) == "xla"
    with pytest.raises(UserError, match="'splash', a kernel for TPUs"):
        model.pick_kernel("splash", mesh)
