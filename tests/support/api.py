"""Small runs from Python, in this process, on the tiny model that comes with the package."""

import importlib.resources
from typing import Any

from support.configs import put
from support.training import shipped

TINY = str(importlib.resources.files("sar_jax") / "assets/tiny")


def small_config(**changes: Any):
    """Three steps of four questions; section__field=value, or field=value."""
    config = shipped("tiny")
    given = {
        "steps": 3,
        "model__remat": "none",
        "data__train": "arithmetic:1000",
        "data__eval": "",
        "rollout__questions": 4,
        "rollout__samples": 3,
        "rollout__slots": 8,
        "rollout__max_answer_tokens": 12,
        "loss__minibatch_questions": 2,
        "optimizer__warmup_updates": 0,
        "optimizer__final_lr_fraction": 1.0,
        "packing__row_tokens": 144,
        "checkpoint__every_steps": 10,
        "logging__to": "",
        **changes,
    }
    for name, value in given.items():
        put(config, name.replace("__", "."), value)
    return config
