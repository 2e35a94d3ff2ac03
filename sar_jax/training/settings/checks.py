"""What a config must satisfy before anything slow starts, and what it is warned of.

    choices     a field that takes only some values lists them in its type (`sar_jax.config`)
    rules       what each number must be                                               (`rules`)
    relations   what fields must be to each other: the functions

Every failed check is one `UserError` that names the field, its value and what it may be.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sar_jax import structs
from sar_jax.config import PretrainConfig, TrainConfig
from sar_jax.errors import UserError
from sar_jax.text import plugins
from sar_jax.text.answers import judge
from sar_jax.training.own import rewards as own_rewards
from sar_jax.training.settings import derived
from sar_jax.training.settings.rules import DECODING, PRETRAINING, SHARED, TRAINING, Rule

_LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # of 32 bits


class _Leaf(NamedTuple):
    """A field that is no section."""

    path: str
    value: Any
    choices: tuple[str, ...]  # empty where every value of the type is allowed


def check(config: TrainConfig) -> None:
    """Raises `UserError` that names the first field of a training config that cannot work."""
    _check_fields(config, SHARED | TRAINING | DECODING)
    _check_named(config)
    _check_lengths(config, config.rollout.max_answer_tokens, "rollout.max_answer_tokens")
    questions, minibatch = config.rollout.questions, config.loss.minibatch_questions
    _require(
        questions % minibatch == 0,
        f"config.loss.minibatch_questions is {minibatch}: it must divide rollout.questions "
        f"({questions})",
    )
    _check_own(config)
    own = own_rewards.parse(config.rewards.custom)
    _require(
        any(derived.reward_weights(config).values()) or any(reward.weight for reward in own),
        "config.rewards: every weight is 0, so there is nothing to learn",
    )
    _require(
        config.model.path != "",
        "config.model.path is empty: give the folder of a Hugging Face model, or its hub id",
    )
    _require(
        config.lora.rank == 0 or not config.model.offload_reference,
        "config.model.offload_reference is true with config.lora.rank > 0: the reference is the "
        "frozen base, which the devices hold for the policy anyway: leave it false",
    )
    _check_group(config)
    _check_critic(config)
    _check_adaptive(config)
    _check_sampled(config)


def _check_sampled(config: TrainConfig) -> None:
    """The decoder's logprobs stand for scored ones only where it has the policy's weights."""
    if config.loss.old_logps != "sampled":
        return
    rounded = [n for n in ("weights_dtype", "cache_dtype") if getattr(config.rollout, n) == "int8"]
    _require(
        not rounded,
        "config.loss.old_logps is 'sampled', but the decoder is rounded "
        f"({', '.join(f'config.rollout.{name}=int8' for name in rounded)}): its logprobs are not "
        "the policy's. Leave it 'scored'",
    )
    _require(
        config.loss.importance_cap == 0,
        "config.loss.old_logps is 'sampled' with config.loss.importance_cap > 0, which weighs "
        "sampled against scored logprobs: leave it 'scored', or set the cap to 0",
    )


def check_pretrain(config: PretrainConfig) -> None:
    """Raises `UserError` that names the first field of a pretraining config that cannot work."""
    _check_fields(config, SHARED | PRETRAINING)
    _check_named(config)
    _check_lengths(config, config.max_answer_tokens, "max_answer_tokens")
    made = config.architecture
    _require(
        made.num_heads % made.num_kv_heads == 0,
        f"config.architecture.num_kv_heads is {made.num_kv_heads}: it must divide num_heads "
        f"({made.num_heads})",
    )


def check_evaluation(config: TrainConfig) -> None:
    """Raises `UserError` that names the first field that a trained model cannot be used with.

    What only training reads is not looked at.
    """
    sections = ("model.", "data.", "prompt.", "rollout.", "evaluation.", "verification.", "mesh.")
    _check_fields(config, SHARED | DECODING, only=("seed", "packing.logprob_chunk", *sections))
    _check_own(config)


def check_positions(config: TrainConfig | PretrainConfig, limit: int) -> None:
    """Raises `UserError` where sequences may be longer than the `limit` positions of a model."""
    name, longest = "max_answer_tokens", config.data.max_prompt_tokens
    if isinstance(config, TrainConfig):
        name, longest = "rollout.max_answer_tokens", longest + config.rollout.max_answer_tokens
    else:
        longest += config.max_answer_tokens
    _require(
        longest <= limit,
        f"config.data.max_prompt_tokens + config.{name} is {longest}: the model supports only "
        f"{limit} positions (max_position_embeddings)",
    )


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise UserError(message)


def _leaves(config: Any, prefix: str = "") -> Iterator[_Leaf]:
    """The fields of a config or of one of its sections, whose path is `prefix`."""
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{path}.")
        else:
            yield _Leaf(path, value, typing.get_args(field.type))


def _check_fields(config: Any, rules: Mapping[str, Rule], only: tuple[str, ...] = ("",)) -> None:
    """Each field on its own: its choices, its rule, and that its numbers have 32 bits.

    only   the beginnings of the paths that are looked at
    """
    for path, value, choices in _leaves(config):
        if not path.startswith(only):
            continue
        wrong = f"config.{path} is {value!r:.60}: it must"
        if choices and value not in choices:
            *others, last = map(repr, choices)
            raise UserError(f"{wrong} be {', '.join(others)} or {last}")
        if isinstance(value, float):
            if not math.isfinite(value):
                raise UserError(f"{wrong} be finite")
            if abs(value) > _LARGEST_FLOAT:
                raise UserError(f"{wrong} not be larger than a float32, about 3.4e38")
        elif isinstance(value, int) and value >= 2**31 and path != "seed":
            raise UserError(f"{wrong} be less than 2**31: tokens, rows and steps have 32 bits")
        if path in rules and not rules[path].holds(value):
            raise UserError(f"{wrong} {rules[path].words}")


def _check_named(config: TrainConfig | PretrainConfig) -> None:
    _require(
        config.data.train != "",
        "config.data.train is empty: name a data set (docs/data.md) or give the path of a JSONL "
        "file",
    )


def _check_own(config: TrainConfig) -> None:
    """That what is meant as a function of one's own can be read as one."""
    for section, name in (("prompt", "function"), ("model", "families")):
        if text := getattr(getattr(config, section), name):
            plugins.parse(text, f"config.{section}.{name}")
    found, own = config.verification, "config.verification.verifier"
    if found.verifier == "judge":
        for name in ("judge_url", "judge_model"):
            _require(
                getattr(found, name) != "",
                f"config.verification.{name} is empty: {own} is 'judge', which asks a model",
            )
    elif found.verifier and ":" in found.verifier:
        plugins.parse(found.verifier, own)
    elif found.verifier:
        kinds = ", ".join(judge.VERIFIERS)
        near = difflib.get_close_matches(found.verifier, judge.VERIFIERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        _require(
            found.verifier in judge.VERIFIERS,
            f"{own} is {found.verifier!r}: it must be empty, {kinds}, judge, or FILE.py:NAME{hint}",
        )


def _check_lengths(config: TrainConfig | PretrainConfig, answer: int, name: str) -> None:
    """answer: the limit of an answer in tokens; name: of its field."""
    longest = config.data.max_prompt_tokens + answer
    _require(
        config.packing.row_tokens >= longest,
        f"config.packing.row_tokens is {config.packing.row_tokens}: a row must hold the longest "
        f"sequence, data.max_prompt_tokens + {name} = {longest}",
    )


def _check_group(config: TrainConfig) -> None:
    """What compares the answers to one question needs several."""
    several = config.rollout.samples > 1
    _require(
        several or config.advantage.estimator != "leave_one_out",
        "config.advantage.estimator is 'leave_one_out': config.rollout.samples must be greater "
        "than 1",
    )
    _require(
        several or not config.advantage.divide_by_std,
        "config.advantage.divide_by_std is true: config.rollout.samples must be greater than 1",
    )


def _check_critic(config: TrainConfig) -> None:
    if config.advantage.estimator != "critic":
        return
    clash = "with config.advantage.estimator=critic "
    _require(
        not config.advantage.divide_by_std,
        f"config.advantage.divide_by_std is true: {clash}there is no group to divide by; see "
        "config.advantage.whiten",
    )
    _require(
        config.loss.ratio == "token",
        f"config.loss.ratio is {config.loss.ratio!r}: {clash}each token has its own advantage, so "
        "it must be 'token'",
    )


def _check_adaptive(config: TrainConfig) -> None:
    own, weights = config.self_aligned, config.rewards
    if not own.adaptive:
        return
    clash = "config.self_aligned.adaptive is true: "
    _require(
        own.peak_at == 0,
        clash
        + "config.self_aligned.peak_at must be 0, because only one of them can set the weight",
    )
    _require(
        weights.self_aligned > 0,
        clash + "config.rewards.self_aligned is its first value and must be greater than 0",
    )
    _require(
        weights.verifiable > 0,
        clash + "config.rewards.verifiable, which bounds it, must be greater than 0",
    )
    _require(
        config.rollout.samples > 1 or config.advantage.estimator == "critic",
        clash + "config.rollout.samples must be greater than 1, because it compares answers to the "
        "same question",
    )
    _require(
        own.form != "difference" or own.cap > 1,
        clash + "with config.self_aligned.form=difference it needs a config.self_aligned.cap",
    )


def warnings(config: TrainConfig) -> list[str]:
    """What works but is known to end badly; shown before training starts."""
    return [*_of_rewards(config), *_of_drawing(config), *_of_variants(config)]


def _of_rewards(config: TrainConfig) -> Iterator[str]:
    if config.rewards.verifiable == 0 and config.rewards.self_aligned != 0:
        yield (
            "rewards.verifiable is 0: the self-aligned reward alone does not know right from wrong "
            "and collapses (Qwen3-4B in the paper's ablation: accuracy 53 -> 21 %, 765 -> 84 "
            "tokens). Keep a verifiable reward."
        )
    if config.rollout.samples == 1 and config.advantage.estimator != "critic":
        yield (
            "rollout.samples is 1: the advantage is the reward minus the group's mean, so it is "
            "always 0."
        )


def _of_drawing(config: TrainConfig) -> Iterator[str]:
    """Answers that are drawn from something other than the policy that learns."""
    if config.loss.importance_cap:
        return
    sampling = structs.Sampling.of(config)
    if sampling != structs.Sampling():
        yield (
            f"answers are drawn with {sampling.words} but scored without it, so the policy that "
            "learns is not the one that drew them (metric sampling/off_policy). Set "
            "loss.importance_cap, for example to 2, or leave rollout.temperature and the filters "
            "at their defaults."
        )
    for name in ("weights_dtype", "cache_dtype"):
        if getattr(config.rollout, name) == "int8":
            yield (
                f"rollout.{name} is int8: answers are drawn from a slightly different policy from "
                "the one that learns (metric sampling/logp_difference). Set loss.importance_cap, "
                "for example to 2."
            )


def _of_variants(config: TrainConfig) -> Iterator[str]:
    loss, own = config.loss, config.self_aligned
    if loss.kl and loss.kl_estimator == "k1":
        yield (
            "loss.kl_estimator is k1: its gradient is 0 on average, so loss.kl has no effect. Use "
            "k2 or k3."
        )
    if loss.ratio == "sequence" and max(loss.clip_low, loss.clip_high) > 0.05:
        yield (
            "loss.ratio is sequence: the ratio of an answer, per token, stays close to 1, so a "
            f"clip of {loss.clip_low} / {loss.clip_high} never applies (GSPO's paper: 3e-4 / 4e-4)."
        )
    if config.rewards.self_aligned and own.form == "difference" and not own.cap:
        yield (
            "self_aligned.form is difference: without self_aligned.cap the reward can be as large "
            "as a perplexity."
        )
