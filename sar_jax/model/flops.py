"""Floating-point operations of a model, counted by hand."""

from sar_jax.model.parameters import ModelConfig, count_params


def matmul_params(cfg: ModelConfig) -> tuple[int, int]:
    """Parameters that multiply every token: of all layers, and of the head."""
    head = cfg.vocab_size * cfg.embed_dim
    return count_params(cfg) - head * (1 if cfg.tied else 2), head


def attention_flops(cfg: ModelConfig, keys: float) -> float:
    """Of one token's scores and weighted values over `keys` keys before it, in all layers; windows
    see fewer."""
    seen = sum(min(keys, cfg.kinds[kind].window or keys) for kind in cfg.layer_kinds)
    return 4 * cfg.num_heads * cfg.head_dim * seen


def forward_flops(cfg: ModelConfig, tokens: float, keys: float) -> float:
    """Of `tokens` tokens with their logits, each attending over `keys` others on average: 2 flops a
    parameter and token."""
    layers, head = matmul_params(cfg)
    return tokens * (2 * (layers + head) + attention_flops(cfg, keys))
