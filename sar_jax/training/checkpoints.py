"""Checkpoints (Orbax): one step's parameters, optimizer, data iterator and bookkeeping.

    state    TrainState: parameters, moments, counts
    critic   the critic's TrainState, where there is one
    data     the state of grain's iterator
    meta     the fingerprint of the questions, since a resumed run must continue with the same ones;
             the adaptive alpha's state

Each is written to a temporary name and moved into place when complete, so the last good one
survives a full disk or a killed process. Random keys are derived from seed and step, so they need
no saving.
"""

import contextlib
import functools
import re
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from etils import epath

from sar_jax.errors import UserError
from sar_jax.files import is_remote
from sar_jax.model import download, hf, lora, parameters
from sar_jax.parallel import sharding
from sar_jax.training import workdir as workdir_lib
from sar_jax.training.learner import States


class Checkpoints:
    """The checkpoints of one workdir.

    `save` returns at once; the files are complete after `wait` or the next save.
    """

    def __init__(self, workdir: epath.Path, keep: int = 1):
        self.folder = _folder(workdir)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, step_format_fixed_length=8
        )
        self.writing: int | None = None  # the step of the save that may still be under way
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self.manager.latest_step()

    def save(
        self,
        step: int,
        states: States,
        iterator: Any,
        questions: str,
        alpha: dict[str, Any] | None = None,
    ) -> None:
        """Starts writing the checkpoint of `step`, unless it is there already.

        questions   fingerprint of the training data
        alpha       state of the adaptive weight, if there is one

        Raises `UserError` where writing fails.
        """
        self.wait()
        if self.latest() == step:
            return
        self.writing = step
        meta = {"questions": questions} | ({"alpha": alpha} if alpha else {})
        items = {
            "state": ocp.args.StandardSave(states.policy),
            "data": grain.checkpoint.CheckpointSave(iterator),
            "meta": ocp.args.JsonSave(meta),
        }
        if states.critic is not None:
            items["critic"] = ocp.args.StandardSave(states.critic)
        try:
            self.manager.save(step, args=ocp.args.Composite(**items))
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
        good, kept = _steps(self.folder), "there is no earlier checkpoint"
        if good:
            kept = f"the checkpoint of step {good[-1]} is complete"
        # tensorstore's words for what the system said
        system = re.search(r": ([^:]+) \[os_error_code", str(error))
        reason = system.group(1) if system else first_line(error)
        return UserError(
            f"the checkpoint of step {self.writing} could not be written to {self.folder} "
            f"({reason}); {kept}. Free some space and run the same command with the same "
            "--workdir to continue."
        )

    def restore(self, step: int, like: States, iterator: Any, questions: str) -> States:
        """The states of `step`, placed as `like` describes; `iterator` is set to where it was.

        questions   fingerprint of the training data

        Raises `UserError` where the checkpoint cannot be read, or the questions are not those of
        the run.
        """
        items = {
            "state": ocp.args.StandardRestore(like.policy),
            "data": grain.checkpoint.CheckpointRestore(iterator),
            "meta": ocp.args.JsonRestore(),
        }
        if like.critic is not None:
            items["critic"] = ocp.args.StandardRestore(like.critic)
        try:
            restored = self.manager.restore(step, args=ocp.args.Composite(**items))
        except (OSError, ValueError, KeyError) as error:
            raise unreadable(step, self.folder, error) from error
        if restored["meta"]["questions"] != questions:
            raise UserError(
                f"{self.folder.parent} was trained on different questions: the data of "
                "config.data.train has changed since then; restore it, or choose another --workdir"
            )
        return States(restored["state"], restored["critic"] if "critic" in items else None)

    def meta(self, step: int) -> dict[str, Any]:
        """What `save` kept of `step` besides arrays and data; older checkpoints have less of it."""
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self.manager.restore(step, args=args)["meta"]

    def close(self) -> None:
        self.manager.close()


def first_line(error: Exception) -> str:
    """What an error says, in short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def unreadable(step: int, where: epath.Path, error: Exception) -> UserError:
    """What a user reads where a checkpoint does not load."""
    return UserError(
        f"the checkpoint of step {step} in {where} cannot be read: it is damaged or belongs to "
        f"another model ({first_line(error)})"
    )


def pick_step(workdir: epath.Path, step: int | None) -> int:
    """`step`, or the latest. Raises `UserError` that lists the steps there are."""
    steps = _steps(workdir / "checkpoints")
    if not steps:
        raise UserError(f"{workdir} has no checkpoint yet")
    if step is not None and step not in steps:
        raise UserError(
            f"{workdir} has no checkpoint of step {step}; there are: {', '.join(map(str, steps))}"
        )
    return steps[-1] if step is None else step


def load_params(
    workdir: epath.Path,
    step: int | None,
    cfg: parameters.ModelConfig,
    shardings: Any,
    dtype: str = "float32",
) -> parameters.Params:
    """The model's parameters of a step, by default the latest; moments are not read.

    cfg         the model, without adapters
    shardings   a tree like the parameters, of where they go
    dtype       of the arrays

    Where adapters were trained, the base is loaded from where the run had it, and they are added to
    it.
    """
    config, step = workdir_lib.read_config(workdir), pick_step(workdir, step)
    if not config.lora.rank:
        return _load_learnt(workdir, step, parameters.describe_params(cfg, shardings, dtype))
    adapted = lora.adapted(cfg, config.lora)
    mesh = shardings["embedding"].mesh
    specs = lora.specs(adapted)
    described = parameters.describe(specs, sharding.param_shardings(specs, mesh))
    adapters = _load_learnt(workdir, step, described)
    base = hf.load_params(download.locate(config.model.path), cfg, shardings, dtype)
    fold = jax.jit(functools.partial(lora.folded, adapted), out_shardings=shardings)
    return fold(base, adapters)


def _load_learnt(workdir: epath.Path, step: int, like: parameters.Params) -> parameters.Params:
    args = ocp.args.PyTreeRestore(
        item={"params": like},
        partial_restore=True,
        restore_args=ocp.checkpoint_utils.construct_restore_args({"params": like}),
    )
    folder = _folder(workdir) / f"{step:08d}" / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(folder, args=args)["params"]


def _folder(workdir: epath.Path) -> epath.Path:
    """Of a workdir's checkpoints, absolute as Orbax wants it.

    `resolve` would make a local path of a bucket's.
    """
    path = epath.Path(workdir)
    return (path if is_remote(path) else path.resolve()) / "checkpoints"


def _steps(folder: epath.Path) -> list[int]:
    """Of the complete checkpoints in a folder.

    In a bucket nothing can be moved into place: there a last file says so.
    """
    known = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return sorted(int(p.name) for p in known if ocp.utils.is_checkpoint_finalized(p))
