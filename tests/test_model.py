"""The decoder against `transformers`: logits of padded and packed rows, cached decoding, odd configurations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import Loaded, make_hf_folder

from sar_jax import model, packing, sharding


def torch_logits(network, ids) -> np.ndarray:
    with torch.no_grad():
        return network(torch.tensor(np.asarray(ids)[None])).logits[0].numpy()


def our_logits(loaded, packed) -> np.ndarray:
    hidden = model.forward(loaded.graphdef, loaded.params, *map(jnp.asarray, packed[:3]))
    return np.asarray(model.unembed(loaded.params, hidden))


def sequences(rng, vocab_size, lengths=(5, 17, 30, 9, 21)):
    return [rng.integers(0, vocab_size, n).tolist() for n in lengths]


@pytest.mark.parametrize("width", [32, 64, 1024])   # 1024: attention in query blocks
def test_packed_rows_equal_transformers_on_each_sequence_alone(loaded, torch_model, rng, width):
    ids = sequences(rng, loaded.cfg.vocab_size)
    packed, layout = packing.pack([s[:2] for s in ids], [s[2:] for s in ids], width, 2)
    logits = our_logits(loaded, packed)
    for s, row, start, n in zip(ids, layout.row, layout.start, layout.length):
        ours = logits[row, start - 2:start + n]
        np.testing.assert_allclose(ours, torch_logits(torch_model, s), atol=1e-5)


def test_logits_vary_and_depend_on_the_past_only(loaded, rng):
    """Guards the comparison above: an oracle of constant logits would agree with anything."""
    ids = rng.integers(0, loaded.cfg.vocab_size, 20)
    packed, _ = packing.pack([ids[:2].tolist()], [ids[2:].tolist()], 20, 1)
    logits = our_logits(loaded, packed)
    assert logits.std() > 0.5
    changed = packed._replace(tokens=packed.tokens.copy())
    changed.tokens[0, 10] = (changed.tokens[0, 10] + 1) % loaded.cfg.vocab_size
    other = our_logits(loaded, changed)
    np.testing.assert_array_equal(logits[0, :10], other[0, :10])
    assert (np.abs(logits[0, 10:] - other[0, 10:]).max(axis=-1) > 1e-4).all()


@pytest.mark.parametrize("overrides", [
    {"tie_word_embeddings": False},
    {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 6, "num_hidden_layers": 1},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}, "rms_norm_eps": 0.1, "hidden_size": 36},
    {"num_key_value_heads": 1, "intermediate_size": 7},
])
def test_odd_configurations_equal_transformers(tmp_path, mesh, rng, overrides):
    from transformers import AutoModelForCausalLM
    loaded = Loaded(make_hf_folder(tmp_path / "m", seed=1, **overrides), mesh)
    network = AutoModelForCausalLM.from_pretrained(loaded.folder).eval()
    ids = rng.integers(0, loaded.cfg.vocab_size, 40).tolist()
    packed, _ = packing.pack([ids[:3]], [ids[3:]], 40, 1)
    np.testing.assert_allclose(our_logits(loaded, packed)[0], torch_logits(network, ids), atol=1e-5)


def test_cached_decoding_equals_the_full_forward(loaded, torch_model, rng):
    """Questions of different lengths, two answers each: every decoded token's logits equal transformers'."""
    questions = sequences(rng, loaded.cfg.vocab_size, (4, 9, 7))
    answers = rng.integers(0, loaded.cfg.vocab_size, (3, 2, 6))
    tokens, lengths = np.zeros((3, 12), np.int32), np.array([4, 9, 7])
    for i, q in enumerate(questions):
        tokens[i, :len(q)] = q
    hidden, cache = model.prefill(loaded.graphdef, loaded.params, jnp.asarray(tokens), jnp.asarray(lengths), 2, 8)
    decoded = [jnp.broadcast_to(hidden[:, None], (3, 2, hidden.shape[-1]))]
    for t in range(6):
        hidden, cache = model.decode(loaded.graphdef, loaded.params, jnp.asarray(answers[:, :, t]), jnp.int32(t), cache)
        decoded.append(hidden)
    logits = np.asarray(model.unembed(loaded.params, jnp.stack(decoded, axis=2)))
    for i, q in enumerate(questions):
        for m in range(2):
            expected = torch_logits(torch_model, [*q, *answers[i, m]])[len(q) - 1:]
            np.testing.assert_allclose(logits[i, m], expected, atol=1e-5)


def test_sharded_over_eight_devices_equals_one(loaded, rng):
    ids = sequences(rng, loaded.cfg.vocab_size, (12,) * 8)
    packed, _ = packing.pack([s[:2] for s in ids], [s[2:] for s in ids], 16, 8)
    one = our_logits(loaded, packed)
    mesh = sharding.make_mesh(2, 2, 2)
    params = jax.device_put(loaded.params, sharding.param_shardings(model.param_specs(loaded.cfg), mesh))
    assert not params["layers"]["q_proj"].sharding.is_fully_replicated
    with jax.set_mesh(mesh):
        run = jax.jit(lambda p, *x: model.unembed(p, model.forward(loaded.graphdef, p, *x)))
        eight = run(params, *sharding.place(packed[:3], sharding.rows(mesh)))
    np.testing.assert_allclose(np.asarray(eight), one, atol=2e-5)


def test_a_dimension_that_does_not_divide_is_replicated(loaded):
    mesh = sharding.make_mesh(1, 1, 8)
    shardings = sharding.param_shardings(model.param_specs(loaded.cfg), mesh)
    assert shardings["layers"]["k_proj"].is_fully_replicated                    # 2 kv heads on 8 devices
    assert shardings["layers"]["up_proj"].spec[2] == "tensor"   # 56 features do divide


def test_remat_and_dtype_change_no_shape_and_little_value(loaded, rng):
    ids = sequences(rng, loaded.cfg.vocab_size, (12,))
    packed, _ = packing.pack([ids[0][:2]], [ids[0][2:]], 16, 1)
    full = our_logits(loaded, packed)
    plain = model.build(loaded.cfg, "float32", remat=False)
    hidden = model.forward(plain, loaded.params, *map(jnp.asarray, packed[:3]))
    np.testing.assert_allclose(np.asarray(model.unembed(loaded.params, hidden)), full, atol=1e-6)
    half = model.build(loaded.cfg, "bfloat16")
    hidden = model.forward(half, loaded.params, *map(jnp.asarray, packed[:3]))
    assert hidden.dtype == jnp.bfloat16
    assert np.corrcoef(np.asarray(model.unembed(loaded.params, hidden))[0, :12].ravel(), full[0, :12].ravel())[0, 1] > 0.99


def test_specs_are_the_parameters(loaded):
    made = model.init_params(loaded.cfg, jax.random.key(0))
    shapes = model.spec_map(lambda s: s.shape, model.param_specs(loaded.cfg))
    assert jax.tree.map(lambda x: x.shape, made) == shapes == jax.tree.map(lambda x: x.shape, loaded.params)
    decayed = model.decayed(loaded.cfg)
    assert decayed["embedding"] and decayed["layers"]["q_proj"]
    assert not decayed["final_norm"] and not decayed["layers"]["q_norm"]
    assert {f.name for f in dataclasses.fields(model.ModelConfig)} == set(vars(loaded.cfg))
