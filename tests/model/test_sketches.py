"""The sketches of docs/design.md compile, and compute what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import docs
from support.commands import ROOT
from support.oracle import assert_same


@pytest.fixture(scope="module")
def sketched():
    found: dict = {}
    for text in docs.fences((ROOT / "docs/design.md").read_text(), "python"):
        exec(compile(text, "docs/design.md", "exec"), found)
    return found


def test_a_mixture_is_the_weighted_sum_of_the_experts_that_were_chosen(sketched, rng):
    T, D, E, F, k = 7, 6, 4, 5, 2
    x, router = rng.normal(size=(T, D)), rng.normal(size=(D, E))
    gate, up = (rng.normal(size=(E, D, F)) for _ in range(2))
    down = rng.normal(size=(E, F, D))
    arrays = [jnp.asarray(a, jnp.float32) for a in (x, router, gate, up, down)]
    ours = jax.jit(sketched["mixture"], static_argnums=5)(*arrays, k)
    for t in range(T):
        share = np.exp(x[t] @ router)
        chosen = np.argsort(-share)[:k]
        expected = 0
        for e in chosen:
            hidden = x[t] @ gate[e]
            hidden = hidden / (1 + np.exp(-hidden)) * (x[t] @ up[e])
            expected = expected + share[e] / share[chosen].sum() * (hidden @ down[e])
        assert_same(ours[t], expected)


def test_a_delta_rule_reads_the_sequences_of_a_row_apart_and_goes_on_from_a_state(sketched, rng):
    T, K, V, cut = 9, 3, 4, 5
    q, k = rng.normal(size=(2, T, K))
    v, decay, beta = rng.normal(size=(T, V)), rng.uniform(size=T), rng.uniform(size=T)
    first = np.arange(T) == cut
    run = jax.jit(sketched["delta_rule"])
    empty = jnp.zeros((K, V))
    whole, last = run(q, k, v, decay, beta, first, empty)
    state = np.zeros((K, V))
    for t in range(T):  # W_t = decay W (1 - beta k k^T) + beta k v^T
        state = decay[t] * state * (not first[t])
        state = state - beta[t] * np.outer(k[t], k[t] @ state) + beta[t] * np.outer(k[t], v[t])
        assert_same(whole[t], q[t] @ state)
    assert_same(last, state)
    parts = [slice(cut, 7), slice(7, T)]
    state = empty
    for part in parts:
        out, state = run(*(a[part] for a in (q, k, v, decay, beta, first)), state)
        assert_same(out, whole[part])
