"""Weights of eight bits: rounded as numpy rounds them, and what is drawn is drawn from exactly the rounded model."""

import copy

import jax
import numpy as np
import pytest
from test_sample import draw

from sar_jax import handover, int8, model, packing, parameters, score, sharding

# Which axes of a stacked matrix are inputs.
INPUTS = {"q_proj": (1,), "k_proj": (1,), "v_proj": (1,), "o_proj": (1, 2), "gate_proj": (1,), "up_proj": (1,),
          "down_proj": (1,)}


def widened(tree):
    """Whole numbers times scales, by hand: a float32 tree of the plain model."""
    layers = jax.device_get(tree["layers"])
    for name, inputs in INPUTS.items():
        layers[name] = layers[name].astype(np.float32) * np.expand_dims(layers.pop(f"{name}_scale"), inputs)
    return tree | {"layers": layers}


def test_matrices_are_rounded_to_the_nearest_of_255_steps(loaded):
    layers = dict(jax.device_get(loaded.params["layers"]))
    layers["up_proj"] = layers["up_proj"].copy()
    layers["up_proj"][0, :, 3] = 0   # an output that is always 0 has no largest input
    with jax.debug_nans(True):   # what NaN is as a whole number differs between devices
        found = jax.device_get(int8.rounded(loaded.params | {"layers": layers}))
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
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
    assert int8.described(loaded.cfg, "") == loaded.cfg
    # As an exported model is rounded, whose weights are bfloat16.
    same = int8.rounded(jax.tree.map(lambda x: x.astype("bfloat16"), loaded.params))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(same))


def test_answers_are_drawn_from_the_rounded_model(each_family):
    """The sampler's logprobs are those that the scorer finds with the rounded weights as plain ones, and not those of the
    weights before."""
    loaded = each_family
    cfg = int8.described(loaded.cfg, "int8")
    light, rounded = copy.copy(loaded), int8.rounded(loaded.params)
    light.graphdef = model.build(cfg, "float32", remat=True)
    prompts, rollouts = draw(light, range(4), params=rounded)
    ids = [t[:n].tolist() for t, n in zip(rollouts.tokens, rollouts.lengths)]
    packed, layout = packing.pack([prompts[b // 3] for b in range(12)], ids, 96, 1)
    scorer = score.make_score(loaded.graphdef, 32)
    gaps = {}
    for name, params in (("rounded", widened(rounded)), ("before", loaded.params)):
        scored = packing.gather(jax.device_get(scorer(params, packed)).logps, layout)
        gaps[name] = max(np.abs(s[:n] - x).max() for s, n, x in zip(rollouts.logps, rollouts.lengths, scored))
    assert gaps["rounded"] < 2e-5 < 1e-3 < gaps["before"]


@pytest.mark.parametrize("sizes, tensor", [((1, 8, 1), 2), ((2, 2, 2), 1)])
def test_handing_over_rounds_alike_on_eight_devices(loaded, sizes, tensor):
    """The same integers and scales as on one device, bit for bit, wherever the inputs were cut."""
    cfg = int8.described(loaded.cfg, "int8")
    mesh = sharding.make_mesh(*sizes)
    decoding = sharding.decoding_mesh(mesh, tensor, cfg.num_kv_heads)
    masters = jax.device_put(loaded.params, sharding.param_shardings(parameters.param_specs(loaded.cfg), mesh))
    found = handover.make_hand_over(cfg, mesh, decoding, "float32")(masters)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(int8.rounded(loaded.params)))
    scales = found["layers"]["gate_proj_scale"].sharding
    assert scales.mesh == decoding and (tensor == 1 or scales.spec[1] == "tensor")
