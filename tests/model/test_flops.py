"""Flops by hand, on models small enough to count token by token."""

import dataclasses

import numpy as np
import pytest

from sar_jax.model import flops, parameters


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
    found = flops.sequence_flops(cfg, lengths, starts=starts, head=False)
    assert found == pytest.approx(rest, rel=1e-12)


def test_the_plan_s_count_is_the_same_where_every_token_sees_as_many_keys(loaded):
    """One token after 30 that were read before it: 31 keys."""
    one = flops.sequence_flops(loaded.cfg, np.array([31]), starts=np.array([30]))
    assert flops.forward_flops(loaded.cfg, 1, 31) == one
    bare = flops.sequence_flops(loaded.cfg, np.array([31]), starts=np.array([30]), head=False)
    assert flops.forward_flops(loaded.cfg, 1, 31, head=False) == bare
