"""What follows from a config: numbers and needs that several places ask for."""

import dataclasses
from typing import Any

from sar_jax.config import TrainConfig


def reward_weights(config: TrainConfig) -> dict[str, float]:
    """The weights of the rewards that come along, by name."""
    weights = vars(config.rewards).items()
    return {name: weight for name, weight in weights if not name.startswith("custom")}


def needs_standalone(config: TrainConfig) -> bool:
    """Are answers scored without their question too? A reward of one's own may look at that."""
    return config.rewards.self_aligned != 0 or config.rewards.custom != ""


def needs_reference(config: TrainConfig) -> bool:
    """Is anything compared with the initial policy?"""
    return config.loss.kl != 0 or config.advantage.kl_penalty != 0


def scoring_steps(config: TrainConfig) -> float:
    """The share of steps in which the policy scores answers after their questions."""
    return 1.0 if config.loss.old_logps == "scored" else 1 / config.evaluation.every_steps


def updates_per_step(config: TrainConfig) -> int:
    """Mini-batches of a step; each is one update of the policy."""
    return config.rollout.questions // config.loss.minibatch_questions


def total_updates(config: TrainConfig) -> int:
    """Updates of the whole run: the learning rate's schedule ends with the last one."""
    return config.steps * updates_per_step(config)


def spelled_out(config: Any) -> Any:
    """The config with what `rollout.precision` sets, where the fields themselves have defaults."""
    if not isinstance(config, TrainConfig) or config.rollout.precision != "int8":
        return config
    rollout, loss = config.rollout, config.loss
    cache = rollout.cache_dtype or "int8"
    return dataclasses.replace(
        config,
        rollout=dataclasses.replace(rollout, weights_dtype="int8", cache_dtype=cache),
        loss=dataclasses.replace(loss, importance_cap=loss.importance_cap or 2.0),
    )
