"""Flops by hand, on models small enough to count token by token."""

import dataclasses

import numpy as np
import pytest

from sar_jax.model import families, flops, known, parameters


def by_hand(cfg, length: int, start: int = 0, head: bool = True) -> float:
    """Token by token: twice each parameter that multiplies it, and 4 H N for each key it sees."""
    specs = parameters.param_specs(cfg)
    size = lambda spec: float(np.prod(spec.shape))
    weights = sum(map(size, specs["layers"].values())) + size(specs["final_norm"])
    weights += head * cfg.vocab_size * cfg.embed_dim
    total = 0.0
    for position in range(start, length):
        total += 2 * weights
        for kind in cfg.layer_kinds:
            window = cfg.kinds[kind].window or length
            total += 4 * cfg.num_heads * cfg.head_dim * min(position + 1, window)
    return total


@pytest.mark.parametrize("tied", [True, False])
def test_sequences_are_counted_token_by_token(each_family, tied):
    """Of all families: windows, and heads of their own that are counted once."""
    cfg = dataclasses.replace(each_family.cfg, tied=tied)
    lengths, starts = np.array([1, 5, 23, 40]), np.array([0, 4, 20, 1])
    whole = sum(by_hand(cfg, n) for n in lengths)
    assert flops.sequence_flops(cfg, lengths) == pytest.approx(whole, rel=1e-12)
    rest = sum(by_hand(cfg, n, s, head=False) for n, s in zip(lengths, starts))
    for answers in (0, 17):  # the tokens that have logits
        found = flops.sequence_flops(cfg, lengths, starts=starts, logits=answers)
        logits = answers * 2 * cfg.vocab_size * cfg.embed_dim
        assert found == pytest.approx(rest + logits, rel=1e-12)


def test_the_plan_s_count_is_the_same_where_every_token_sees_as_many_keys(loaded):
    """One token after 30 that were read before it: 31 keys."""
    one = flops.sequence_flops(loaded.cfg, np.array([31]), starts=np.array([30]))
    assert flops.forward_flops(loaded.cfg, 1, 31) == one
    bare = flops.sequence_flops(loaded.cfg, np.array([31]), starts=np.array([30]), logits=0)
    assert flops.forward_flops(loaded.cfg, 1, 31, logits=0) == bare
    half = flops.forward_flops(loaded.cfg, 1, 31, logits=0.5)
    assert half == pytest.approx((one + bare) / 2, rel=1e-12)


# Published sizes: layers, width, heads, heads of keys, head, feed-forward, vocabulary, window and
# how many of the layers see everything.
PUBLISHED = {
    "qwen3": (36, 2560, 32, 8, 128, 9728, 151936, None, 36),  # Qwen3-4B
    "phi3": (32, 3072, 32, 32, 96, 8192, 32064, None, 32),  # Phi-3.5-mini
    "gemma3_text": (26, 1152, 4, 1, 256, 6912, 262144, 512, 4),  # Gemma-3-1B
    "llama": (16, 2048, 32, 8, 64, 8192, 128256, None, 16),  # Llama-3.2-1B
}


def published(name):
    L, D, N, K, H, F, V, window, everything = PUBLISHED[name]
    sizes = dict(
        num_hidden_layers=L,
        hidden_size=D,
        num_attention_heads=N,
        num_key_value_heads=K,
        head_dim=H,
        intermediate_size=F,
        vocab_size=V,
        max_position_embeddings=131072,
    )
    if name != "gemma3_text":
        return families.parse({**families_json(name), **sizes}, 4096)
    return families.parse(known.CONFIGS["google/gemma-3-1b-it"] | sizes, 4096)


def families_json(name):
    base = {"qwen3": "Qwen/Qwen3-4B-Base", "phi3": "microsoft/Phi-3.5-mini-instruct"}
    if name in base:
        return known.CONFIGS[base[name]]
    return {"model_type": "llama", "rope_theta": 5e5, "tie_word_embeddings": True,
            "hidden_act": "silu", "rms_norm_eps": 1e-5}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("keys", [100, 2000])
def test_published_models_are_counted_by_their_sizes(name, keys):
    """Without norms, which are thousandths: queries, keys, values and output; three matrices of the
    feed-forward; the head; 4 H N a key. Backward is twice that, and the block policy computes all
    but the last matrix again."""
    L, D, N, K, H, F, V, window, everything = PUBLISHED[name]
    cfg, tokens = published(name), 64
    seen = everything * keys + (L - everything) * min(keys, window or keys)
    attention, products, head = (
        4 * H * N * seen,
        2 * L * (2 * D * H * (N + K) + 3 * D * F),
        2 * D * V,
    )
    forward = tokens * (products + attention + head)
    assert flops.forward_flops(cfg, tokens, keys) == pytest.approx(forward, rel=1e-3)
    again = tokens * head  # with every policy
    found = flops.gradient_flops(cfg, tokens, keys, "none", "xla")
    assert found == pytest.approx(3 * forward + again, rel=1e-3)
    last = 0 if name == "gemma3_text" else 2 * L * D * F  # a norm needs it there
    again += tokens * (products - last + attention)
    found = flops.gradient_flops(cfg, tokens, keys, "block", "xla")
    assert found == pytest.approx(3 * forward + again, rel=1e-3)
