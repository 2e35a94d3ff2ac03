"""The decoder against `transformers`, for every family: logits of padded and packed rows, cached
decoding, long inputs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.logits import all_logits, one_row, our_logits
from support.models import Loaded, make_hf_folder, read_tensors
from support.oracle import Oracle, assert_as_close, assert_same

from sar_jax.model import hf, parameters
from sar_jax.model import network as network_lib
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.rl import packing


def sequences(rng, vocab_size, lengths=(5, 17, 30, 9, 21)):
    return [rng.integers(0, vocab_size, n).tolist() for n in lengths]


# 1024: attention in query blocks
@pytest.mark.parametrize(
    "width", [64, *(pytest.param(n, marks=pytest.mark.few_families) for n in (32, 1024))]
)
def test_packed_rows_equal_transformers_on_each_sequence_alone(each_family, rng, width):
    ids = sequences(rng, each_family.cfg.vocab_size)
    packed, layout = packing.pack([s[:2] for s in ids], [s[2:] for s in ids], width, 2)
    logits = our_logits(each_family, packed)
    for s, row, start, n in zip(ids, layout.row, layout.start, layout.length):
        ours = logits[row, start - 2 : start + n]
        assert_as_close(ours, *each_family.oracle.logits(s))


@pytest.mark.few_families
@pytest.mark.parametrize("left, right", [(7, 0), (0, 7), (100, 3)])
def test_padding_on_either_side_changes_nothing(each_family, rng, left, right):
    ids = rng.integers(0, each_family.cfg.vocab_size, 33)
    logits = our_logits(each_family, one_row(ids, left, right))[0, left : left + 33]
    assert_as_close(logits, *each_family.oracle.logits(ids))


def test_logits_vary_and_depend_on_the_past_only(each_family, rng):
    """Guards the comparisons: an oracle of constant logits would agree with anything."""
    ids = rng.integers(0, each_family.cfg.vocab_size, 20)
    changed = ids.copy()
    changed[10] = (ids[10] + 1) % each_family.cfg.vocab_size
    both = [one_row(row, right=44) for row in (ids, changed)]  # as wide as the packed rows above
    logits, other = our_logits(each_family, jax.tree.map(lambda *x: np.concatenate(x), *both))
    assert logits[:20].std() > 0.5
    np.testing.assert_array_equal(logits[:10], other[:10])
    assert (np.abs(logits[10:12] - other[10:12]).max(axis=-1) > 1e-4).all()


def test_long_inputs_equal_transformers(each_family, rng):
    """Beyond every window, beyond LongRoPE's original length; many query blocks."""
    ids = rng.integers(0, each_family.cfg.vocab_size, 250)
    ours = our_logits(each_family, one_row(ids))[0]
    assert_as_close(ours, *each_family.oracle.logits(ids))


@pytest.mark.parametrize("max_length, length", [(20, 20), (21, 40)])
def test_longrope_is_chosen_by_the_longest_sequence_of_the_run(
    tmp_path, mesh, rng, max_length, length
):
    """Short factors where no sequence can be longer than the original 20 positions, long ones
    otherwise: as `transformers` on a row of that length; and the same for a short row beside it."""
    folder = make_hf_folder(tmp_path / "m", family="phi3")
    loaded, oracle = Loaded(folder, mesh, max_length), Oracle(folder)
    ids = rng.integers(0, loaded.cfg.vocab_size, length)
    single, double = oracle.logits(ids)
    assert_as_close(our_logits(loaded, one_row(ids))[0], single, double)
    assert_as_close(our_logits(loaded, one_row(ids[:9]))[0], single[:9], double[:9])


def mutants(cfg):
    """The description with one thing slightly wrong, by name."""
    replace = functools.partial(dataclasses.replace, cfg)
    change = lambda kinds: replace(kinds=tuple(kinds))
    bases = [tuple(f**1.001 for f in kind.rope.frequencies) for kind in cfg.kinds]
    ropes = [kind.rope._replace(frequencies=f) for kind, f in zip(cfg.kinds, bases)]
    found = {
        "rotary base": change(kind._replace(rope=rope) for kind, rope in zip(cfg.kinds, ropes)),
        "rotary scale": change(
            kind._replace(rope=kind.rope._replace(scale=1.001 * kind.rope.scale))
            for kind in cfg.kinds
        ),
        "norm epsilon": replace(norm_eps=1.5 * cfg.norm_eps),
        "norm offset": replace(norm_offset=cfg.norm_offset + 1e-3),
        "query scale": replace(query_scale=1.001 * cfg.query_scale),
        "embedding scale": replace(embed_scale=1.001 * cfg.embed_scale),
        "activation": replace(activation="silu" if cfg.activation == "gelu" else "gelu"),
        "cap of logits": replace(final_softcap=1.001 * (cfg.final_softcap or 100)),
        "cap of scores": replace(attn_softcap=1.001 * (cfg.attn_softcap or 100)),
    }
    if any(kind.window for kind in cfg.kinds):
        found["window"] = change(
            kind._replace(window=kind.window and kind.window + 1) for kind in cfg.kinds
        )
    if len(cfg.kinds) > 1:
        rolled = cfg.layer_kinds[1:] + cfg.layer_kinds[:1]
        found["order of the kinds"] = replace(layer_kinds=rolled)
    if not cfg.tied:
        found["tied head"] = replace(tied=True)
    return found


@pytest.mark.few_families
def test_what_is_slightly_wrong_is_not_close(each_family, rng):
    """Of the comparison that the tests above are: it holds, and with any of the mutants it does
    not."""
    ids = rng.integers(0, each_family.cfg.vocab_size, 60)
    oracle = each_family.oracle.logits(ids)
    assert_as_close(our_logits(each_family, one_row(ids))[0], *oracle)
    for name, cfg in mutants(each_family.cfg).items():
        wrong = our_logits(each_family, one_row(ids), Network(cfg))[0]
        with pytest.raises(AssertionError, match="off by"):
            assert_as_close(wrong, *oracle)
            pytest.fail(f"a wrong {name} is close")


@pytest.mark.parametrize(
    "narrow_first", [True, pytest.param(False, marks=pytest.mark.few_families)]
)
def test_gradients_equal_transformers(each_family, rng, tmp_path, narrow_first):
    """Of the summed logprobs of a sequence, in every parameter; by the names that an export gives
    them."""
    network = dataclasses.replace(each_family.network, narrow_first=narrow_first)
    # torch gives the padding id, 0, no gradient
    ids = rng.integers(1, each_family.cfg.vocab_size, 30)
    packed = one_row(ids)

    def total(params):
        logps = jax.nn.log_softmax(
            all_logits(network, params, *map(jnp.asarray, packed[:3]))[0, :-1]
        )
        return jnp.take_along_axis(logps, jnp.asarray(ids)[1:, None], axis=-1).sum()

    def theirs(network):
        logps = torch.log_softmax(network(torch.tensor(ids[None])).logits[0, :-1], dim=-1)
        return logps.gather(1, torch.tensor(ids[1:, None])).sum()

    single, double = each_family.oracle.gradients(theirs)
    hf.save_weights(jax.jit(jax.grad(total))(each_family.params), each_family.cfg, tmp_path)
    ours = read_tensors(tmp_path)
    assert ours.keys() == single.keys()
    for name, gradient in ours.items():
        if np.abs(double[name]).max() < 1e-12:  # of a bias that moves all scores alike
            assert name.endswith("k_proj.bias") and np.abs(gradient).max() < 1e-5
        else:
            assert_as_close(gradient, single[name], double[name])


def test_a_dimension_that_does_not_divide_is_replicated(loaded):
    mesh = sharding.make_mesh(1, 1, 8)
    shardings = loaded.shardings(mesh)
    assert shardings["layers"]["k_proj"].is_fully_replicated  # 2 kv heads on 8 devices
    assert shardings["layers"]["up_proj"].spec[2] == "tensor"  # 56 features do divide


@pytest.mark.few_families
def test_remat_and_dtype_change_no_shape_and_little_value(each_family, rng):
    loaded = each_family
    packed = one_row(rng.integers(0, loaded.cfg.vocab_size, 12), right=4)
    full = our_logits(loaded, packed)
    plain = Network(loaded.cfg, "float32", remat="none")
    assert_same(our_logits(loaded, packed, plain), full)
    half = Network(loaded.cfg, "bfloat16")
    hidden = jax.eval_shape(
        functools.partial(network_lib.forward, half), loaded.params, *packed[:3]
    )
    assert hidden.dtype == jnp.bfloat16
    logits = our_logits(loaded, packed, half)
    assert np.corrcoef(logits[0, :12].ravel(), full[0, :12].ravel())[0, 1] > 0.98


def test_specs_are_the_parameters(each_family):
    cfg = each_family.cfg
    new = functools.partial(parameters.init_params, cfg, jax.random.key(0))
    made = jax.eval_shape(new)
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
    norms = [n for n in gains if n.endswith("norm")]
    # a new model's norms only normalise; what is drawn is not compiled
    for value in jax.jit(lambda: [new()["layers"][name] for name in norms])():
        np.testing.assert_array_equal(value, 1 - cfg.norm_offset)
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
