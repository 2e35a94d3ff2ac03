"""The folder of a run: its config, which decides what may be resumed there, and its metrics.

config.json     the settings of the last start
run.json        the run's id, the day on which it began, the revision of a model of the hub
machine.json    versions and devices of the last start
metrics.jsonl   a line a step
report.html     a page of all of it, from the end of the run
"""

import datetime
import json
import math
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from etils import epath

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.files import write_atomically

Config = config_lib.TrainConfig | config_lib.PretrainConfig
_RETIRED = (("rollout", "batch"),)  # fields of earlier versions, on which no weights depend
# What a restart may change, a section or a field. Model and questions are compared by what they
# are, not by where.
_FREE = (
    "logging",
    "checkpoint",
    "guards",
    "evaluation",
    "verification",
    "profile_steps",
    "model.path",
    "model.families",
    "rewards.custom_timeout",
    "log_every_steps",
    "eval_batch",
    "rollout.precision",  # what it sets is compared
    "data.train",
    "data.eval",
    "data.eval_questions",
)
# The same computation in other pieces: sums in another order.
_ROUNDING = (
    "mesh",
    "packing",
    "model.attention",
    "model.keep_logits",
    "model.offload_reference",
    "model.remat",
    "rollout.slots",
    "rollout.tensor",
)


class Change(NamedTuple):
    """A setting of the workdir that the command has with another value."""

    name: str
    there: Any
    now: Any

    def __str__(self) -> str:
        return f"config.{self.name}: {self.there!r} there, {self.now!r} now"

    def among(self, names: tuple[str, ...]) -> bool:
        return self.name in names or self.name.split(".")[0] in names


class Facts(NamedTuple):
    """What a run keeps from its beginning.

    run        its id
    began      the day, as 2026-01-31
    revision   of the model, where it is one of the hub
    slots      that `rollout.slots="auto"` was last found to mean
    """

    run: str
    began: str
    revision: str | None = None
    slots: int | None = None

    @property
    def day(self) -> datetime.date:
        return datetime.date.fromisoformat(self.began)


def read_config(workdir: epath.Path, cls: type = config_lib.TrainConfig) -> Any:
    """The config, a `cls`, of the run in a workdir. Raises `UserError` where there is none."""
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} is not the workdir of a training run: it has no config.json")
    fields = _read_json(path)
    try:
        for section, name in _RETIRED:
            fields.get(section, {}).pop(name, None)
        return config_lib.from_dict(cls, fields)
    except (AttributeError, TypeError):
        raise UserError(f"{path}: these are not the settings of a run") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: expected a JSON object")
    return found


def check(workdir: epath.Path, config: Config, extend: bool = False) -> list[str]:
    """What a restart changes, in words, for the screen.

    extend   more steps are wanted, although a schedule follows them; of `sar_jax.train` alone

    Raises `UserError` where the workdir holds another config's run, or something else. `_FREE` and
    `_ROUNDING` may change between restarts; so may `steps`, unless the learning rate or the weight
    of the self-aligned reward follows them and `extend` is not set.
    """
    path = workdir / "config.json"
    if not path.is_file():
        if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
            raise UserError(
                f"{workdir} is not empty, and what it holds is not a run: choose another --workdir"
            )
        return []
    # Fields that are newer than the workdir have their defaults there.
    there = read_config(workdir, type(config))
    old, new = (leaves(json.loads(config_lib.to_json(c))) for c in (there, config))
    changes = [
        Change(name, old.get(name), new.get(name))
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]
    has_rewards = isinstance(config, config_lib.TrainConfig)
    constant = config.optimizer.final_lr_fraction == 1
    constant = constant and not (has_rewards and config.self_aligned.peak_at)
    free = (*_FREE, *_ROUNDING) + (("steps",) if constant else ())
    if extend and new["steps"] > old["steps"]:
        free += ("steps",)
    refused = [change for change in changes if not change.among(free)]
    if refused:
        hint = ""
        more = any(change.name == "steps" and change.now > change.there for change in refused)
        if has_rewards and more:
            hint = "; --extend allows more steps, and stretches the schedules to them"
        raise UserError(
            f"{workdir} holds a run with a different config ({'; '.join(map(str, refused))}): "
            f"choose another --workdir, or use the old settings to continue{hint}"
        )
    said = [f"changed since the last start: {change}" for change in changes]
    if any(change.among(_ROUNDING) for change in changes):
        said.append("sums are made in another order: numbers may differ in their last bits")
    return said


def claim(workdir: epath.Path, config: Config, facts: Facts) -> None:
    """Makes the workdir this config's; see `check`."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "config.json", config_lib.to_json(config))
    write_facts(workdir, facts)


def write_facts(workdir: epath.Path, facts: Facts) -> None:
    """Keeps them in the workdir; see `facts`."""
    write_atomically(workdir / "run.json", json.dumps(facts._asdict(), indent=2) + "\n")


def facts(workdir: epath.Path) -> Facts:
    """Of the run in a workdir, or of one that begins now.

    Raises `UserError` where its file is damaged.
    """
    path = workdir / "run.json"
    if path.is_dir():
        raise UserError(f"{path} is a folder: it must be the file that the run wrote, or not there")
    if not path.is_file():
        return Facts(_newest_run(workdir) or uuid.uuid4().hex, datetime.date.today().isoformat())
    fields = _read_json(path)
    try:
        slots = fields.get("slots")
        found = Facts(str(fields["run"]), fields["began"], fields.get("revision"), slots)
        if slots is not None and not (type(slots) is int and slots > 0):
            raise ValueError
        found.day  # noqa: B018   raises ValueError where it is none
        return found
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} is damaged: it must hold run, the run's id, began, a day, and "
            "slots, null or a number; put it back, or delete it, and the day of the last start "
            "takes the place of the first"
        ) from None


def _newest_run(workdir: epath.Path) -> str | None:
    """The id of the run that made the newest readable checkpoint."""
    folder = workdir / "checkpoints"
    for path in sorted(folder.glob("*/meta/metadata"), reverse=True) if folder.is_dir() else []:
        try:
            return json.loads(path.read_text())["run"]
        except (ValueError, KeyError, TypeError):
            continue
    return None


class Lines(NamedTuple):
    """metrics.jsonl. bad: the numbers of the lines, from 1, that are no step's metrics."""

    found: list[dict[str, float]]
    bad: list[int]


def read_lines(workdir: epath.Path) -> Lines:
    """All that can be read of metrics.jsonl; a last line that was cut off is not called bad."""
    path = workdir / "metrics.jsonl"
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    *whole, last = text.split("\n")
    lines: list[dict[str, float]] = []
    bad = []
    for number, line in enumerate([*whole, last], 1):
        values = _metrics_of(line)
        if values is not None:
            lines.append(values)
        elif number <= len(whole):
            bad.append(number)
    return Lines(lines, bad)


def _metrics_of(line: str) -> dict[str, float] | None:
    """What a line says; None where it is no step's metrics. JSON has no NaN: that is null there."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    numbers = lambda: all(isinstance(value, int | float | None) for value in values.values())
    if not isinstance(values, dict) or not isinstance(values.get("step"), int) or not numbers():
        return None
    return {name: math.nan if value is None else value for name, value in values.items()}


def as_line(step: int, values: dict[str, float]) -> str:
    """A line of metrics.jsonl, valid JSON: what is not finite is null."""
    known = {n: v if math.isfinite(v) else None for n, v in {"step": step, **values}.items()}
    return json.dumps(known, allow_nan=False) + "\n"


def read_metrics(workdir: epath.Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that can be read."""
    return read_lines(workdir).found


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted path."""
    return dict(_walk(tree, prefix))


def _walk(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _walk(value, f"{path}.")
        else:
            yield path, value
