"""What a config must satisfy before anything slow starts, and what it is warned of.
`sar_jax.config` has the fields.

Every failed check is one `UserError` that names the field, its value and what it may be.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from sar_jax import checks, structs
from sar_jax.errors import UserError

_PROMPT_CHOICES = {
    "standalone_context": ("empty_question", "bos"),
    "format": ("auto", "chat", "plain"),
    "thinking": ("default", "on", "off"),
}
_CHOICES = {
    "self_aligned.form": ("relative", "log", "difference"),
    "loss.average": ("limit", "tokens", "sequences"),
    "loss.ratio": ("token", "sequence"),
    "loss.kl_estimator": ("k1", "k2", "k3"),
    "advantage.estimator": ("group", "leave_one_out", "critic"),
}


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise UserError(message)


def _check_positive(config: Any, *paths: str) -> None:
    for path in paths:
        value = config
        for name in path.split("."):
            value = getattr(value, name)
        _require(value > 0, f"config.{path} is {value}: it must be greater than 0")


def _check_not_negative(config: Any, *paths: str) -> None:
    for path in paths:
        section, name = path.split(".")
        value = getattr(getattr(config, section), name)
        _require(value >= 0, f"config.{path} is {value}: it must not be negative")


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def check_prompt(prompt: Any) -> None:
    """Raises `UserError` where a field is not one of its choices."""
    for name, choices in _PROMPT_CHOICES.items():
        value = getattr(prompt, name)
        _require(
            value in choices,
            f"config.prompt.{name} is {value!r}: it must be one of {', '.join(choices)}",
        )


def check_rollout(rollout: Any) -> None:
    """Raises `UserError` where the settings of `config.rollout` leave nothing to sample, or cannot
    be."""
    r = rollout
    for name, fine, expected in (
        (
            "temperature",
            r.temperature > 0,
            "greater than 0: greedy answers to a question would all be the same",
        ),
        ("top_k", r.top_k >= 0, "at least 0, which is off"),
        ("top_p", 0 < r.top_p <= 1, "in (0, 1]; 1 is off"),
        ("min_p", 0 <= r.min_p <= 1, "in [0, 1]; 0 is off"),
        ("slots", r.slots > 0, "greater than 0"),
        ("weights_dtype", r.weights_dtype in ("", "int8"), "'' or 'int8'"),
        (
            "cache_dtype",
            r.cache_dtype in ("", "bfloat16", "float32", "int8"),
            "'', 'bfloat16', 'float32' or 'int8'",
        ),
    ):
        if not fine:
            raise UserError(f"config.rollout.{name} is {getattr(r, name)!r}: it must be {expected}")


def _check_shared(config: Any, max_answer_tokens: int, limit_name: str) -> None:
    """What training and pretraining have in common; `limit_name`: the field of the answer limit."""
    _check_positive(
        config,
        "steps",
        "data.max_prompt_tokens",
        "data.eval_questions",
        "optimizer.lr",
        "optimizer.clip_norm",
        "packing.row_tokens",
        "packing.rows_per_microbatch",
        "packing.logprob_chunk",
    )
    _require(
        config.data.train != "",
        "config.data.train is empty: give 'arithmetic' or the path of a JSONL file",
    )
    _require(
        config.model.dtype in ("float32", "bfloat16"),
        f"config.model.dtype is {config.model.dtype!r}: it must be 'float32' or 'bfloat16'",
    )
    _require(
        config.optimizer.mu_dtype in ("float32", "bfloat16"),
        f"config.optimizer.mu_dtype is {config.optimizer.mu_dtype!r}: it must be 'float32' or 'bfloat16'",
    )
    _require(
        config.model.attention in ("auto", "xla", "splash", "cudnn"),
        f"config.model.attention is {config.model.attention!r}: it must be 'auto', 'xla', 'splash' or 'cudnn'",
    )
    check_prompt(config.prompt)
    for path, value in _leaves(config):
        _require(
            not isinstance(value, float) or math.isfinite(value),
            f"config.{path} is {value}: it must be finite",
        )
    _require(0 <= config.seed < 2**32, f"config.seed is {config.seed}: it must lie in [0, 2**32)")
    for name in ("b1", "b2"):
        value = getattr(config.optimizer, name)
        _require(0 <= value < 1, f"config.optimizer.{name} is {value}: it must lie in [0, 1)")
    _check_not_negative(config, "optimizer.warmup_updates", "optimizer.weight_decay")
    _require(
        0 <= config.optimizer.final_lr_fraction <= 1,
        f"config.optimizer.final_lr_fraction is {config.optimizer.final_lr_fraction}: it must lie in [0, 1]",
    )
    longest = config.data.max_prompt_tokens + max_answer_tokens
    _require(
        config.packing.row_tokens >= longest,
        f"config.packing.row_tokens is {config.packing.row_tokens}: a row must hold the longest sequence, "
        f"data.max_prompt_tokens + {limit_name} = {longest}",
    )


def _check_self_aligned(config: Any) -> None:
    own, weights = config.self_aligned, config.rewards
    _require(
        own.cap == 0 or own.cap > 1,
        f"config.self_aligned.cap is {own.cap}: no perplexity is below 1, so it must be "
        "greater than 1, or 0 for none",
    )
    _require(
        0 <= own.peak_at <= 1,
        f"config.self_aligned.peak_at is {own.peak_at}: it must lie in [0, 1]",
    )
    _require(
        0 < own.target_share < 1,
        f"config.self_aligned.target_share is {own.target_share}: it must lie between 0 and 1",
    )
    if own.adaptive:
        clash = "config.self_aligned.adaptive is true: "
        _require(
            own.peak_at == 0, clash + "config.self_aligned.peak_at must be 0, one of them leads"
        )
        _require(
            weights.self_aligned > 0,
            clash + "config.rewards.self_aligned, where it starts, must be greater than 0",
        )
        _require(
            weights.verifiable > 0,
            clash + "config.rewards.verifiable, its counterpart, must be greater than 0",
        )
        _require(
            config.rollout.samples > 1 or config.advantage.estimator == "critic",
            clash + "config.rollout.samples must be greater than 1, it compares answers",
        )
        _require(
            own.form != "difference" or own.cap > 1,
            clash + "with config.self_aligned.form=difference it needs a config.self_aligned.cap",
        )


def _check_advantage(config: Any) -> None:
    for name in ("gamma", "lam"):
        value = getattr(config.advantage, name)
        _require(0 <= value <= 1, f"config.advantage.{name} is {value}: it must lie in [0, 1]")
    _check_positive(config, "critic.lr", "critic.value_clip", "lora.alpha")
    _require(
        config.lora.rank == 0 or not config.model.offload_reference,
        "config.model.offload_reference is true with config.lora.rank > 0: the reference is the frozen base, which the "
        "policy needs on the devices anyway; leave it false",
    )
    _check_not_negative(config, "lora.rank", "advantage.kl_penalty", "critic.warmup_steps")
    if config.advantage.estimator == "critic":
        clash = "with config.advantage.estimator=critic "
        _require(
            not config.advantage.divide_by_std,
            f"config.advantage.divide_by_std is true: {clash}there is no group, see config.advantage.whiten",
        )
        _require(
            config.loss.ratio == "token",
            f"config.loss.ratio is {config.loss.ratio!r}: {clash}each token has its own advantage, it must be 'token'",
        )


def _check_variants(config: Any) -> None:
    """Choices by name, and what they need."""
    for path, choices in _CHOICES.items():
        section, name = path.split(".")
        value = getattr(getattr(config, section), name)
        _require(
            value in choices, f"config.{path} is {value!r}: it must be one of {', '.join(choices)}"
        )
    _check_advantage(config)
    several = config.rollout.samples > 1
    _require(
        several or config.advantage.estimator != "leave_one_out",
        "config.advantage.estimator is 'leave_one_out': config.rollout.samples must be greater than 1",
    )
    _require(
        several or not config.advantage.divide_by_std,
        "config.advantage.divide_by_std is true: config.rollout.samples must be greater than 1",
    )
    cap = config.loss.importance_cap
    _require(
        cap == 0 or cap >= 1,
        f"config.loss.importance_cap is {cap}: it must be at least 1, or 0 for no weights",
    )
    _check_self_aligned(config)
    _check_not_negative(config, "guards.low_entropy", "guards.falling_evaluations")
    trend = config.guards.trend_steps
    _require(
        trend == 0 or trend >= 8,
        f"config.guards.trend_steps is {trend}: it must be at least 8, or 0 for no alarm",
    )
    for name in ("short_length", "echo"):
        value = getattr(config.guards, name)
        _require(0 <= value < 1, f"config.guards.{name} is {value}: it must lie in [0, 1)")


def check(config: Any) -> None:
    """Raises `UserError` that names the first field of a training config that cannot work."""
    _check_positive(
        config,
        "rollout.questions",
        "rollout.samples",
        "rollout.slots",
        "rollout.max_answer_tokens",
        "loss.minibatch_questions",
        "loss.dual_clip",
        "evaluation.every_steps",
        "evaluation.batch",
        "logging.samples_every_steps",
        "checkpoint.every_steps",
        "checkpoint.keep",
        "verification.workers",
        "verification.timeout",
    )
    _require(
        0 <= config.verification.max_error_share <= 1,
        f"config.verification.max_error_share is {config.verification.max_error_share}: it must lie in [0, 1]",
    )
    _check_shared(config, config.rollout.max_answer_tokens, "rollout.max_answer_tokens")
    _require(
        config.model.path != "",
        "config.model.path is empty: give the folder of a Hugging Face model, or its hub id",
    )
    _require(
        config.rollout.questions % config.loss.minibatch_questions == 0,
        f"config.loss.minibatch_questions is {config.loss.minibatch_questions}: it must divide "
        f"rollout.questions ({config.rollout.questions})",
    )
    checks.check_rollout(config.rollout)
    _require(
        config.loss.dual_clip > 1,
        f"config.loss.dual_clip is {config.loss.dual_clip}: it must be greater than 1",
    )
    _require(
        any(dataclasses.asdict(config.rewards).values()),
        "config.rewards: every weight is 0, nothing to learn",
    )
    _require(
        config.rollout.tensor == -1 or config.rollout.tensor > 0,
        f"config.rollout.tensor is {config.rollout.tensor}: it must be greater than 0, or -1",
    )
    _require(
        config.profile_steps >= 0,
        f"config.profile_steps is {config.profile_steps}: it must not be negative",
    )
    _check_not_negative(
        config,
        "rollout.refill_rounds",
        "loss.kl",
        "loss.clip_low",
        "loss.clip_high",
        "logging.samples_shown",
    )
    _check_variants(config)


def check_pretrain(config: Any) -> None:
    """Raises `UserError` that names the first field of a pretraining config that cannot work."""
    _check_positive(config, "batch_examples", "log_every_steps", "eval_batch", "max_answer_tokens")
    _check_shared(config, config.max_answer_tokens, "max_answer_tokens")
    _require(
        0 <= config.empty_question_fraction < 1,
        f"config.empty_question_fraction is {config.empty_question_fraction}: it must lie in [0, 1)",
    )


def warnings(config: Any) -> list[str]:
    """What works but is known to end badly; shown before training starts."""
    weights = dataclasses.asdict(config.rewards)
    found = []
    if weights["verifiable"] == 0 and weights["self_aligned"] != 0:
        found.append(
            "rewards.verifiable is 0: the self-aligned reward alone does not know right from wrong and collapses "
            "(Qwen3-4B in the paper's ablation: accuracy 53 -> 21 %, 765 -> 84 tokens). Keep a verifiable reward."
        )
    if config.rollout.samples == 1 and config.advantage.estimator != "critic":
        found.append(
            "rollout.samples is 1: the advantage is the reward minus the group's mean, so it is always 0."
        )
    if structs.Sampling.of(config) != structs.Sampling() and not config.loss.importance_cap:
        found.append(
            f"answers are drawn with {structs.Sampling.of(config).words}, and scored without: what learns is not "
            "what drew (metric sampling/off_policy). Set loss.importance_cap, for example to 2, or leave "
            "rollout.temperature and the filters at their defaults."
        )
    for name in ("weights_dtype", "cache_dtype"):
        if getattr(config.rollout, name) == "int8" and not config.loss.importance_cap:
            found.append(
                f"rollout.{name} is int8: answers are drawn from a slightly other policy than the one that "
                "learns (metric sampling/logp_difference). Set loss.importance_cap, for example to 2."
            )
    if config.loss.kl and config.loss.kl_estimator == "k1":
        found.append(
            "loss.kl_estimator is k1: its gradient is 0 on average, so loss.kl holds nothing. Use k2 or k3."
        )
    if config.loss.ratio == "sequence" and max(config.loss.clip_low, config.loss.clip_high) > 0.05:
        found.append(
            "loss.ratio is sequence: the ratio of an answer, per token, hardly leaves 1, so that a clip of "
            f"{config.loss.clip_low} / {config.loss.clip_high} never acts (GSPO's paper: 3e-4 / 4e-4)."
        )
    if (
        weights["self_aligned"]
        and config.self_aligned.form == "difference"
        and not config.self_aligned.cap
    ):
        found.append(
            "self_aligned.form is difference: without self_aligned.cap the reward is as large as perplexities."
        )
    return found
