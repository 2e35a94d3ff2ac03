"""What mfu counts, by hand: every pass over every sequence of a step, token by token."""

import numpy as np
import pytest

from sar_jax.model import parameters
from sar_jax.training import passes
from sar_jax.training.rollouts import Lengths

SAMPLED = Lengths(np.array([5, 3]), np.array([2, 4, 6, 1]))  # two answers to each question
TRAINED = Lengths(np.array([3]), np.array([6, 1]))  # a group was left out
BARE = passes.Passes(samples=2, scores=1, standalone=None, learns=False, frozen=False, critic=False)


def layers(cfg, begin: int, end: int) -> float:
    """The tokens begin ... end - 1 of a sequence through all layers and the norm after them."""
    specs = parameters.param_specs(cfg)
    matrices = sum(np.prod(spec.shape) for spec in specs["layers"].values()) + cfg.embed_dim
    keys = [
        min(i + 1, cfg.kinds[k].window or i + 1) for i in range(begin, end) for k in cfg.layer_kinds
    ]
    return 2 * (end - begin) * matrices + 4 * cfg.num_heads * cfg.head_dim * sum(keys)


def logits(cfg, tokens: int) -> float:
    return 2 * tokens * cfg.vocab_size * cfg.embed_dim


def test_every_pass_is_counted_once(each_family):
    cfg = each_family.cfg
    count = lambda **changes: passes.model_flops(cfg, BARE._replace(**changes), SAMPLED, TRAINED)
    close = lambda found, expected: found == pytest.approx(expected, rel=1e-12)
    decoded = layers(cfg, 0, 5) + layers(cfg, 0, 3) + logits(cfg, 2 + 4 + 6 + 1)
    decoded += layers(cfg, 5, 7) + layers(cfg, 5, 9) + layers(cfg, 3, 9) + layers(cfg, 3, 4)
    bare = layers(cfg, 0, 9) + layers(cfg, 0, 4)
    whole = bare + logits(cfg, 6 + 1)
    first = decoded + whole  # sampled, and scored by the policy
    assert close(count(), first)
    assert close(count(scores=2), first + whole)
    alone = layers(cfg, 0, 10 + 6) + layers(cfg, 0, 10 + 1) + logits(cfg, 7)
    assert close(count(standalone=10), first + alone)
    assert close(count(learns=True), first + 3 * whole)
    assert close(count(learns=True, frozen=True), first + 2 * whole)
    # values to learn from, and an update of three passes
    assert close(count(critic=True), first + 4 * bare)
