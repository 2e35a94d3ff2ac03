"""Configurations to change, and their fields by path."""

import dataclasses

from sar_jax.config import PretrainConfig, TrainConfig


def good() -> TrainConfig:
    config = TrainConfig()
    config.data.train, config.model.path = "arithmetic", "folder"
    return config


def good_pretrain() -> PretrainConfig:
    config = PretrainConfig()
    config.data.train = "arithmetic"
    return config


def put(config, path: str, value) -> None:
    *sections, name = path.split(".")
    for section in sections:
        config = getattr(config, section)
    assert hasattr(config, name)
    setattr(config, name, value)


def leaves(cls: type, prefix: str = "") -> dict[str, type]:
    """Dotted path of each field that is not a section -> its type."""
    found = {}
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            found |= leaves(field.type, f"{prefix}{field.name}.")
        else:
            found[f"{prefix}{field.name}"] = field.type
    return found
