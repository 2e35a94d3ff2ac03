"""Checkpoints (Orbax): one step's parameters, optimizer, data iterator and bookkeeping, written to a temporary name and
moved into place when complete, so the last good one survives a full disk or a killed process.

    state   TrainState (parameters, moments, counts)        data   grain iterator state
    critic  the critic's TrainState, where there is one
    meta    the fingerprint of the questions: a resumed run must go on with the same ones; the adaptive alpha's state
Random keys are derived from seed and step, so they need no saving.
"""

import contextlib
import functools
import json
import re
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from etils import epath

from sar_jax import config as config_lib
from sar_jax import download, hf, lora, parameters, sharding
from sar_jax.errors import UserError
from sar_jax.learner import States


class Checkpoints:
    """The checkpoints of one workdir. `save` returns at once; the files are complete after `wait` or the next save."""

    def __init__(self, workdir: epath.Path, keep: int = 1):
        self.folder = _folder(workdir)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, step_format_fixed_length=8)
        self.writing: int | None = None   # the step of the save that may still be under way
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        return self.manager.latest_step()

    def save(self, step: int, states: States, iterator: Any, questions: str, alpha: dict[str, Any] | None = None) -> None:
        """Starts writing the checkpoint of `step`, unless it stands already. Raises `UserError` where writing fails."""
        self.wait()
        if self.latest() == step:
            return
        self.writing = step
        try:
            critic = {} if states.critic is None else {"critic": ocp.args.StandardSave(states.critic)}
            self.manager.save(step, args=ocp.args.Composite(
                state=ocp.args.StandardSave(states.policy), data=grain.checkpoint.CheckpointSave(iterator),
                meta=ocp.args.JsonSave({"questions": questions} | ({"alpha": alpha} if alpha else {})), **critic))
        except (OSError, ValueError, RuntimeError) as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Returns when every save is complete. Raises `UserError` where writing failed."""
        try:
            self.manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> UserError:
        for partial in self.folder.glob("*.orbax-checkpoint-tmp"):
            with contextlib.suppress(OSError):
                partial.rmtree()
        good = _steps(self.folder)
        kept = f"the checkpoint of step {good[-1]} is complete" if good else "there is no earlier checkpoint"
        reason = re.search(r": ([^:]+) \[os_error_code", str(error))   # tensorstore's words for what the system said
        reason = reason.group(1) if reason else (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return UserError(f"the checkpoint of step {self.writing} could not be written to {self.folder} ({reason}); {kept}. "
                         "Free some space and run the same command with the same --workdir to go on.")

    def restore(self, step: int, like: States, iterator: Any, questions: str) -> States:
        """The states of `step`, placed as `like` describes; `iterator` is set to where it was.

        Raises `UserError` where the checkpoint cannot be read, or the questions are not those of the run.
        """
        critic = {} if like.critic is None else {"critic": ocp.args.StandardRestore(like.critic)}
        try:
            restored = self.manager.restore(step, args=ocp.args.Composite(
                state=ocp.args.StandardRestore(like.policy), data=grain.checkpoint.CheckpointRestore(iterator),
                meta=ocp.args.JsonRestore(), **critic))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"the checkpoint of step {step} in {self.folder} cannot be read: it is damaged, or of another "
                            f"model ({(str(error).splitlines() or [type(error).__name__])[0][:200]})") from error
        if restored["meta"]["questions"] != questions:
            raise UserError(f"{self.folder.parent} was trained on other questions: the data under config.data.train has "
                            "changed since; restore it, or choose another --workdir")
        return States(restored["state"], restored["critic"] if critic else None)

    def meta(self, step: int) -> dict[str, Any]:
        """What `save` kept of `step` beside arrays and data; older checkpoints have less of it."""
        return self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def close(self) -> None:
        self.manager.close()


_RETIRED = (("rollout", "batch"),)   # fields of earlier versions, on which no weights depend


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


def pick_step(workdir: epath.Path, step: int | None) -> int:
    """`step`, or the latest. Raises `UserError` that lists the steps there are."""
    steps = _steps(workdir / "checkpoints")
    if not steps:
        raise UserError(f"{workdir} has no checkpoint yet")
    if step is not None and step not in steps:
        raise UserError(f"{workdir} has no checkpoint of step {step}; there are: {', '.join(map(str, steps))}")
    return steps[-1] if step is None else step


def load_params(workdir: epath.Path, step: int | None, cfg: parameters.ModelConfig, shardings: Any,
                dtype: str = "float32") -> parameters.Params:
    """The model's parameters of a step (the latest by default), as `dtype`, placed by `shardings`; moments are not read.

    Where adapters were trained, the base is loaded from where the run had it, and they are added to it.
    """
    config, step = read_config(workdir), pick_step(workdir, step)
    if not config.lora.rank:
        return _load_learnt(workdir, step, parameters.describe_params(cfg, shardings, dtype))
    adapted = lora.adapted(cfg, config.lora)
    mesh = shardings["embedding"].mesh
    adapters = _load_learnt(workdir, step, parameters.describe(
        lora.specs(adapted), sharding.param_shardings(lora.specs(adapted), mesh)))
    base = hf.load_params(download.locate(config.model.path), cfg, shardings, dtype)
    return jax.jit(functools.partial(lora.folded, adapted), out_shardings=shardings)(base, adapters)


def _load_learnt(workdir: epath.Path, step: int, like: parameters.Params) -> parameters.Params:
    args = ocp.args.PyTreeRestore(item={"params": like}, partial_restore=True,
                                  restore_args=ocp.checkpoint_utils.construct_restore_args({"params": like}))
    folder = _folder(workdir) / f"{step:08d}" / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(folder, args=args)["params"]


def check_workdir(workdir: epath.Path, config: config_lib.TrainConfig) -> None:
    """Raises `UserError` where the workdir holds a run with another config, or something that is no run.

    `steps`, `logging`, `checkpoint` and `guards` may change between restarts (`steps` not if the learning rate or the weight
    of the self-aligned reward follows them).
    """
    path = workdir / "config.json"
    if not path.is_file():
        if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
            raise UserError(f"{workdir} is not empty and holds no run: choose another --workdir")
        return
    # Fields that are newer than the workdir have their defaults there.
    old, new = (_leaves(json.loads(config_lib.to_json(c))) for c in (read_config(workdir), config))
    constant = config.optimizer.final_lr_fraction == 1 and config.self_aligned.peak_at == 0
    free = {"logging", "checkpoint", "guards"} | ({"steps"} if constant else set())
    differ = sorted(n for n in old | new if n.split(".")[0] not in free and old.get(n) != new.get(n))
    if differ:
        changes = "; ".join(f"config.{n}: {old.get(n)!r} there, {new.get(n)!r} now" for n in differ)
        raise UserError(f"{workdir} holds a run with another config ({changes}): choose another --workdir, or "
                        "the old settings to resume")


def claim(workdir: epath.Path, config: config_lib.TrainConfig) -> None:
    """Makes the workdir this config's; see `check_workdir`."""
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


def write_atomically(path: epath.Path, text: str) -> None:
    """The file holds the old text or the new one, whatever happens meanwhile. In a bucket every write is like that."""
    if is_remote(path):
        path.write_text(text)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _folder(workdir: epath.Path) -> epath.Path:
    """Of a workdir's checkpoints, absolute as Orbax wants it; `resolve` would make a local path of a bucket's."""
    path = epath.Path(workdir)
    return (path if is_remote(path) else path.resolve()) / "checkpoints"


def _steps(folder: epath.Path) -> list[int]:
    """Of the complete checkpoints in a folder. In a bucket nothing can be moved into place: there a last file says so."""
    known = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return sorted(int(p.name) for p in known if ocp.utils.is_checkpoint_finalized(p))


def is_remote(path: Any) -> bool:
    """Is it in a bucket (gs://...), where a file can be written whole, but not appended to?"""
    return "://" in str(path)


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted path."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
