"""How long a training step takes at the limits of a chip: flops counted by hand, bytes, and what
the compiler sends.

    a call   = max(flops / peak, HBM bytes / bandwidth, bytes sent / interconnect)     seconds; perfect overlap
    a step   = sum over programs of calls * seconds

Estimates, and optimistic ones: no chip reaches its peak. Left out: the host's work, verification,
checkpoints, activations' traffic to HBM. Letters as in `structs`; L layers, N heads, H head dim.
"""

import math
from typing import Any, NamedTuple

from sar_jax import config as config_lib
from sar_jax.model import flops
from sar_jax.model.parameters import ModelConfig, count_params
from sar_jax.parallel.chips import Chip

_FILLED = 0.95  # of a packed row, as measured by the metric packing/filled on long rows
_OCCUPIED = 0.9  # of the slots, by the metric rollout/occupancy
_STANDALONE = 40  # tokens of the context without its question


class Call(NamedTuple):
    """One run of a program on one device: flops, bytes from and to HBM; and how often a step runs
    it."""

    flops: float
    hbm: float
    calls: float


def step_calls(
    config: config_lib.TrainConfig,
    cfg: ModelConfig,
    devices: int,
    resident: Any,
    prompt_tokens: float,
    answer_tokens: float,
    reads: int,
) -> dict[str, Call]:
    """What every program costs a device in one training step.

    resident: `programs.Residents`; prompt_tokens, answer_tokens: means; reads: tokens of a call of
    prefill, all rows."""
    rollout, packing = config.rollout, config.packing
    answers, T = rollout.questions * rollout.samples, packing.row_tokens
    rows = lambda count, context: count * (context + answer_tokens) / (T * _FILLED)
    micro = lambda count: math.ceil(count / packing.rows_per_microbatch)
    updates = rollout.questions // config.loss.minibatch_questions
    with_question = updates * micro(rows(answers / updates, prompt_tokens))
    alone = micro(rows(answers, _STANDALONE)) if config.rewards.self_aligned else 0
    batch_tokens = packing.rows_per_microbatch * T / devices
    forward = flops.forward_flops(
        cfg, batch_tokens, T / 2
    )  # the kernel skips what is above the diagonal of a row
    whole = count_params(cfg) * (2 if config.model.dtype == "bfloat16" else 4)
    recomputed = 4 if config.model.remat else 3
    # Decoding: every token reads the weights and the live columns of its device's slots. Were
    # lengths exponential, a slot looked at at any time would be as far into its answer as answers
    # are long on average.
    columns = prompt_tokens + answer_tokens
    token = flops.forward_flops(cfg, rollout.slots, columns)
    steps = answers * answer_tokens / (rollout.slots * _OCCUPIED)
    prompt = flops.forward_flops(cfg, reads, prompt_tokens / 2)
    spared = 1 if config.lora.rank else 0  # frozen weights need no gradient of their own
    learning = lambda flops: Call(
        (recomputed - spared) * flops, recomputed * whole + 2 * resident.gradients, with_question
    )
    applying = Call(0, 2 * (resident.masters + resident.moments) + resident.gradients, updates)
    critic = {}
    if config.advantage.estimator == "critic":  # the same decoder without logits
        bare = forward - 2 * batch_tokens * flops.matmul_params(cfg)[1]
        critic = {
            "value": Call(bare, whole, with_question),
            "value_gradient": learning(bare),
            "value_apply": applying,
        }
    fold = {"fold": Call(0, resident.masters + 2 * resident.base, 1)} if config.lora.rank else {}
    return {
        **fold,
        "hand_over": Call(0, resident.masters + 2 * resident.decoding_weights, 1),
        "prefill": Call(
            prompt / devices,
            resident.decoding_weights,
            math.ceil(rollout.questions * prompt_tokens / (reads * _FILLED)),
        ),
        "decode": Call(
            token / devices,
            resident.decoding_weights + live_bytes(config, cfg, columns) / devices,
            steps,
        ),
        "cast": Call(0, resident.masters + resident.weights, 1),
        "score": Call(
            forward, whole, with_question * (2 if config_lib.needs_reference(config) else 1) + alone
        ),
        "gradient": learning(forward),
        "apply": applying,
        **critic,
    }


def live_bytes(config: config_lib.TrainConfig, cfg: ModelConfig, columns: float) -> float:
    """Keys and values that all slots hold, over all devices, with `columns` each; windows keep
    fewer."""
    dtype = config.rollout.cache_dtype or config.model.dtype
    size = {"float32": 4, "bfloat16": 2, "int8": 1 + 4 / cfg.head_dim}[
        dtype
    ]  # eight bits: and a scale for each head
    held = sum(min(columns, cfg.kinds[kind].window or columns) for kind in cfg.layer_kinds)
    return 2 * cfg.num_kv_heads * cfg.head_dim * size * held * config.rollout.slots


def seconds(call: Call, sent: float, chip: Chip) -> dict[str, float]:
    """The three limits of one call; the largest one is how long it takes at least. sent: bytes to
    other devices."""
    return {
        "compute": call.flops / chip.flops,
        "memory": call.hbm / chip.bandwidth,
        "network": sent / chip.interconnect,
    }
