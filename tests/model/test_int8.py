"""Eight bits: weights and cache are rounded as numpy rounds them, and what is drawn is drawn from
exactly what is left."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from support.oracle import assert_same
from support.rollouts import draw, scored

from sar_jax.config import TrainConfig
from sar_jax.model import cache as cache_lib
from sar_jax.model import int8, parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.planning import programs, roofline
from sar_jax.training import handover

# Which axes of a stacked matrix are inputs.
INPUTS = {
    "q_proj": (1,),
    "k_proj": (1,),
    "v_proj": (1,),
    "o_proj": (1, 2),
    "gate_proj": (1,),
    "up_proj": (1,),
    "down_proj": (1,),
}


rounded = jax.jit(int8.rounded)


def widened(tree):
    """Whole numbers times scales, by hand: a float32 tree of the plain model."""
    layers = jax.device_get(tree["layers"])
    for name, inputs in INPUTS.items():
        layers[name] = layers[name].astype(np.float32) * np.expand_dims(
            layers.pop(f"{name}_scale"), inputs
        )
    return tree | {"layers": layers}


def test_matrices_are_rounded_to_the_nearest_of_255_steps(loaded):
    layers = dict(jax.device_get(loaded.params["layers"]))
    layers["up_proj"] = layers["up_proj"].copy()
    layers["up_proj"][0, :, 3] = 0  # an output that is always 0 has no largest input
    with jax.debug_nans(True):  # what NaN is as a whole number differs between devices
        made = rounded(jax.device_put(loaded.params | {"layers": layers}))
    found = jax.device_get(made)
    back = widened(found)["layers"]
    for name, inputs in INPUTS.items():
        whole, weight = found["layers"][name], layers[name]
        step = np.abs(weight).max(axis=inputs, keepdims=True) / 127
        assert whole.dtype == np.int8 and (np.abs(back[name] - weight) <= 0.5001 * step).all()
        largest = np.abs(whole.astype(int)).max(axis=inputs)
        assert ((largest == 127) | (step.squeeze(inputs) == 0)).all() and (largest == 127).any()
    assert (back["up_proj"][0, :, 3] == 0).all()
    others = set(loaded.params["layers"]) - set(INPUTS)
    for name in others:
        np.testing.assert_array_equal(found["layers"][name], layers[name])


def test_the_tree_is_the_one_that_is_described(loaded):
    cfg = int8.described(loaded.cfg, "int8")
    specs = parameters.param_specs(cfg)
    mesh = sharding.make_mesh(1, 1, 1, jax.devices()[:1])
    expected = parameters.describe(specs, sharding.param_shardings(specs, mesh), "bfloat16")
    found = handover.make_hand_over(cfg, mesh, mesh, "bfloat16")(loaded.params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
        lambda x: (x.shape, x.dtype), expected
    )
    assert int8.described(loaded.cfg, "") == loaded.cfg
    # As an exported model is rounded, whose weights are bfloat16.
    same = rounded(jax.tree.map(lambda x: x.astype("bfloat16"), loaded.params))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(same))


@pytest.mark.few_families
def test_answers_are_drawn_from_the_rounded_model(each_family):
    """The sampler's logprobs are those that the scorer finds with the rounded weights as plain
    ones, and not those of the weights before."""
    loaded = each_family
    if loaded.cfg.family not in ("gemma2", "phi3", "qwen2"):
        pytest.skip(
            "three families have all there is: biases, heads of their own, soft caps, windows"
        )
    cfg = int8.described(loaded.cfg, "int8")
    light, params = copy.copy(loaded), rounded(loaded.params)
    light.network = Network(cfg, "float32", remat="block")
    prompts, rollouts = draw(light, range(4), params=params)
    flat = np.concatenate([s[:n] for s, n in zip(rollouts.sampling_logps, rollouts.lengths)])
    assert_same(flat, np.concatenate(scored(loaded, prompts, rollouts, widened(params))))
    before = np.concatenate(scored(loaded, prompts, rollouts))
    assert np.abs(flat - before).max() > 1e-2


@pytest.mark.parametrize("sizes, tensor", [((1, 8, 1), 2), ((2, 2, 2), 1)])
def test_handing_over_rounds_alike_on_eight_devices(loaded, sizes, tensor):
    """The same integers and scales as on one device, bit for bit, wherever the inputs were cut."""
    cfg = int8.described(loaded.cfg, "int8")
    mesh = sharding.make_mesh(*sizes)
    decoding = sharding.decoding_mesh(mesh, tensor, cfg.num_kv_heads)
    masters = jax.device_put(
        loaded.params, sharding.param_shardings(parameters.param_specs(loaded.cfg), mesh)
    )
    found = handover.make_hand_over(cfg, mesh, decoding, "float32")(masters)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(found),
        jax.device_get(rounded(loaded.params)),
    )
    scales = found["layers"]["gate_proj_scale"].sharding
    assert scales.mesh == decoding and (tensor == 1 or scales.spec[1] == "tensor")


# The cache


def nearest(x: np.ndarray) -> np.ndarray:
    """To 255 steps of the last axis's largest, and back."""
    step = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    return np.round(x / np.where(step == 0, 1, step)) * step


def attended(cfg, q, history, window) -> np.ndarray:
    """q [N, H] over the last `window` of `history`, pairs of keys and values [K, H]."""
    k, v = (np.stack(side) for side in zip(*(history if window is None else history[-window:])))
    grouped = q.reshape(cfg.num_kv_heads, -1, cfg.head_dim)
    scores = np.einsum("kgh,ckh->kgc", grouped, k) * cfg.query_scale
    if cfg.attn_softcap is not None:
        scores = cfg.attn_softcap * np.tanh(scores / cfg.attn_softcap)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("kgc,ckh->kgh", weights / weights.sum(axis=-1, keepdims=True), v).reshape(
        q.shape
    )


@pytest.mark.few_families
@pytest.mark.parametrize("kernel, error", [("xla", 1e-4), ("splash", 0.02)])
def test_a_cache_of_eight_bits_holds_the_nearest_steps(each_family, rng, kernel, error):
    """Questions out of packed rows, then tokens, into slots that move and grow; three blocks of
    columns, past every window. "splash" is the kernel for TPUs, interpreted: it multiplies in
    bfloat16."""
    cfg, network = each_family.cfg, Network(each_family.cfg, kernel=kernel)
    if cfg.family not in ("gemma2", "phi3"):
        pytest.skip(
            "two families have all there is: two kinds of layers, windows, odd heads, soft caps"
        )
    cut = {"xla": 0, "splash": 1}[kernel]
    L, K, H = cfg.num_layers, cfg.num_kv_heads, cfg.head_dim

    def drawn(*shape):
        """Of three sizes, and nowhere so near to the middle between two steps that rounding
        decides."""
        steps = rng.integers(-126, 127, shape) + rng.uniform(-0.4, 0.4, shape)
        steps[..., 0] = 127
        sizes = rng.choice([0.1, 1, 10], (*shape[:-1], 1)) / 50
        return (steps * sizes).astype(np.float32)

    W, starts, lengths = 300, [3, 0, 20], [21, 280, 9]
    keys, values = drawn(2, L, K, W, H), drawn(2, L, K, W, H)
    rows, slots = [1, 0, 1], [4, 0, 2]
    cache = jax.jit(cache_lib.create, static_argnums=(0, 1, 2, 3))(network, 5, 310, "int8")
    entries = cache_lib.Entries(*map(jnp.array, (slots, rows, starts, lengths)))
    insert = jax.jit(cache_lib.insert, static_argnums=0)
    cache = insert(network, cache, keys, values, entries, jnp.int32(3))
    resize = jax.jit(cache_lib.resize, static_argnums=(0, 3))
    history = {
        slot: [
            [(nearest(keys[r, l, :, c]), nearest(values[r, l, :, c])) for c in range(b, b + n)]
            for l in range(L)
        ]
        for slot, r, b, n in zip(slots, rows, starts, lengths)
    }
    places = cache_lib.places(network)
    write = jax.jit(cache_lib.write, static_argnums=0 if cut else (0, 6, 7))
    for t in range(6):
        if t == 2:
            cache = resize(network, cache, jnp.arange(5), 400)
        if t == 4:
            cache = resize(network, cache, jnp.array([4, 2, 0]), 400)
            history = {i: history[slot] for i, slot in enumerate([4, 2, 0])}
        S = cache.k[0].shape[-3]
        positions = np.array(
            [len(history[s][0]) if s in history else 0 for s in range(S)], np.int32
        )
        for l in range(L):
            q, k, v = drawn(S, cfg.num_heads, H) / 10, drawn(S, K, H), drawn(S, K, H)
            place = tuple(map(jnp.int32, places[l])) if cut else places[l]
            with pltpu.force_tpu_interpret_mode():
                found, cache = write(network, cache, q, k, v, positions, *place)
            for s, layers in history.items():
                layers[l].append((nearest(k[s]), nearest(v[s])))
                expected = attended(cfg, q[s], layers[l], cfg.kinds[cfg.layer_kinds[l]].window)
                np.testing.assert_allclose(found[s], expected, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("shape", [None, (2, 2, 2)])
def test_answers_drawn_with_a_cache_of_eight_bits_are_almost_the_scorers(loaded, shape):
    """What differs is the rounding, and the same on any devices. Slots are refilled."""
    params = (
        loaded.params
        if shape is None
        else jax.device_put(loaded.params, loaded.shardings(sharding.make_mesh(*shape)))
    )
    settings = dict(
        limit=16, stop=(-1,), slots=8, cache_dtype="int8", limits=np.arange(24) % 16 + 1
    )
    prompts, rollouts = draw(loaded, range(8), params=params, **settings)
    flat = np.concatenate([s[:n] for s, n in zip(rollouts.sampling_logps, rollouts.lengths)])
    gap = np.abs(flat - np.concatenate(scored(loaded, prompts, rollouts)))
    assert 1e-4 < gap.mean() < 0.02 and gap.max() < 0.2
    if shape is not None:
        plain = draw(loaded, range(8), **settings)[1]
        np.testing.assert_array_equal(rollouts.tokens, plain.tokens)


def test_a_cache_of_eight_bits_takes_half_of_bfloat16_and_its_scales(loaded):
    """By hand, on one of eight devices that share the slots: 3 layers, 2 kv heads of 10, 12 slots;
    4 bytes a scale."""
    sizes = {}
    for dtype in ("bfloat16", "int8"):
        config = TrainConfig()
        config.rollout.cache_dtype = dtype
        sizes[dtype] = programs.describe(config, loaded.cfg, sharding.make_mesh(1, 8, 1)).cache
        assert sizes[dtype] == cache_lib.bytes_of(loaded.network, 96 // 8, 1024 + 4096, dtype)
        # every column live
        assert roofline.live_bytes(config, loaded.cfg, 5120) == 8 * sizes[dtype]
    assert sizes["bfloat16"] == 2 * 3 * 2 * 12 * 5120 * 10 * 2 and sizes["int8"] * 20 == sizes[
        "bfloat16"
    ] * (10 + 4)
