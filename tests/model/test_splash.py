"""Attention's kernel for TPUs skips the blocks that segments hide; its steps run on the CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.oracle import assert_same

from sar_jax.model.attention import portable, splash

BLOCK = 128
LENGTHS = [(300, 200, 100), (128, 256, 200), (640,), (5, 5, 400, 130), (1,)]  # of segments, by row
ids = np.zeros((len(LENGTHS), 5 * BLOCK), np.int32)
for row, lengths in zip(ids, LENGTHS):
    row[: sum(lengths)] = np.repeat(1 + np.arange(len(lengths)), lengths)


def draw(heads=2, kv_heads=1, size=16):
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(*ids.shape, n, size)).astype(np.float32)
        for n in (heads, kv_heads, kv_heads)
    ]


@functools.partial(jax.jit, static_argnums=3)
def fused(q, k, v, window=None, ids=ids):
    return splash.attend(q, k, v, jnp.asarray(ids), scale=0.3, window=window, interpret=True)


@functools.partial(jax.jit, static_argnums=3)
def plain(q, k, v, window=None, ids=ids):
    return portable.attend(q, k, v, jnp.asarray(ids), scale=0.3, window=window)


@functools.partial(jax.jit, static_argnums=(0, 2))
def gradients(attend, qkv, window=None):
    """Of what tokens give; padding has no meaning."""

    def total(qkv):
        return (jnp.where((ids > 0)[..., None, None], attend(*qkv, window), 0) ** 2).sum()

    return jax.grad(total)(qkv)


@pytest.mark.parametrize("window", [None, 1, 60, 129, 300])
def test_rows_of_many_blocks_equal_portable_attention(window):
    qkv, real = draw(), (ids > 0)[..., None, None]
    ours, theirs = (np.where(real, attend(*qkv, window), 0) for attend in (fused, plain))
    assert_same(ours, theirs)
    ours, theirs = (gradients(attend, qkv, window) for attend in (fused, plain))
    scale = max(np.abs(x).max() for x in theirs)
    jax.tree.map(functools.partial(assert_same, scale=scale), ours, theirs)


def needed(window):
    """[R, queries' blocks, keys' blocks]: does a query see a key? One pair of tokens at a time."""
    age = np.arange(ids.shape[1])[:, None] - np.arange(ids.shape[1])
    seen = (age >= 0) & (age < (window or np.inf)) & (ids[:, :, None] == ids[:, None])
    return seen.reshape(len(ids), 5, BLOCK, 5, BLOCK).any(axis=(2, 4))


@pytest.mark.parametrize("window", [None, 1, 60, 129, 130, 300])
def test_blocks_are_seen_that_hold_a_pair_of_one_segment(window):
    assert np.array_equal(splash.seen_blocks(jnp.asarray(ids), BLOCK, window), needed(window))


def test_a_loop_meets_every_block_that_is_seen_and_fetches_the_next():
    seen = needed(None)
    found = splash.visits(jnp.asarray(seen), 5)
    met = np.zeros_like(seen)
    for r, i, step in np.ndindex(seen.shape):
        if found.visited[5 * r + i, step]:
            met[r, i, found.block[5 * r + i, step] - 5 * r] = True
    assert np.array_equal(met, seen)
    assert found.visited.sum() == seen.sum()
    flat = [np.flatnonzero(row)[0] + 5 * (i // 5) for i, row in enumerate(seen.reshape(-1, 5))]
    following = np.roll(flat, -1)[:, None]
    assert np.array_equal(
        np.where(found.visited, following, found.block), found.block * 0 + following
    )


def test_what_is_skipped_is_not_read():
    """The keys and values of others are NaN, which times 0 would be NaN."""
    q, k, v = draw()
    broken = np.zeros(ids.shape, bool)
    broken[1, :BLOCK] = True  # its first segment is one block; the second begins with the next
    k, v = (np.where(broken[..., None, None], np.nan, x) for x in (k, v))
    assert np.isfinite(fused(q, k, v)[1, BLOCK:]).all()
    dq, dk, dv = (np.array(x) for x in gradients(fused, (q, k, v)))
    for gradient in (dq, dk, dv):
        assert np.isfinite(gradient[~broken]).all()
        assert np.isnan(gradient[broken]).any()


def test_segments_that_come_back_are_still_attended():
    """Nobody packs them, but an answer must not depend on that."""
    mixed = np.tile([1, 2, 0, 1, 2], BLOCK).astype(np.int32)[None]
    qkv, real = [x[:1] for x in draw()], (mixed > 0)[..., None, None]
    ours, theirs = (np.where(real, attend(*qkv, ids=mixed), 0) for attend in (fused, plain))
    assert_same(ours, theirs)


def test_pairs_are_those_of_the_blocks_that_are_visited():
    assert splash.pairs(ids) == needed(None).sum() * BLOCK**2
    # 512 + 512 columns: two blocks, of which the second half's segment sees only itself
    halves = np.repeat([[1, 2]], 512, axis=1).astype(np.int32)
    assert splash.pairs(halves) == 2 * 512**2
    assert splash.pairs(np.ones((1, 1000), np.int32)) == 3 * 512**2  # padded to 1,024
