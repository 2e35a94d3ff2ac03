"""Attention of packed rows, portable and fused, against a dozen lines of numpy; the kernel's steps
run here on the CPU."""

import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.commands import ROOT
from support.devices import described, mesh_of
from support.oracle import assert_as_close, assert_same

from sar_jax import config
from sar_jax.errors import UserError
from sar_jax.model import network as network_lib
from sar_jax.model.attention import cudnn, portable, splash
from sar_jax.parallel import sharding

KERNELS = {
    "xla": portable.attend,
    "splash": functools.partial(splash.attend, interpret=True),
    # what it asks of cuDNN, computed by XLA
    "cudnn": functools.partial(cudnn.attend, implementation="xla"),
}
CASES = {  # heads, kv heads, head size, columns, window, soft cap
    "grouped": (4, 2, 32, 128, None, None),
    "window": (4, 1, 16, 200, 50, None),
    "capped": (6, 3, 24, 256, None, 3.0),
    "narrow": (2, 2, 8, 130, 1, None),
    "all": (6, 2, 16, 300, 17, 2.0),
}
SERVED = [
    (kernel, case)
    for kernel in KERNELS
    for case in CASES
    if kernel != "cudnn" or CASES[case][-1] is None
]


@functools.cache
def by_hand(case, dtype):
    """One query at a time."""
    (*qkv, ids), options = draw(case)
    q, k, v = (x.astype(dtype) for x in qkv)
    scale, softcap, window = (options[name] for name in ("scale", "softcap", "window"))
    out = np.zeros_like(q)
    group = q.shape[2] // k.shape[2]
    for r, t, n in np.ndindex(q.shape[:3]):
        seen = np.arange(0 if window is None else max(0, t + 1 - window), t + 1)
        seen = seen[ids[r, seen] == ids[r, t]]
        scores = k[r, seen, n // group] @ q[r, t, n] * scale
        scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
        weights = np.exp(scores - scores.max())
        out[r, t, n] = weights @ v[r, seen, n // group] / weights.sum()
    return out


def draw(case, rows=2):
    N, K, H, T, window, softcap = CASES[case]
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(rows, T, heads, H)).astype(np.float32) for heads in (N, K, K))
    ids = np.sort(rng.integers(1, 4, (rows, T)), axis=1)
    ids[:, -5:] = 0  # padding
    return (q, k, v, ids), dict(scale=0.3, softcap=softcap, window=window)


@pytest.mark.parametrize("kernel, case", SERVED)
def test_equals_one_query_at_a_time(kernel, case):
    (*qkv, ids), options = draw(case)
    attend = jax.jit(functools.partial(KERNELS[kernel], **options))
    ours = attend(*map(jnp.asarray, qkv), jnp.asarray(ids, jnp.int32))
    expected = (by_hand(case, dtype) for dtype in (np.float32, np.float64))
    assert_as_close(ours[:, :-5], *(x[:, :-5] for x in expected))


@pytest.mark.parametrize(
    "kernel, case", [(kernel, case) for kernel, case in SERVED if kernel != "xla"]
)
def test_the_kernels_gradients_are_the_portable_ones(kernel, case):
    arrays, options = draw(case)
    *qkv, ids = (jnp.asarray(x, jnp.float32) for x in arrays)
    valid = jnp.arange(ids.shape[1]) < ids.shape[1] - 5

    def total(kernel, qkv):
        out = KERNELS[kernel](*qkv, ids.astype(jnp.int32), **options)
        return ((out * valid[:, None, None]) ** 2).sum()

    portable, fused = (
        jax.jit(jax.grad(functools.partial(total, kernel)))(qkv) for kernel in ("xla", kernel)
    )
    scale = max(np.abs(x).max() for x in portable)  # with one key, queries have no gradient
    jax.tree.map(functools.partial(assert_same, scale=scale), fused, portable)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 2, 4), (1, 1, 8)])
@pytest.mark.parametrize("kernel", ["splash", "cudnn"])
@pytest.mark.parametrize("case", ["grouped", "window"])
def test_the_kernel_is_the_same_on_any_mesh(kernel, case, shape):
    """Rows and heads cut over eight devices, where they can be; with one kv head that all devices
    need."""
    with jax.set_mesh(sharding.make_mesh(*shape)):
        eight = of_eight_rows(kernel, case)
    assert_same(eight, on_one_device(kernel, case))


def of_eight_rows(kernel, case):
    (q, k, v, ids), options = draw(case, rows=8)
    arrays = [jnp.asarray(x, jnp.float32) for x in (q, k, v)] + [jnp.asarray(ids, jnp.int32)]
    return jax.jit(functools.partial(KERNELS[kernel], **options))(*arrays)


on_one_device = functools.cache(of_eight_rows)


def device_and_model(**changes):
    """A device as JAX describes an H100, and what a model asks of it."""
    device = {
        "platform": "gpu",
        "device_kind": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
    }
    asked = {"dtype": "bfloat16", "head_dim": 128, "softcap": None}
    for name, value in changes.items():
        (device if name in device else asked)[name] = value
    return described(**device), asked


@pytest.mark.parametrize(
    "changes, need",
    [
        ({}, None),
        ({"head_dim": 256}, None),
        ({"head_dim": 96, "compute_capability": "8.0"}, None),
        ({"compute_capability": "12.0"}, None),
        ({"head_dim": 264}, "multiple of 8 up to 256"),
        ({"head_dim": 100}, "multiple of 8"),
        ({"head_dim": 256, "compute_capability": "8.9"}, "up to 128"),
        ({"dtype": "float32"}, "config.model.dtype to be 'bfloat16'"),
        ({"softcap": 50.0}, "without soft caps"),
        ({"compute_capability": "7.5"}, "compute capability 8.0"),
        ({"compute_capability": "gfx942"}, "NVIDIA GPUs"),
        ({"platform": "tpu", "compute_capability": ""}, "NVIDIA GPUs"),
    ],
)
def test_what_cudnn_takes(changes, need):
    device, asked = device_and_model(**changes)
    found = cudnn.lacks(device, **asked)
    assert found is None if need is None else need in found


def test_a_soft_cap_is_not_left_out():
    arrays, options = draw("capped")
    with pytest.raises(ValueError, match="no soft caps"):
        KERNELS["cudnn"](*map(jnp.asarray, arrays), **options)


@pytest.mark.parametrize(
    "changes, kernel",
    [
        ({}, "cudnn"),
        ({"softcap": 50.0}, "xla"),
        ({"dtype": "float32"}, "xla"),
        ({"compute_capability": "7.0"}, "xla"),
        ({"platform": "tpu", "compute_capability": ""}, "splash"),
        ({"platform": "cpu", "compute_capability": ""}, "xla"),
    ],
)
def test_auto_takes_the_kernel_that_the_devices_have(loaded, changes, kernel):
    device, asked = device_and_model(**changes)
    mesh = mesh_of(device)
    cfg = dataclasses.replace(loaded.cfg, head_dim=asked["head_dim"], attn_softcap=asked["softcap"])
    assert network_lib.pick_kernel(config.Model(dtype=asked["dtype"]), cfg, mesh) == kernel
    assert network_lib.pick_kernel(config.Model(attention="xla"), cfg, mesh) == "xla"


@pytest.mark.parametrize(
    "kernel, need",
    [("splash", "needs the devices to be TPUs"), ("cudnn", "needs the devices to be NVIDIA")],
)
def test_a_kernel_for_other_devices_is_refused(loaded, mesh, kernel, need):
    with pytest.raises(UserError, match=f"'{kernel}', which {need}.*use 'auto'"):
        network_lib.pick_kernel(config.Model(attention=kernel), loaded.cfg, mesh)


def test_score_and_update_compile_for_gpus_with_less_memory():
    """By XLA's GPU compiler, without a GPU; where `.[gpu]` is installed."""
    pytest.importorskip("jax_plugins.xla_cuda13")
    command = [sys.executable, ROOT / "benchmarks/gpu.py", "--configs=qwen3_1p7b", "--gpus=4"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    table = [
        line.strip("| ").split(" | ")
        for line in done.stdout.splitlines()
        if line.startswith("| qwen3")
    ]
    found = {
        (program, kernel): (float(temporary), int(calls))
        for _, program, kernel, temporary, _, calls in table
    }
    for program, calls in (("score", 1), ("gradient", 3)):  # forward; forward, again, and backward
        assert found[program, "xla"][1] == 0 and found[program, "cudnn"][1] == calls
        assert found[program, "cudnn"][0] < found[program, "xla"][0]
