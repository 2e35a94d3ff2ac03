"""Draws and their logprobs: filters are those of transformers, and draws follow the distribution
that is reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.oracle import assert_same
from transformers.generation import logits_process as theirs

from sar_jax.rollout import draw as draw_lib
from sar_jax.structs import Sampling

SETTINGS = [
    Sampling(),
    Sampling(temperature=0.6),
    Sampling(top_k=7),
    Sampling(top_p=0.7),
    Sampling(min_p=0.2),
    Sampling(top_p=1e-6),
    Sampling(min_p=1.0),
    Sampling(top_k=1),
    Sampling(top_k=1000),
    Sampling(temperature=1.7, top_k=20, top_p=0.8, min_p=0.1),
]


def expected(logits, s: Sampling) -> np.ndarray:
    """The distribution after the filters of transformers."""
    scores = torch.tensor(logits, dtype=torch.float64) / s.temperature
    if s.top_k:
        scores = theirs.TopKLogitsWarper(min(s.top_k, scores.shape[-1]))(None, scores)
    if s.top_p < 1:
        scores = theirs.TopPLogitsWarper(s.top_p)(None, scores)
    if s.min_p:
        scores = theirs.MinPLogitsWarper(s.min_p)(None, scores)
    return scores.softmax(-1).numpy()


def draw(logits, sampling, count, greedy=False):
    """`count` draws from each row of logits."""
    keys = jax.random.split(jax.random.key(1), count * len(logits))
    found = jax.jit(draw_lib.pick, static_argnums=3)(
        jnp.repeat(jnp.asarray(logits), count, axis=0), keys, jnp.bool_(greedy), sampling
    )
    return [np.asarray(x).reshape(len(logits), count) for x in found]


@pytest.mark.parametrize(
    "vocabulary, sampling",
    # filters know no blocks
    [(60, s) for s in SETTINGS if s == Sampling() or s.top_k > 7] + [(300, s) for s in SETTINGS],
    ids=lambda value: getattr(value, "words", value),
)
def test_draws_follow_the_filtered_distribution_and_report_it(rng, sampling, vocabulary):
    """Total variation of 5,000 draws, of a vocabulary with fewer entries than there are blocks, and
    of one that does not divide; the reported logprobs are exact."""
    logits = rng.normal(size=(2, vocabulary)).astype(np.float32) * 3
    probs, full = expected(logits, sampling), expected(logits, Sampling())
    tokens, logps, policy_logps = draw(logits, sampling, 5000)
    for row in range(2):
        counts = np.bincount(tokens[row], minlength=vocabulary) / 5000
        assert not counts[probs[row] == 0].any()
        noise = np.sqrt(2 / np.pi * probs[row] * (1 - probs[row]) / 5000).sum() / 2
        assert 0.5 * np.abs(counts - probs[row]).sum() <= 2 * noise
        assert_same(logps[row], np.log(probs[row][tokens[row]]), scale=10)
        assert_same(policy_logps[row], np.log(full[row][tokens[row]]), scale=10)


def test_draws_within_a_block_follow_the_distribution():
    """Four entries that lie in one of the vocabulary's 128 blocks have all of the probability;
    40,000 draws."""
    logits = np.full((1, 512), -40, np.float32)
    logits[0, 20:24] = [0, 1, 2, 3]
    counts = np.bincount(draw(logits, Sampling(), 40_000)[0][0], minlength=512)[20:24] / 40_000
    np.testing.assert_allclose(counts, expected(logits, Sampling())[0, 20:24], atol=4 * 0.5 / 200)


@pytest.mark.parametrize("top_k", [1, 2, 59, 60, 61])
def test_top_k_keeps_k(rng, top_k):
    logits = jnp.asarray(rng.normal(size=(3, 60)), jnp.float32)
    np.testing.assert_array_equal(
        draw_lib.kept(logits, Sampling(top_k=top_k)).sum(axis=-1), min(top_k, 60)
    )


def test_greedy_takes_the_most_probable_whatever_the_filters(rng):
    logits = rng.normal(size=(3, 300)).astype(np.float32)
    for sampling in (Sampling(), Sampling(temperature=2.0, top_k=3)):
        tokens, logps, policy_logps = draw(logits, sampling, 2, greedy=True)
        np.testing.assert_array_equal(tokens, logits.argmax(-1)[:, None].repeat(2, 1))
        best = np.log(expected(logits, Sampling()).max(-1))[:, None].repeat(2, 1)
        assert_same(logps, best, scale=10)
        np.testing.assert_array_equal(logps, policy_logps)


def test_nothing_is_sorted_while_the_filters_are_off(rng):
    lowered = lambda sampling: (
        jax.jit(draw_lib.pick, static_argnums=3)
        .lower(
            jnp.zeros((4, 300)), jax.random.split(jax.random.key(0), 4), jnp.bool_(False), sampling
        )
        .as_text()
    )
    words = ("stablehlo.sort", "chlo.top_k")
    assert not any(
        word in lowered(Sampling()) or word in lowered(Sampling(min_p=0.1)) for word in words
    )
    assert any(word in lowered(Sampling(top_p=0.9)) for word in words)


def test_a_draw_takes_fewer_random_numbers_than_the_vocabulary_has_entries():
    """The largest array of random bits, by the program's own text."""
    text = str(
        jax.make_jaxpr(lambda l, k: draw_lib.pick(l, k, jnp.bool_(False), Sampling()))(
            jnp.zeros((2, 150_000)), jax.random.split(jax.random.key(0), 2)
        )
    )
    assert "u32[2,1300]" in text and "u32[2,150000]" not in text
