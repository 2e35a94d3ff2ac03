"""The cache: what is decoded out of it equals the full forward pass, for every family, and the
kernel for TPUs."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from support.oracle import assert_as_close, assert_same

from sar_jax.model import cache as cache_lib
from sar_jax.model import decoding
from sar_jax.model import network as network_lib
from sar_jax.model.attention import paged, portable
from sar_jax.model.network import Network
from sar_jax.rollout import slots
from sar_jax.structs import Sampling


def packed_prefill(loaded, network, questions, width=24):
    """Two questions share the first row; the last one has the second."""
    tokens, positions, segments = np.zeros((3, 2, width), np.int32)
    places, filled = [], [0, 0]
    for i, q in enumerate(questions):
        row = int(i == len(questions) - 1)
        here = slice(filled[row], filled[row] + len(q) - 1)
        tokens[row, here], positions[row, here], segments[row, here] = (
            q[:-1],
            np.arange(len(q) - 1),
            i + 1,
        )
        places.append((row, filled[row], len(q) - 1))
        filled[row] += len(q) - 1
    return prefill(network, loaded.params, tokens, positions, segments), places


prefill = jax.jit(decoding.prefill, static_argnums=0)
create = jax.jit(cache_lib.create, static_argnums=(0, 1, 2, 3))
insert = jax.jit(cache_lib.insert, static_argnums=0)
resize = jax.jit(cache_lib.resize, static_argnums=(0, 3))


@functools.partial(jax.jit, static_argnums=0)
def step(network, params, token, position, cache):
    """[S, V], and the cache."""
    layers = decoding.apart(params) if cache_lib.is_apart(network) else None
    hidden, cache = decoding.decode(network, params, layers, token, position, cache)
    return network_lib.unembed(network, params, hidden), cache


@pytest.mark.few_families
def test_decoding_equals_the_full_forward(each_family, rng):
    """Questions of different lengths, one twice, in slots of any order; each token's logits equal
    transformers', also after the cache has grown and after the slots have moved."""
    loaded, n = each_family, 30
    cfg, network = loaded.cfg, loaded.network
    questions = [rng.integers(0, cfg.vocab_size, size).tolist() for size in (9, 13, 20)]
    answers = rng.integers(0, cfg.vocab_size, (4, n))
    (keys, values), places = packed_prefill(loaded, loaded.network, questions)
    slots, which = [2, 0, 4, 3], [0, 1, 2, 0]  # slot 1 stays free
    entries = cache_lib.Entries(
        jnp.array(slots), *(jnp.array([places[w][part] for w in which]) for part in range(3))
    )
    cache = create(network, 5, 34, "float32")
    cache = insert(network, cache, keys, values, entries, jnp.int32(4))
    token, position = np.zeros(5, np.int32), np.zeros(5, np.int32)
    for slot, w in zip(slots, which):
        token[slot], position[slot] = questions[w][-1], len(questions[w]) - 1
    found, order = [], slots
    for t in range(n):
        if t == 10:
            cache = resize(network, cache, jnp.arange(5), 60)
        if t == 20:
            kept = [4, 3, 2, 0]
            cache = resize(network, cache, jnp.array(kept), 60)
            token, position, order = token[kept], position[kept], [kept.index(s) for s in order]
        logits, cache = step(network, loaded.params, token, position, cache)
        found.append(np.asarray(logits)[order])
        for slot, answer in zip(order, answers[:, t]):
            token[slot], position[slot] = answer, position[slot] + 1
    for i, w in enumerate(which):
        theirs = loaded.oracle.logits([*questions[w], *answers[i]])
        expected = (logits[len(questions[w]) - 1 : -1] for logits in theirs)
        assert_as_close(np.stack(found)[:, i], *expected)


def test_a_window_s_cache_has_its_window_s_columns(each_family):
    cfg = each_family.cfg
    for kernel, padded in (("xla", lambda x, m: x), ("splash", lambda x, m: -(-x // m) * m)):
        network = Network(cfg, kernel=kernel)
        known = cache_lib.groups(network)
        assert sorted(l for g in known for l in g.layers) == list(range(cfg.num_layers))
        shapes = [x.shape for x in cache_lib.describe(network, 3, 400, "float32").k]
        for group, shape in zip(known, shapes, strict=True):
            windows = {cfg.kinds[cfg.layer_kinds[l]].window for l in group.layers}
            assert len(windows) == 1
            columns = min(windows.pop() or 400, 400)
            layers = (len(group.layers),) if kernel == "splash" else ()  # else there is one
            assert len(group.layers) == 1 or layers
            assert shape == (
                cfg.num_kv_heads,
                *layers,
                3,
                padded(columns, paged.PAGE),
                padded(cfg.head_dim, 128),
            )


def test_decoding_copies_no_cache(each_family):
    """Nothing of the size of a layer's whole cache is copied within the compiled loop, or before or
    after it."""
    loaded = each_family
    if loaded.cfg.family not in ("gemma3_text", "phi3"):
        pytest.skip(
            "two families have all there is: two kinds of layers, windows, odd heads, soft caps"
        )
    state = slots.create(loaded.network, 11, 57, "float32")  # sizes that nothing else has
    compiled = (
        slots.decode.lower(
            loaded.network,
            loaded.params,
            state,
            jnp.int32(4),
            jnp.int32(0),
            jnp.bool_(False),
            stop_ids=(0,),
            sampling=Sampling(),
        )
        .compile()
        .as_text()
    )
    copied = {
        int(np.prod([int(n) for n in shape.split(",") if n]))
        for shape in re.findall(r" = f32\[([0-9,]*)\]\S* copy\(", compiled)
    }
    assert copied and max(array.size for array in state.cache.k) not in copied


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_the_kernel_for_tpus_is_the_attention_of_other_devices(rng, softcap):
    """Interpreted; it computes in bfloat16. Two layers; slots with one live column, some, and all;
    a padded head dim."""
    S, N, K, C, H = 3, 4, 2, 256, 32
    q = jnp.asarray(rng.normal(size=(S, N, H)), jnp.float32)
    k, v = (jnp.asarray(rng.normal(size=(K, 2, S, C, H)), jnp.float32) for _ in range(2))
    widened = [
        jnp.pad(x, ((0, 0),) * 4 + ((0, paged.LANES - H),)).astype(jnp.bfloat16) for x in (k, v)
    ]
    lengths = jnp.array([1, 130, 256])
    options = dict(scale=0.2, softcap=softcap)
    with pltpu.force_tpu_interpret_mode():
        attend = jax.jit(functools.partial(paged.attend, **options))
        found = attend(q, *widened, layer=jnp.int32(1), lengths=lengths)
    attend = jax.jit(functools.partial(portable.attend_cached, **options))
    expected = attend(q, k[:, 1], v[:, 1], lengths=lengths)
    # a unit of bfloat16 is 2**-8 of a value
    np.testing.assert_allclose(found, expected, atol=2**-6 * np.abs(expected).max())
    for s, n in enumerate(np.asarray(lengths)):  # and that one is a softmax over the live columns
        query = np.asarray(q[s]).reshape(K, N // K, H)
        scores = np.einsum("kgh,kch->kgc", query, np.asarray(k[:, 1, s, :n])) * 0.2
        scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
        weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        by_hand = np.einsum("kgc,kch->kgh", weights, np.asarray(v[:, 1, s, :n])).reshape(N, H)
        assert_same(expected[s], by_hand)


@pytest.mark.few_families
def test_scanned_layers_with_the_kernel_for_tpus_decode_what_separate_ones_do(each_family, rng):
    """The layout and program of a TPU, interpreted, against transformers; bfloat16 inside the
    kernel."""
    loaded = each_family
    if loaded.cfg.family not in ("gemma3_text", "phi3"):
        pytest.skip(
            "two families have all there is: two kinds of layers, windows, odd heads, soft caps"
        )
    network = Network(loaded.cfg, "float32", remat="none", kernel="splash")
    question, answer = (rng.integers(0, loaded.cfg.vocab_size, size) for size in (9, 4))
    (keys, values), places = packed_prefill(loaded, loaded.network, [question, question])
    entries = cache_lib.Entries(*(jnp.array([x]) for x in (1, *places[1])))
    cache = create(network, 2, 40, "float32")
    cache = insert(network, cache, keys, values, entries, jnp.int32(1))
    expected = loaded.oracle.logits([*question, *answer])[1][8:]
    with pltpu.force_tpu_interpret_mode():
        for t, token in enumerate([question[-1], *answer]):
            tokens, positions = np.array([[0, token], [0, 8 + t]], np.int32)
            logits, cache = step(network, loaded.params, tokens, positions, cache)
            scale = np.abs(expected[t]).max()
            np.testing.assert_allclose(logits[1], expected[t], atol=0.05 * scale)
