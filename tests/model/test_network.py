"""The decoder against `transformers`, for every family: logits of padded and packed rows, cached
decoding, long inputs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.models import FAMILIES, Loaded, load_torch, make_hf_folder

from sar_jax.model import network as network_lib
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.rl import packing
from sar_jax.structs import Packed


def torch_logits(network, ids) -> np.ndarray:
    with torch.no_grad():
        return network(torch.tensor(np.asarray(ids)[None])).logits[0].numpy()


@functools.partial(jax.jit, static_argnums=0)
def all_logits(network, params, tokens, positions, segment_ids):
    return network_lib.unembed(
        network, params, network_lib.forward(network, params, tokens, positions, segment_ids)
    )


def our_logits(loaded, packed, network=None) -> np.ndarray:
    return np.asarray(
        all_logits(network or loaded.network, loaded.params, *map(jnp.asarray, packed[:3]))
    )


def one_row(ids, left: int = 0, right: int = 0) -> Packed:
    """A sequence alone in a row, with padding on both sides."""
    pad = lambda x: np.pad(np.asarray(x, np.int32), (left, right))[None]
    return Packed(
        pad(ids), pad(np.arange(len(ids))), pad(np.ones(len(ids))), pad(np.ones(len(ids))) > 0
    )


def sequences(rng, vocab_size, lengths=(5, 17, 30, 9, 21)):
    return [rng.integers(0, vocab_size, n).tolist() for n in lengths]


@pytest.mark.parametrize("width", [32, 64, 1024])  # 1024: attention in query blocks
def test_packed_rows_equal_transformers_on_each_sequence_alone(each_family, rng, width):
    ids = sequences(rng, each_family.cfg.vocab_size)
    packed, layout = packing.pack([s[:2] for s in ids], [s[2:] for s in ids], width, 2)
    logits = our_logits(each_family, packed)
    for s, row, start, n in zip(ids, layout.row, layout.start, layout.length):
        ours = logits[row, start - 2 : start + n]
        np.testing.assert_allclose(ours, torch_logits(each_family.torch, s), atol=1e-5)


@pytest.mark.parametrize("left, right", [(7, 0), (0, 7), (100, 3)])
def test_padding_on_either_side_changes_nothing(each_family, rng, left, right):
    ids = rng.integers(0, each_family.cfg.vocab_size, 33)
    logits = our_logits(each_family, one_row(ids, left, right))[0, left : left + 33]
    np.testing.assert_allclose(logits, torch_logits(each_family.torch, ids), atol=1e-5)


def test_logits_vary_and_depend_on_the_past_only(each_family, rng):
    """Guards the comparisons: an oracle of constant logits would agree with anything."""
    ids = rng.integers(0, each_family.cfg.vocab_size, 20)
    packed = one_row(ids)
    logits = our_logits(each_family, packed)
    assert logits.std() > 0.5
    changed = packed._replace(tokens=packed.tokens.copy())
    changed.tokens[0, 10] = (changed.tokens[0, 10] + 1) % each_family.cfg.vocab_size
    other = our_logits(each_family, changed)
    np.testing.assert_array_equal(logits[0, :10], other[0, :10])
    assert (np.abs(logits[0, 10:12] - other[0, 10:12]).max(axis=-1) > 1e-4).all()


def test_long_inputs_equal_transformers(each_family, rng):
    """Beyond every window, beyond LongRoPE's original length; many query blocks."""
    ids = rng.integers(0, each_family.cfg.vocab_size, 450)
    np.testing.assert_allclose(
        our_logits(each_family, one_row(ids))[0], torch_logits(each_family.torch, ids), atol=1e-5
    )


@pytest.mark.parametrize("max_length, length", [(20, 20), (21, 40)])
def test_longrope_is_chosen_by_the_longest_sequence_of_the_run(
    tmp_path, mesh, rng, max_length, length
):
    """Short factors where no sequence can be longer than the original 20 positions, long ones
    otherwise: as `transformers` on a row of that length; and the same for a short row beside it."""
    folder = make_hf_folder(tmp_path / "m", family="phi3")
    loaded, network = Loaded(folder, mesh, max_length), load_torch(folder)
    ids = rng.integers(0, loaded.cfg.vocab_size, length)
    long_row = our_logits(loaded, one_row(ids))[0]
    np.testing.assert_allclose(long_row, torch_logits(network, ids), atol=1e-5)
    np.testing.assert_allclose(our_logits(loaded, one_row(ids[:9]))[0], long_row[:9], atol=1e-5)


# Any value that a published config may hold, on top of the odd ones of each family.
_SHARED = st.fixed_dictionaries(
    {},
    optional={
        "num_hidden_layers": st.integers(1, 4),
        "rms_norm_eps": st.sampled_from([1e-6, 1e-3, 0.1]),
        "intermediate_size": st.integers(3, 70),
        "tie_word_embeddings": st.booleans(),
    },
)
_THETA = st.sampled_from([100.0, 1e4, 1e6, 5e6])
_PLAIN_ROPE = st.one_of(
    st.builds(lambda t: {"rope_type": "default", "rope_theta": t}, _THETA),
    st.builds(
        lambda t, f: {"rope_type": "linear", "rope_theta": t, "factor": f},
        _THETA,
        st.sampled_from([2.0, 7.5]),
    ),
)
_HEADS = st.sampled_from([(6, 1, 8), (6, 6, 12), (4, 2, 6), (2, 1, 16), (6, 3, 4)])
_HEADED = st.builds(
    lambda h: {"num_attention_heads": h[0], "num_key_value_heads": h[1], "head_dim": h[2]}, _HEADS
)
_WINDOW = st.integers(1, 50)
_DRAWN = {
    "qwen3": st.builds(lambda h, r: {**h, "rope_parameters": r}, _HEADED, _PLAIN_ROPE),
    "llama": st.builds(lambda h, r: {**h, "rope_parameters": r}, _HEADED, _PLAIN_ROPE),
    "qwen2": st.builds(
        lambda r, w, first, on: {
            "rope_parameters": r,
            "sliding_window": w,
            "max_window_layers": first,
            "use_sliding_window": on,
        },
        _PLAIN_ROPE,
        _WINDOW,
        st.integers(0, 4),
        st.booleans(),
    ),
    "phi3": st.builds(
        lambda w, k: {"sliding_window": w, "num_key_value_heads": k},
        st.none() | _WINDOW,
        st.sampled_from([1, 2, 6]),
    ),
    "gemma3_text": st.builds(
        lambda h, w, q, c, s: {
            **h,
            "sliding_window": w,
            "query_pre_attn_scalar": q,
            "final_logit_softcapping": c,
            "layer_types": None,
            "sliding_window_pattern": s,
        },
        # 9: scores three times as steep as they are drawn; steeper, float32's own rounding reaches
        # 1e-5
        _HEADED,
        _WINDOW,
        st.integers(9, 300),
        st.none() | st.floats(2, 30),
        st.integers(1, 4),
    ),
    "gemma2": st.builds(
        lambda h, w, c, a: {
            **h,
            "sliding_window": w,
            "final_logit_softcapping": c,
            "attn_logit_softcapping": a,
        },
        _HEADED,
        _WINDOW,
        st.floats(2, 30),
        st.floats(2, 50),
    ),
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_drawn_configurations_equal_transformers(tmp_path_factory, mesh, family, data):
    overrides = data.draw(_SHARED) | data.draw(_DRAWN[family])
    if overrides.get("num_hidden_layers") and "layer_types" in FAMILIES[family]:
        overrides["layer_types"] = None
    folder = make_hf_folder(
        tmp_path_factory.mktemp("drawn") / "m", seed=3, family=family, **overrides
    )
    loaded, network = Loaded(folder, mesh), load_torch(folder, long=True)
    ids = np.random.default_rng(1).integers(0, loaded.cfg.vocab_size, 60)
    np.testing.assert_allclose(
        our_logits(loaded, one_row(ids, 2, 3))[0, 2:62], torch_logits(network, ids), atol=1e-5
    )


def test_gradients_equal_transformers(each_family, rng):
    """Of the summed logprobs of a sequence, in every parameter that the first layer has."""
    ids = rng.integers(
        1, each_family.cfg.vocab_size, 30
    )  # torch gives the padding id, 0, no gradient
    packed = one_row(ids)

    @jax.jit
    def total(params):
        logps = jax.nn.log_softmax(
            all_logits(each_family.network, params, *map(jnp.asarray, packed[:3]))[0, :-1]
        )
        return jnp.take_along_axis(logps, jnp.asarray(ids)[1:, None], axis=-1).sum()

    ours = jax.grad(total)(each_family.params)
    network = each_family.torch
    network.zero_grad()
    logps = torch.log_softmax(network(torch.tensor(ids[None])).logits[0, :-1], dim=-1)
    logps.gather(1, torch.tensor(ids[1:, None])).sum().backward()
    layer, theirs = ours["layers"], network.model.layers[0]
    pairs = [
        (ours["embedding"], network.model.embed_tokens.weight.grad),
        (layer["attn_norm"][0], theirs.input_layernorm.weight.grad),
        (layer["down_proj"][0].T, theirs.mlp.down_proj.weight.grad),
        (layer["o_proj"][0].reshape(-1, 48).T, theirs.self_attn.o_proj.weight.grad),
    ]
    for a, b in pairs:
        b = b.numpy()
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
    network.zero_grad()


def test_a_dimension_that_does_not_divide_is_replicated(loaded):
    mesh = sharding.make_mesh(1, 1, 8)
    shardings = loaded.shardings(mesh)
    assert shardings["layers"]["k_proj"].is_fully_replicated  # 2 kv heads on 8 devices
    assert shardings["layers"]["up_proj"].spec[2] == "tensor"  # 56 features do divide


def test_remat_and_dtype_change_no_shape_and_little_value(each_family, rng):
    loaded = each_family
    packed = one_row(rng.integers(0, loaded.cfg.vocab_size, 12), right=4)
    full = our_logits(loaded, packed)
    plain = Network(loaded.cfg, "float32", remat=False)
    np.testing.assert_allclose(our_logits(loaded, packed, plain), full, atol=1e-6)
    half = Network(loaded.cfg, "bfloat16")
    hidden = network_lib.forward(half, loaded.params, *map(jnp.asarray, packed[:3]))
    assert hidden.dtype == jnp.bfloat16
    logits = np.asarray(network_lib.unembed(half, loaded.params, hidden))
    assert np.corrcoef(logits[0, :12].ravel(), full[0, :12].ravel())[0, 1] > 0.98


def test_specs_are_the_parameters(each_family):
    cfg = each_family.cfg
    made = jax.jit(parameters.init_params, static_argnums=0)(cfg, jax.random.key(0))
    shapes = parameters.spec_map(lambda s: s.shape, parameters.param_specs(cfg))
    assert (
        jax.tree.map(lambda x: x.shape, made)
        == shapes
        == jax.tree.map(lambda x: x.shape, each_family.params)
    )
    decayed = parameters.decayed(cfg)
    assert decayed["embedding"] and decayed["layers"]["q_proj"]
    gains = [n for n in decayed["layers"] if n.endswith(("norm", "bias"))]
    assert not decayed["final_norm"] and not any(decayed["layers"][n] for n in gains)
    for name in (n for n in gains if n.endswith("norm")):  # a new model's norms only normalise
        np.testing.assert_array_equal(np.asarray(made["layers"][name]), 1 - cfg.norm_offset)
    assert {f.name for f in dataclasses.fields(parameters.ModelConfig)} == set(vars(cfg))


# Published sizes; parameters counted by `transformers` on its meta device.
_PUBLISHED = {
    "qwen3_1p7b": (
        "qwen3",
        dict(
            hidden_size=2048,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            intermediate_size=6144,
            vocab_size=151936,
            tie_word_embeddings=True,
        ),
    ),
    "qwen3_4b": (
        "qwen3",
        dict(
            hidden_size=2560,
            num_hidden_layers=36,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            intermediate_size=9728,
            vocab_size=151936,
            tie_word_embeddings=True,
        ),
    ),
    "phi35_mini": (
        "phi3",
        dict(
            hidden_size=3072,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            intermediate_size=8192,
            vocab_size=32064,
            tie_word_embeddings=False,
            rope_scaling=None,
        ),
    ),
    "gemma3_1b": (
        "gemma3_text",
        dict(
            hidden_size=1152,
            num_hidden_layers=26,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=256,
            intermediate_size=6912,
            vocab_size=262144,
            sliding_window=512,
        ),
    ),
}


@pytest.mark.parametrize("name", sorted(_PUBLISHED))
def test_parameter_counts_of_the_published_models(name):
    from transformers import AutoConfig, AutoModelForCausalLM

    from sar_jax.model import families

    family, sizes = _PUBLISHED[name]
    config = AutoConfig.for_model(family, **sizes)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    cfg = families.parse(config.to_dict() | {"model_type": family}, 5120)
    assert parameters.count_params(cfg) == sum(p.numel() for p in network.parameters())
