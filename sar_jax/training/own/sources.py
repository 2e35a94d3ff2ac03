"""Which functions of one's own a run uses, and whether they have changed since its last start.

plugins.json in the workdir holds a digest of each one's source, by option and name.
"""

import json
from collections.abc import Iterator

from etils import epath

from sar_jax import config as config_lib
from sar_jax.files import write_atomically
from sar_jax.text import plugins, tasks
from sar_jax.text.answers import chosen
from sar_jax.training.own import rewards as own_rewards
from sar_jax.training.reporting import trackers

NAME = "plugins.json"


def named(config: config_lib.TrainConfig) -> Iterator[tuple[str, str]]:
    """(option, FILE.py:NAME) of every function that a config names."""
    for own in own_rewards.parse(config.rewards.custom):
        yield own_rewards.WHERE, own.spec.text
    if config.verification.verifier != chosen.JUDGE and chosen.is_own(config.verification):
        yield "config.verification.verifier", config.verification.verifier
    for split in ("train", "eval"):
        for function in tasks.functions(getattr(config.data, split)):
            yield f"config.data.{split}", function
    if config.prompt.function:
        yield "config.prompt.function", config.prompt.function
    if config.model.families:
        yield "config.model.families", config.model.families
    for name in trackers.named(config.logging.to):
        if name not in trackers.NAMES:
            yield "config.logging.to", name


def sources(config: config_lib.TrainConfig) -> dict[str, str]:
    """A digest of each function's source."""
    return {
        f"{option} {text}": plugins.source(plugins.parse(text, option))
        for option, text in named(config)
    }


def of_answers(config: config_lib.TrainConfig) -> dict[str, str]:
    """Digests of the functions that make an evaluation's prompts and judge its answers."""
    options = ("config.prompt.function", "config.verification.verifier")
    found = [(option, text) for option, text in named(config) if option in options]
    return {
        f"{option.removeprefix('config.')}.source": plugins.source(plugins.parse(text, option))
        for option, text in found
    }


def changed(workdir: epath.Path, config: config_lib.TrainConfig) -> list[str]:
    """What is to be said of functions whose source is another than at the last start."""
    try:
        before = json.loads((workdir / NAME).read_text())
        now = sources(config)
        differ = [name for name, digest in now.items() if before.get(name, digest) != digest]
    except (OSError, ValueError, AttributeError):
        return []
    return [f"changed since the last start: the source of {name}" for name in differ]


def write(workdir: epath.Path, config: config_lib.TrainConfig) -> None:
    """Keeps the digests; no file where there are no such functions."""
    found = sources(config)
    if found or (workdir / NAME).is_file():
        write_atomically(workdir / NAME, json.dumps(found, indent=2) + "\n")
