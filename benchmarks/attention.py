"""Packed-row attention: ours against jax.nn.dot_product_attention with the same mask, forward and
backward.

    JAX_PLATFORMS=cpu python benchmarks/attention.py [--rows=8] [--width=288]
    python benchmarks/attention.py --kernel=cudnn --rows=16 --width=2048 --heads=16,8,128

All run in turn in one process, so that the ratio holds when the machine's speed drifts; the median
of the pairs is printed, and how far values and gradients are from the portable kernel's in float32,
by the norm. --kernel=cudnn is ours for NVIDIA GPUs, in bfloat16: there the others are in bfloat16
too. By default the shapes are the tiny model's. Two sequences a row."""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sar_jax.model.attention import cudnn, portable


def library(q, k, v, segment_ids, *, scale, window):
    """The same masked attention by jax.nn."""
    rows = jnp.arange(q.shape[1])
    mask = (rows[:, None] >= rows) & (segment_ids[:, :, None] == segment_ids[:, None])
    if window is not None:
        mask &= rows[:, None] - rows < window
    return jax.nn.dot_product_attention(
        q, k, v, mask=mask[:, None], scale=scale, implementation="xla"
    )


def gradient(attend: Callable) -> Callable:
    """Of the sum of squares, in queries, keys and values."""
    total = lambda q, k, v, s: (attend(q, k, v, s).astype(jnp.float32) ** 2).sum()
    return jax.grad(total, (0, 1, 2))


def seconds(f, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start


def away(found, exact) -> float:
    """The norm of the difference, divided by that of the exact values."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    norms = [
        (np.linalg.norm(np.float32(a) - np.float32(b)), np.linalg.norm(np.float32(b)))
        for a, b in pairs
    ]
    return max(float(gap / size) for gap, size in norms)


def sizes(text: str) -> tuple[int, int, int]:
    """An argparse type: three numbers with commas between them, the second divides the first."""
    heads, kv_heads, size = map(int, text.split(","))
    if min(heads, kv_heads, size) < 1 or heads % kv_heads:
        raise ValueError
    return heads, kv_heads, size


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--width", type=int, default=288)
    parser.add_argument(
        "--heads", type=sizes, default="4,2,32", help="query heads, kv heads, size of a head"
    )
    parser.add_argument("--window", type=int, help="tokens that a token sees, with itself")
    parser.add_argument("--kernel", choices=("portable", "cudnn"), default="portable")
    parser.add_argument("--pairs", type=int, default=40)
    return parser.parse_args()


def main() -> None:
    options = parse()
    R, T = options.rows, options.width
    N, K, H = options.heads
    dtype = "bfloat16" if options.kernel == "cudnn" else "float32"
    if options.kernel == "cudnn" and (need := cudnn.lacks(jax.devices()[0], dtype, H, None)):
        raise SystemExit(f"cuDNN's attention needs {need}")
    keys = jax.random.split(jax.random.key(0), 3)
    exact = [jax.random.normal(key, (R, T, n, H)) for key, n in zip(keys, (N, K, K))]
    qkv = [x.astype(dtype) for x in exact]
    segment_ids = jnp.broadcast_to(1 + (jnp.arange(T) >= T // 2), (R, T)).astype(jnp.int32)
    setting = dict(scale=H**-0.5, window=options.window)
    kernels = {
        "ours": cudnn.attend if options.kernel == "cudnn" else portable.attend,
        "jax.nn": library,
        **({"portable": portable.attend} if options.kernel == "cudnn" else {}),
    }
    kernels = {name: functools.partial(attend, **setting) for name, attend in kernels.items()}
    device = jax.devices()[0].device_kind
    print(f"{R} rows of {T} tokens, {N} heads, {K} kv heads of {H}, window {options.window}")
    print(f"{options.kernel} in {dtype} on {device}, jax {jax.__version__}")
    for what, make in (
        ("forward", jax.jit),
        ("forward and backward", lambda attend: jax.jit(gradient(attend))),
    ):
        with jax.default_matmul_precision("highest"):
            expected = make(functools.partial(portable.attend, **setting))(
                *(x.astype(jnp.float32) for x in qkv), segment_ids
            )
        made = {name: make(attend) for name, attend in kernels.items()}
        gaps = {name: away(f(*qkv, segment_ids), expected) for name, f in made.items()}
        rounds = [
            {name: seconds(f, *qkv, segment_ids) for name, f in made.items()}
            for _ in range(options.pairs)
        ]
        told = [
            f"{name} {1e3 * statistics.median(r[name] for r in rounds):.2f} ms, away {gap:.1e}"
            for name, gap in gaps.items()
        ]
        ratio = statistics.median(r["jax.nn"] / r["ours"] for r in rounds)
        print(f"{what}: {'; '.join(told)}; jax.nn / ours {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
