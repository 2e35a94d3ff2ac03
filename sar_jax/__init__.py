"""sar_jax: reinforcement learning with the self-aligned reward, in JAX, for TPUs.

    import sar_jax as sj

    policy = sj.load("HF_DIR")            a model folder, a hub id, or a run's workdir
    answers = policy.generate(["How many are 2 and 3?"])
    policy.explain(answers)               R_SA, token by token
    run = sj.train("configs/tiny.py")     in this process
    run.load().export("HF_DIR")

What the commands do, from Python (docs/api.md). Each name is looked up when it is first used: the
import alone loads neither JAX nor numpy.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what editors and type checkers see
    from sar_jax.config import PretrainConfig, TrainConfig
    from sar_jax.errors import UserError
    from sar_jax.model.families import Family
    from sar_jax.plan import plan
    from sar_jax.planning.estimate import Plan
    from sar_jax.train import train
    from sar_jax.training.api.found import Evaluation, Explained, Generated, TaskResult
    from sar_jax.training.api.policy import Policy
    from sar_jax.training.api.session import Run
    from sar_jax.training.own.rewards import Answer

__all__ = [
    "Answer",
    "Evaluation",
    "Explained",
    "Family",
    "Generated",
    "Plan",
    "Policy",
    "PretrainConfig",
    "Run",
    "TaskResult",
    "TrainConfig",
    "UserError",
    "__version__",
    "load",
    "plan",
    "train",
]

_PLACES = {
    "Answer": "training.own.rewards",
    "Family": "model.families",
    "Evaluation": "training.api.found",
    "Explained": "training.api.found",
    "Generated": "training.api.found",
    "Plan": "planning.estimate",
    "Policy": "training.api.policy",
    "PretrainConfig": "config",
    "Run": "training.api.session",
    "TaskResult": "training.api.found",
    "TrainConfig": "config",
    "UserError": "errors",
}
# Commands, whose modules are called: whoever imports one of them puts it here under its name.
_CALLED = ("plan", "train")


def __getattr__(name: str) -> Any:
    if name in _CALLED:
        return importlib.import_module(f"sar_jax.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'sar_jax' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"sar_jax.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    path: "str | os.PathLike[str]",
    config: "TrainConfig | str | os.PathLike[str] | None" = None,
    step: int | None = None,
) -> "Policy":
    """A policy. Its weights are read when they are first needed; all else is checked here.

    path     a Hugging Face folder, the hub's id of a model, or the workdir of a run
    config   a config, or the path of a config file. It takes the place of a workdir's; of a model
             folder it gives prompt, limits and dtype
    step     of a workdir's checkpoint, by default the latest

    Raises `UserError` where something is missing or damaged.
    """
    from sar_jax.training.api import calls, policy

    found = None if config is None else calls.as_config(config)
    return policy.load(path, found, step)
