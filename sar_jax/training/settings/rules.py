"""What each number and text of a config must be, on its own: tables by path."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sar_jax.training.reporting import trackers


class Rule(NamedTuple):
    """words: how an error ends, "it must ..."; holds: does a value satisfy it?"""

    words: str
    holds: Callable[[Any], bool]


_POSITIVE = Rule("be greater than 0", lambda x: x > 0)
_NOT_NEGATIVE = Rule("not be negative", lambda x: x >= 0)
_SHARE = Rule("be in [0, 1]", lambda x: 0 <= x <= 1)
_BELOW_ONE = Rule("be in [0, 1)", lambda x: 0 <= x < 1)
_POSITIVE_OR_ALL = Rule("be greater than 0, or -1", lambda x: x == -1 or x > 0)

SHARED: Mapping[str, Rule] = {
    "seed": Rule("be in [0, 2**32)", lambda x: 0 <= x < 2**32),
    "steps": _POSITIVE,
    "data.max_prompt_tokens": _POSITIVE,
    "data.eval_questions": _POSITIVE,
    "data.unstated_share": _SHARE,
    "optimizer.lr": _POSITIVE,
    "optimizer.b1": _BELOW_ONE,
    "optimizer.b2": _BELOW_ONE,
    "optimizer.eps": Rule(
        "be at least 1.2e-38, below which a float32 is 0", lambda x: x >= 1.2e-38
    ),
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.clip_norm": _POSITIVE,
    "optimizer.warmup_updates": _NOT_NEGATIVE,
    "optimizer.final_lr_fraction": _SHARE,
    "packing.row_tokens": _POSITIVE,
    "packing.rows_per_microbatch": _POSITIVE,
    "packing.narrowest": Rule("be 1, 2, 4 or 8", lambda x: x in (1, 2, 4, 8)),
    "packing.logprob_chunk": _POSITIVE,
    "checkpoint.every_steps": _POSITIVE,
    "checkpoint.keep": _POSITIVE,
    "checkpoint.retry_seconds": _NOT_NEGATIVE,
    **{f"mesh.{axis}": _POSITIVE_OR_ALL for axis in ("data", "fsdp", "tensor")},
}
TRAINING: Mapping[str, Rule] = {
    "profile_steps": _NOT_NEGATIVE,
    "rollout.questions": _POSITIVE,
    "rollout.samples": _POSITIVE,
    "rollout.refill_rounds": _NOT_NEGATIVE,
    "rewards.custom_timeout": Rule("be greater than 0 and at most 1e6", lambda x: 0 < x <= 1e6),
    "self_aligned.cap": Rule(
        "be greater than 1, since no perplexity is below 1, or 0 for none",
        lambda x: x == 0 or x > 1,
    ),
    "self_aligned.copied_run": Rule(
        "be at least 2, since single tokens of the question are in every answer, or 0 for off",
        lambda x: x == 0 or x >= 2,
    ),
    "self_aligned.peak_at": _SHARE,
    "self_aligned.target_share": Rule("be between 0 and 1", lambda x: 0 < x < 1),
    "advantage.gamma": _SHARE,
    "advantage.lam": _SHARE,
    "advantage.kl_penalty": _NOT_NEGATIVE,
    "critic.lr": _POSITIVE,
    "critic.value_clip": _POSITIVE,
    "critic.warmup_steps": _NOT_NEGATIVE,
    "lora.rank": _NOT_NEGATIVE,
    "lora.alpha": _POSITIVE,
    "loss.minibatch_questions": _POSITIVE,
    "loss.clip_low": _NOT_NEGATIVE,
    "loss.clip_high": _NOT_NEGATIVE,
    "loss.dual_clip": Rule("be greater than 1", lambda x: x > 1),
    "loss.importance_cap": Rule("be at least 1, or 0 for no weights", lambda x: x == 0 or x >= 1),
    "loss.kl": _NOT_NEGATIVE,
    "evaluation.every_steps": _POSITIVE,
    "evaluation.heat_maps": _NOT_NEGATIVE,
    "verification.max_error_share": _SHARE,
    "logging.to": Rule(
        f"be empty, or some of {', '.join(trackers.NAMES)} and FILE.py:NAME, separated by commas",
        lambda names: all(map(trackers.is_known, trackers.named(names))),
    ),
    "logging.project": Rule(
        "be 1 to 128 letters, digits, blanks and any of - _ .",
        lambda name: re.fullmatch(r"[\w][\w .-]{0,127}", name) is not None,
    ),
    "logging.samples_every_steps": _POSITIVE,
    "logging.samples_shown": _NOT_NEGATIVE,
    "guards.short_length": _BELOW_ONE,
    "guards.falling_evaluations": _NOT_NEGATIVE,
    "guards.low_entropy": _NOT_NEGATIVE,
    "guards.trend_steps": Rule("be at least 8, or 0 for no alarm", lambda x: x == 0 or x >= 8),
    "guards.echo": _BELOW_ONE,
    "guards.unrewarded_steps": _NOT_NEGATIVE,
    "guards.cut_off_steps": _NOT_NEGATIVE,
    "guards.skipped_updates": _NOT_NEGATIVE,
    "guards.high_kl": _NOT_NEGATIVE,
    "guards.entropy_rise": _NOT_NEGATIVE,
    "guards.not_finite": _NOT_NEGATIVE,
}
PRETRAINING: Mapping[str, Rule] = {
    "batch_examples": _POSITIVE,
    "empty_question_fraction": _BELOW_ONE,
    "log_every_steps": _POSITIVE,
    "eval_batch": _POSITIVE,
    "max_answer_tokens": _POSITIVE,
    **{
        f"architecture.{size}": _POSITIVE
        for size in ("num_layers", "embed_dim", "num_heads", "num_kv_heads", "ffw_dim")
    },
    "architecture.head_dim": Rule(
        "be even and greater than 0: the halves of a head are rotated as pairs",
        lambda x: x > 0 and x % 2 == 0,
    ),
    "architecture.vocab_size": Rule(
        "be at least 259: the 256 bytes and three tokens of the template", lambda x: x >= 259
    ),
    "architecture.rope_theta": _POSITIVE,
    "architecture.max_positions": _POSITIVE,
}
# what answers questions, in training and in an evaluation
DECODING: Mapping[str, Rule] = {
    "evaluation.batch": _POSITIVE,
    # each is a process of about 0.1 GB
    "verification.workers": Rule("be from 1 to 4096", lambda x: 1 <= x <= 4096),
    # the system waits for milliseconds of 32 bits, and a worker twice as long
    "verification.timeout": Rule("be greater than 0 and at most 1e6", lambda x: 0 < x <= 1e6),
    "rollout.slots": Rule("be greater than 0, or auto", lambda x: x == "auto" or x > 0),
    "rollout.tensor": _POSITIVE_OR_ALL,
    "rollout.max_answer_tokens": _POSITIVE,
    "rollout.temperature": Rule(
        "be at least 1e-30: greedy answers to a question would all be the same",
        lambda x: x >= 1e-30,  # below that, logits overflow
    ),
    "rollout.top_k": Rule("be at least 0, which is off", lambda x: x >= 0),
    "rollout.top_p": Rule("be in (0, 1]; 1 is off", lambda x: 0 < x <= 1),
    "rollout.min_p": Rule("be in [0, 1]; 0 is off", lambda x: 0 <= x <= 1),
}
