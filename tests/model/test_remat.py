"""What the backward pass keeps: it changes no gradient, what is computed again is what is said, and
memory is what is said."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from support.oracle import assert_same

from sar_jax.model import families, flops, known, parameters, remat
from sar_jax.model.network import Network
from sar_jax.rl import packing
from sar_jax.training import score


def described(cfg):
    return parameters.spec_map(
        lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), parameters.param_specs(cfg)
    )


def compiled_gradient(cfg, policy, rows, width, chunk=64, keep=False):
    """Of the summed logps, with respect to every parameter."""
    network = Network(cfg, remat=policy, narrow_first=True, keep_logits=keep)
    grid = lambda dtype: jax.ShapeDtypeStruct((rows, width), dtype)
    packed = packing.Packed(*map(grid, (jnp.int32, jnp.int32, jnp.int32, jnp.bool_)))
    total = lambda params, packed: score.score_rows(network, params, packed, chunk).logps.sum()
    return jax.jit(jax.grad(total)).lower(described(cfg), packed).compile()


@pytest.mark.few_families
def test_what_is_kept_changes_no_gradient(each_family, rng):
    ids = [rng.integers(0, each_family.cfg.vocab_size, n).tolist() for n in (20, 33, 9)]
    packed, _ = packing.pack([s[:3] for s in ids], [s[3:] for s in ids], 64, 2)
    packed = jax.tree.map(jnp.asarray, packed)

    def gradients(policy):
        network = dataclasses.replace(each_family.network, remat=policy)
        total = lambda params: jnp.sin(score.score_rows(network, params, packed, 32).logps).sum()
        return jax.device_get(jax.jit(jax.grad(total))(each_family.params))

    expected = gradients("block")
    for policy in sorted(set(remat.POLICIES) - {"block"}):
        jax.tree.map(assert_same, gradients(policy), expected)


@pytest.mark.parametrize("policy", remat.POLICIES)
@pytest.mark.parametrize("family", ["Qwen/Qwen3-1.7B-Base", "google/gemma-3-1b-it"])
def test_flops_of_a_gradient_are_those_that_xla_counts(family, policy):
    """Of one layer, whose scan runs once; what is elementwise is small at such widths. Gemma's
    norms after its products need these again."""
    _compare_with_xla(family, policy, 512, False)


@pytest.mark.parametrize("keep", [True, False])
def test_flops_of_a_large_vocabulary_are_those_that_xla_counts(keep):
    _compare_with_xla("Qwen/Qwen3-1.7B-Base", "dots", 16384, keep)


def _compare_with_xla(family, policy, entries, keep):
    raw = known.CONFIGS[family] | {"num_hidden_layers": 1, "vocab_size": entries}
    raw = raw | {"layer_types": ["full_attention"]} if "layer_types" in raw else raw
    cfg = families.parse(raw, 512)
    compiled = compiled_gradient(cfg, policy, 1, 256, chunk=entries, keep=keep)
    counted = compiled.cost_analysis()["flops"]
    blocks = 1.25  # attention in four blocks of queries over the keys up to their end
    by_hand = flops.gradient_flops(cfg, 256, 128 * blocks, policy, "xla", kept=keep)
    assert by_hand == pytest.approx(counted, rel=0.03)


def test_memory_is_what_is_kept():
    """Differences between policies in many layers, which hold most of what is live."""
    raw = known.CONFIGS["Qwen/Qwen3-1.7B-Base"] | {
        "num_hidden_layers": 24,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 128,
    }
    cfg, rows, width = families.parse(raw, 512), 4, 256
    taken = {
        policy: compiled_gradient(cfg, policy, rows, width).memory_analysis().temp_size_in_bytes
        for policy in ("none", "dots", "dots_but_up", "block")
    }
    assert taken["none"] > taken["dots"] > taken["dots_but_up"] > taken["block"]
    by_hand = lambda policy: remat.kept(cfg, policy) * 24 * rows * width * 4
    for policy in ("dots", "dots_but_up"):
        more = taken[policy] - taken["block"]
        assert more == pytest.approx(by_hand(policy) - by_hand("block"), rel=0.1)


def test_what_none_keeps_is_not_known_beforehand():
    cfg = families.parse(known.CONFIGS["Qwen/Qwen3-1.7B-Base"], 512)
    with pytest.raises(ValueError, match="none"):
        remat.kept(cfg, "none")
    assert remat.kept(cfg, "offload") == 0 and remat.kept(cfg, "block") == cfg.embed_dim


def test_adapters_spare_the_gradients_of_frozen_matrices():
    cfg = families.parse(known.CONFIGS["Qwen/Qwen3-1.7B-Base"], 512)
    whole, frozen = (
        flops.gradient_flops(cfg, 10, 100, "none", "splash", frozen=f) for f in (False, True)
    )
    assert whole - frozen == flops.forward_flops(cfg, 10, 100)
