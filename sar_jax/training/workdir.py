"""The folder of a run: its config, which decides what may be resumed there, and its metrics."""

import json
from typing import Any

from etils import epath

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.files import write_atomically

_RETIRED = (("rollout", "batch"),)  # fields of earlier versions, on which no weights depend


def read_config(workdir: epath.Path) -> config_lib.TrainConfig:
    """The config of the run in a workdir. Raises `UserError` where there is none."""
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} is not the workdir of a training run: it has no config.json")
    fields = _read_json(path)
    for section, name in _RETIRED:
        fields.get(section, {}).pop(name, None)
    return config_lib.from_dict(config_lib.TrainConfig, fields)


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def check(workdir: epath.Path, config: config_lib.TrainConfig) -> None:
    """Raises `UserError` where the workdir holds another config's run, or something else.

    `steps`, `logging`, `checkpoint` and `guards` may change between restarts; `steps` not if the
    learning rate or the weight of the self-aligned reward follows them.
    """
    path = workdir / "config.json"
    if not path.is_file():
        if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
            raise UserError(
                f"{workdir} is not empty, and what it holds is not a run: choose another --workdir"
            )
        return
    # Fields that are newer than the workdir have their defaults there.
    old, new = (_leaves(json.loads(config_lib.to_json(c))) for c in (read_config(workdir), config))
    constant = config.optimizer.final_lr_fraction == 1 and config.self_aligned.peak_at == 0
    free = {"logging", "checkpoint", "guards"} | ({"steps"} if constant else set())
    differ = [
        f"config.{name}: {old.get(name)!r} there, {new.get(name)!r} now"
        for name in sorted(old | new)
        if name.split(".")[0] not in free and old.get(name) != new.get(name)
    ]
    if differ:
        changes = "; ".join(differ)
        raise UserError(
            f"{workdir} holds a run with a different config ({changes}): choose another --workdir, "
            "or use the old settings to continue"
        )


def claim(workdir: epath.Path, config: config_lib.TrainConfig) -> None:
    """Makes the workdir this config's; see `check`."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "config.json", config_lib.to_json(config))


def read_metrics(workdir: epath.Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; a last one that was cut off in the middle is left out."""
    path, found = workdir / "metrics.jsonl", []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted path."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        found |= _leaves(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return found
