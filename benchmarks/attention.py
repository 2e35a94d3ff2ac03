"""Packed-row attention: ours against jax.nn.dot_product_attention with the same mask, forward and
backward.

    JAX_PLATFORMS=cpu python benchmarks/attention.py [--rows=8] [--width=288]

Both run in turn in one process, so that the ratio holds when the machine's speed drifts; the median
of the pairs is printed. Shapes are the tiny model's: 4 heads, 2 kv heads, head dimension 32, two
sequences a row."""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp

from sar_jax.model.attention import portable


def library(q, k, v, segment_ids):
    """The same masked attention by jax.nn."""
    T = q.shape[1]
    causal = jnp.arange(T)[:, None] >= jnp.arange(T)
    mask = causal & (segment_ids[:, :, None] == segment_ids[:, None])
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], implementation="xla")


def seconds(f, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--width", type=int, default=288)
    parser.add_argument("--pairs", type=int, default=40)
    options = parser.parse_args()
    R, T = options.rows, options.width
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (R, T, heads, 32)) for key, heads in zip(keys, (4, 2, 2)))
    segment_ids = jnp.broadcast_to(1 + (jnp.arange(T) >= T // 2), (R, T))
    attend = functools.partial(portable.attend, scale=32**-0.5)
    gap = jnp.abs(attend(q, k, v, segment_ids) - library(q, k, v, segment_ids)).max()
    print(f"{R} rows of {T} tokens on {jax.devices()[0].device_kind}; largest difference {gap:.1e}")
    for name, make in (
        ("forward", jax.jit),
        (
            "forward and backward",
            lambda f: jax.jit(jax.grad(lambda q, k, v, s: (f(q, k, v, s) ** 2).sum(), (0, 1, 2))),
        ),
    ):
        ours, theirs = make(attend), make(library)
        for f in (ours, theirs):
            seconds(f, q, k, v, segment_ids)
        pairs = [
            (seconds(ours, q, k, v, segment_ids), seconds(theirs, q, k, v, segment_ids))
            for _ in range(options.pairs)
        ]
        ratio = statistics.median(b / a for a, b in pairs)
        print(
            f"{name}: ours {1e3 * statistics.median(a for a, _ in pairs):.2f} ms, jax.nn "
            f"{1e3 * statistics.median(b for _, b in pairs):.2f} ms, jax.nn / ours {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
