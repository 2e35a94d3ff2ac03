"""Floating-point operations of a decoder, counted by hand: the one count, for `plan` and for mfu.

A product of a token with a matrix is 2 flops a parameter. A token that attends over k keys takes
2 k H for its scores and 2 k H for the weighted values, in each of N heads. Norms, rotary embedding,
softmax and lookups are left out. Letters: N heads, H head dim.
"""

import math

import numpy as np
from jaxtyping import Int

from sar_jax.model import remat
from sar_jax.model.parameters import ModelConfig, count_params, param_specs


def layer_params(cfg: ModelConfig) -> int:
    """Parameters of all layers: those that multiply every token (norms, a few, among them)."""
    return count_params(cfg) - head_params(cfg) * (1 if cfg.tied else 2)


def head_params(cfg: ModelConfig) -> int:
    """Parameters of the head, be it the embedding table or its own."""
    return cfg.vocab_size * cfg.embed_dim


def attention_flops(cfg: ModelConfig, keys: float) -> float:
    """Of one token's attention over `keys` keys, in all layers; layers with a window see fewer."""
    seen = sum(min(keys, cfg.kinds[kind].window or keys) for kind in cfg.layer_kinds)
    return 4 * cfg.num_heads * cfg.head_dim * seen


def forward_flops(
    cfg: ModelConfig, tokens: float, keys: float, logits: float | None = None
) -> float:
    """Of `tokens` tokens, each attending over `keys` keys on average.

    logits   tokens whose logits are computed; None: all
    """
    logits = tokens if logits is None else logits
    layers = tokens * (2 * layer_params(cfg) + attention_flops(cfg, keys))
    return layers + 2 * logits * head_params(cfg)


def gradient_flops(
    cfg: ModelConfig,
    tokens: float,
    keys: float,
    policy: str,
    kernel: str,
    logits: float | None = None,
    frozen: bool = False,
    kept: bool = False,
) -> float:
    """Of the gradient: forward, what is computed again, and twice the forward pass backward.

    policy   of `remat.POLICIES`
    kernel   of attention
    logits   tokens whose logits are computed; None: all
    frozen   the matrices need no gradient of their own (adapters)
    kept     logits are not computed again
    """
    logits = tokens if logits is None else logits
    forward = forward_flops(cfg, tokens, keys, logits)
    found = (2 if frozen else 3) * forward
    found += 0 if kept else 2 * logits * head_params(cfg)
    specs = param_specs(cfg)["layers"]
    for name in remat.recomputed(cfg, policy, kernel):
        if name == remat.ATTENTION:
            found += tokens * attention_flops(cfg, keys)
        else:
            found += 2 * tokens * math.prod(specs[f"{name}_proj"].shape)
    return found


def sequence_flops(
    cfg: ModelConfig,
    lengths: Int[np.ndarray, " B"],
    starts: Int[np.ndarray, " B"] | int = 0,
    logits: float | None = None,
) -> float:
    """Of the forward pass over sequences, each token attending to itself and those before it.

    lengths   tokens of each sequence
    starts    tokens at its beginning that were read before: they are attended to, and not counted
    logits    tokens whose logits are computed, of all sequences; None: all that are counted
    """
    pairs = 0.0
    for kind in cfg.layer_kinds:
        window = cfg.kinds[kind].window
        pairs += float((_pairs(lengths, window) - _pairs(starts, window)).sum())
    tokens = float((lengths - starts).sum())
    products = tokens * layer_params(cfg)
    products += (tokens if logits is None else logits) * head_params(cfg)
    return 2 * products + 4 * cfg.num_heads * cfg.head_dim * pairs


def _pairs(length: Int[np.ndarray, " B"] | int, window: int | None) -> np.ndarray | float:
    """Tokens and the keys that they see, in a sequence: 1 + 2 + ... + n, or w each from w on."""
    n = np.asarray(length, np.float64)
    rising = n if window is None else np.minimum(n, window)
    return rising * (rising + 1) / 2 + (n - rising) * (window or 0)
