"""How long a training step takes at the limits of a chip.

    a call   = max(flops / peak, HBM bytes / bandwidth, bytes sent / interconnect)   perfect overlap
    a step   = sum over programs of calls * seconds

Flops are counted by hand; what is sent is the compiler's. These are estimates, and optimistic ones:
no chip reaches its peak. Left out: the host's work, verification, checkpoints, activations' traffic
to HBM. Letters as in `structs`; L layers, N heads, H head dim.
"""

import functools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sar_jax import config as config_lib
from sar_jax.model import flops
from sar_jax.model.attention import splash
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig, count_params
from sar_jax.parallel.chips import Chip
from sar_jax.planning.programs import Residents
from sar_jax.training import grids, score
from sar_jax.training.settings import derived

_FILLED = 0.95  # of the rows of questions that prefill reads
_STEPS = 8  # that are packed, to estimate a mean
_SIGMA = 1.0  # of the logarithm of an answer's length
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
    """Seconds that a call takes at each limit; network: None where what is sent is not known."""

    compute: float
    memory: float
    network: float | None

    @property
    def longest(self) -> float:
        """How long the call takes at least."""
        return max(self.compute, self.memory, self.network or 0.0)


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


class Rows(NamedTuple):
    """Packed rows of a step, as a run packs them, for answers of log-normal lengths.

    asked, alone   positions that are computed with the question, and standalone, in micro-batches:
                   one with fewer columns counts in parts
    filled         share of them that are tokens, as the metric packing/filled
    asked_keys, alone_keys   that a position is multiplied with, on average, where no window hides
                             them: what fused attention on TPUs does not skip
    asked_logits, alone_logits   share of the positions whose logits are computed
    """

    asked: float
    alone: float
    filled: float
    asked_keys: float
    alone_keys: float
    asked_logits: float
    alone_logits: float


def step_calls(
    config: config_lib.TrainConfig,
    network: Network,
    resident: Residents,
    work: Work,
    rows: Rows,
) -> dict[str, Call]:
    """What every program costs a device in one training step.

    network   of the model without adapters
    """
    return {
        **_weights_calls(config, resident),
        **_decoder_calls(config, network.cfg, resident, work),
        **learner_calls(config, network, resident, work, rows),
    }


def packed_rows(config: config_lib.TrainConfig, work: Work, kernel: str) -> Rows:
    """What a run would pack, the mean of several steps; every prompt has the mean length.

    kernel   of attention
    """
    rollout, count = config.rollout, config.rollout.questions * config.rollout.samples
    longest, rng = config.data.max_prompt_tokens, np.random.default_rng(0)
    prompt, alone = ([0] * min(round(n), longest) for n in (work.prompt_tokens, _STANDALONE))
    mu = _log_mean(work.answer_tokens, rollout.max_answer_tokens)
    size = count // derived.updates_per_step(config)
    asked, apart = [], []
    for _ in range(_STEPS):
        lengths = np.clip(rng.lognormal(mu, _SIGMA, count), 1, rollout.max_answer_tokens)
        answers = [np.zeros(round(n), np.int32) for n in lengths]
        for start in range(0, count, size):
            asked.append(_packed(config, prompt, answers[start : start + size]))
        if derived.needs_standalone(config):
            apart.append(_packed(config, alone, answers))
    whole = config.packing.row_tokens * config.packing.rows_per_microbatch * _STEPS
    positions = lambda kind: sum(p.tokens.size for g in kind for p in g.microbatches()) / whole
    filled = grids.filled(grids.Grids(asked, apart))
    keys = (_keys(config, kind, kernel) for kind in (asked, apart))
    return Rows(positions(asked), positions(apart), filled, *keys, _logits(asked), _logits(apart))


def _logits(packed: list[grids.Grid]) -> float:
    """Share of the positions whose logits are computed."""
    masks = [part.mask for grid in packed for part in grid.microbatches()]
    computed = sum(len(mask) * score.width_of(mask) for mask in masks)
    return computed / max(sum(mask.size for mask in masks), 1)


def _keys(config: config_lib.TrainConfig, packed: list[grids.Grid], kernel: str) -> float:
    """That a position is multiplied with, on average."""
    parts = [part.segment_ids for grid in packed for part in grid.microbatches()]
    if kernel != "splash" or not parts:
        return config.packing.row_tokens / 2  # what is above the diagonal of a row is skipped
    return sum(splash.pairs(ids) for ids in parts) / sum(ids.size for ids in parts)


def _packed(
    config: config_lib.TrainConfig, context: Sequence[int], answers: list[np.ndarray]
) -> grids.Grid:
    contexts = [context] * len(answers)
    return grids.pack_one(config.packing, contexts, answers, range(len(answers)))


def _log_mean(mean: float, limit: int) -> float:
    """Of the logarithm of lengths whose mean is `mean` where `limit` cuts them off."""
    z = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 1000) for i in range(1000)])
    low, high = 0.0, math.log(limit) + 10
    for _ in range(50):
        middle = (low + high) / 2
        cut = np.clip(np.exp(middle + _SIGMA * z), 1, limit)
        low, high = (middle, high) if cut.mean() < mean else (low, middle)
    return low


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
    prompt = flops.forward_flops(cfg, work.reads, work.prompt_tokens / 2, logits=0)
    live = live_bytes(config, cfg, columns) / work.devices
    steps = answers * work.answer_tokens / (rollout.slots * _OCCUPIED)
    reads = math.ceil(rollout.questions * work.prompt_tokens / (work.reads * _FILLED))
    weights = resident.decoding_weights
    return {
        "prefill": Call(prompt / work.devices, weights, reads),
        "decode": Call(token / work.devices, weights + live, steps),
    }


def learner_calls(
    config: config_lib.TrainConfig,
    network: Network,
    resident: Residents,
    work: Work,
    rows: Rows,
) -> dict[str, Call]:
    """Those of score and update; see `step_calls`."""
    cfg = network.cfg
    r, T = resident, config.packing.row_tokens
    tokens = config.packing.rows_per_microbatch * T / work.devices
    logits = tokens * rows.asked_logits
    forward = flops.forward_flops(cfg, tokens, rows.asked_keys, logits)
    standalone = flops.forward_flops(cfg, tokens, rows.alone_keys, tokens * rows.alone_logits)
    whole = count_params(cfg) * (2 if config.model.dtype == "bfloat16" else 4)
    # forward, backward, and where layers are computed again
    reads = 3 if config.model.remat == "none" else 4
    gradient_flops = functools.partial(
        flops.gradient_flops,
        cfg,
        tokens,
        rows.asked_keys,
        config.model.remat,
        network.kernel,
        frozen=config.lora.rank > 0,
        kept=config.model.keep_logits,
    )

    def learning(logits: float) -> Call:
        bytes_moved = reads * whole + 2 * r.gradients
        return Call(gradient_flops(logits=logits), bytes_moved, rows.asked)

    updates = derived.updates_per_step(config)
    applying = Call(0, 2 * (r.masters + r.moments) + r.gradients, updates)
    asked = rows.asked * (derived.scoring_steps(config) + derived.needs_reference(config))
    scored = asked + rows.alone
    found = {
        "score": Call((asked * forward + rows.alone * standalone) / scored, whole, scored),
        "gradient": learning(logits),
        "apply": applying,
    }
    if config.advantage.estimator == "critic":
        bare = flops.forward_flops(cfg, tokens, rows.asked_keys, logits=0)
        found["value"] = Call(bare, whole, rows.asked)
        found["value_gradient"] = learning(logits=0)
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


def limits(call: Call, sent: float | None, device: Chip) -> Limits:
    """The three limits of one call. sent: bytes to other devices; None where nobody knows."""
    return Limits(
        compute=call.flops / device.flops,
        memory=call.hbm / device.bandwidth,
        network=None if sent is None else sent / device.interconnect,
    )
