"""How long a training step takes at the limits of a chip.

    a call   = max(flops / peak, HBM bytes / bandwidth, bytes sent / interconnect)   perfect overlap
    a step   = sum over programs of calls * seconds

Flops are counted by hand; what is sent is the compiler's. These are estimates, and optimistic ones:
no chip reaches its peak. Left out: the host's work, verification, checkpoints, activations' traffic
to HBM. Letters as in `structs`; L layers, N heads, H head dim.
"""

import functools
import math
from typing import NamedTuple

from sar_jax import config as config_lib
from sar_jax.model import flops
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig, count_params
from sar_jax.parallel.chips import Chip
from sar_jax.planning.programs import Residents
from sar_jax.training import derived

_FILLED = 0.95  # of a packed row, as measured by the metric packing/filled on long rows
_OCCUPIED = 0.9  # of the slots, by the metric rollout/occupancy
_STANDALONE = 40  # tokens of the context without its question


class Call(NamedTuple):
    """One run of a program on one device.

    flops   floating-point operations
    hbm     bytes from and to HBM
    calls   how often a step runs it
    """

    flops: float
    hbm: float
    calls: float


class Limits(NamedTuple):
    """Seconds that a call takes at each limit; the largest is how long it takes at least."""

    compute: float
    memory: float
    network: float


class Work(NamedTuple):
    """What a step has to do, on average.

    prompt_tokens, answer_tokens   means of a question's and of an answer's length
    reads                          tokens of a call of prefill, all rows
    devices                        of the slice
    """

    prompt_tokens: float
    answer_tokens: float
    reads: int
    devices: int


class _Microbatches(NamedTuple):
    """Of a step: those with the question, in all updates; and those of standalone rows."""

    with_question: int
    alone: int


def step_calls(
    config: config_lib.TrainConfig, network: Network, resident: Residents, work: Work
) -> dict[str, Call]:
    """What every program costs a device in one training step.

    network   of the model without adapters
    """
    micro = _microbatches(config, work)
    return {
        **_weights_calls(config, resident),
        **_decoder_calls(config, network.cfg, resident, work),
        **_learner_calls(config, network, resident, work, micro),
    }


def _microbatches(config: config_lib.TrainConfig, work: Work) -> _Microbatches:
    answers = config.rollout.questions * config.rollout.samples
    filled = config.packing.row_tokens * _FILLED
    rows = lambda count, context: count * (context + work.answer_tokens) / filled
    micro = lambda count: math.ceil(count / config.packing.rows_per_microbatch)
    updates = derived.updates_per_step(config)
    with_question = updates * micro(rows(answers / updates, work.prompt_tokens))
    alone = micro(rows(answers, _STANDALONE)) if derived.needs_standalone(config) else 0
    return _Microbatches(with_question, alone)


def _weights_calls(config: config_lib.TrainConfig, resident: Residents) -> dict[str, Call]:
    """Copies: of the weights for score, and for the decoder."""
    r = resident
    found = {}
    if config.lora.rank:
        found["fold"] = Call(0, r.masters + 2 * r.base, 1)
    found["hand_over"] = Call(0, r.masters + 2 * r.decoding_weights, 1)
    found["cast"] = Call(0, r.masters + r.weights, 1)
    return found


def _decoder_calls(
    config: config_lib.TrainConfig, cfg: ModelConfig, resident: Residents, work: Work
) -> dict[str, Call]:
    """Every token reads the weights and the live columns of its device's slots.

    If lengths were exponential, a slot at any time would be as far into its answer as answers are
    long on average.
    """
    rollout = config.rollout
    answers = rollout.questions * rollout.samples
    columns = work.prompt_tokens + work.answer_tokens
    token = flops.forward_flops(cfg, rollout.slots, columns)
    # the keys and values of questions need no logits
    prompt = flops.forward_flops(cfg, work.reads, work.prompt_tokens / 2, head=False)
    live = live_bytes(config, cfg, columns) / work.devices
    steps = answers * work.answer_tokens / (rollout.slots * _OCCUPIED)
    reads = math.ceil(rollout.questions * work.prompt_tokens / (work.reads * _FILLED))
    weights = resident.decoding_weights
    return {
        "prefill": Call(prompt / work.devices, weights, reads),
        "decode": Call(token / work.devices, weights + live, steps),
    }


def _learner_calls(
    config: config_lib.TrainConfig,
    network: Network,
    resident: Residents,
    work: Work,
    micro: _Microbatches,
) -> dict[str, Call]:
    cfg = network.cfg
    r, T = resident, config.packing.row_tokens
    tokens = config.packing.rows_per_microbatch * T / work.devices
    keys = T / 2  # the kernel skips what is above the diagonal of a row
    forward = flops.forward_flops(cfg, tokens, keys)
    whole = count_params(cfg) * (2 if config.model.dtype == "bfloat16" else 4)
    # forward, backward, and where layers are computed again
    reads = 3 if config.model.remat == "none" else 4
    gradient_flops = functools.partial(
        flops.gradient_flops,
        cfg,
        tokens,
        keys,
        config.model.remat,
        network.kernel,
        frozen=config.lora.rank > 0,
    )

    def learning(head: bool) -> Call:
        bytes_moved = reads * whole + 2 * r.gradients
        return Call(gradient_flops(head=head), bytes_moved, micro.with_question)

    updates = derived.updates_per_step(config)
    applying = Call(0, 2 * (r.masters + r.moments) + r.gradients, updates)
    compared = 2 if derived.needs_reference(config) else 1
    found = {
        "score": Call(forward, whole, micro.with_question * compared + micro.alone),
        "gradient": learning(head=True),
        "apply": applying,
    }
    if config.advantage.estimator == "critic":
        bare = flops.forward_flops(cfg, tokens, keys, head=False)
        found["value"] = Call(bare, whole, micro.with_question)
        found["value_gradient"] = learning(head=False)
        found["value_apply"] = applying
    return found


def live_bytes(config: config_lib.TrainConfig, cfg: ModelConfig, columns: float) -> float:
    """Keys and values that all slots hold, over all devices.

    columns   of each slot; layers with a window keep fewer
    """
    dtype = config.rollout.cache_dtype or config.model.dtype
    # eight bits: and a scale of four bytes for each head
    size = {"float32": 4, "bfloat16": 2, "int8": 1 + 4 / cfg.head_dim}[dtype]
    held = sum(min(columns, cfg.kinds[kind].window or columns) for kind in cfg.layer_kinds)
    return 2 * cfg.num_kv_heads * cfg.head_dim * size * held * config.rollout.slots


def limits(call: Call, sent: float, device: Chip) -> Limits:
    """The three limits of one call. sent: bytes to other devices."""
    return Limits(
        compute=call.flops / device.flops,
        memory=call.hbm / device.bandwidth,
        network=sent / device.interconnect,
    )
