"""Checkpoints (Orbax): one step's parameters, optimizer, data iterator and bookkeeping, written to
a temporary name and moved into place when complete, so the last good one survives a full disk or a
killed process.

    state   TrainState (parameters, moments, counts)        data   grain iterator state
    critic  the critic's TrainState, where there is one
    meta    the fingerprint of the questions: a resumed run must go on with the same ones; the adaptive alpha's state
Random keys are derived from seed and step, so they need no saving.
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
    """The checkpoints of one workdir. `save` returns at once; the files are complete after `wait`
    or the next save."""

    def __init__(self, workdir: epath.Path, keep: int = 1):
        self.folder = _folder(workdir)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, step_format_fixed_length=8
        )
        self.writing: int | None = None  # the step of the save that may still be under way
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        return self.manager.latest_step()

    def save(
        self,
        step: int,
        states: States,
        iterator: Any,
        questions: str,
        alpha: dict[str, Any] | None = None,
    ) -> None:
        """Starts writing the checkpoint of `step`, unless it stands already. Raises `UserError`
        where writing fails."""
        self.wait()
        if self.latest() == step:
            return
        self.writing = step
        try:
            critic = (
                {} if states.critic is None else {"critic": ocp.args.StandardSave(states.critic)}
            )
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(states.policy),
                    data=grain.checkpoint.CheckpointSave(iterator),
                    meta=ocp.args.JsonSave(
                        {"questions": questions} | ({"alpha": alpha} if alpha else {})
                    ),
                    **critic,
                ),
            )
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
        kept = (
            f"the checkpoint of step {good[-1]} is complete"
            if good
            else "there is no earlier checkpoint"
        )
        reason = re.search(
            r": ([^:]+) \[os_error_code", str(error)
        )  # tensorstore's words for what the system said
        reason = (
            reason.group(1)
            if reason
            else (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        )
        return UserError(
            f"the checkpoint of step {self.writing} could not be written to {self.folder} ({reason}); {kept}. "
            "Free some space and run the same command with the same --workdir to go on."
        )

    def restore(self, step: int, like: States, iterator: Any, questions: str) -> States:
        """The states of `step`, placed as `like` describes; `iterator` is set to where it was.

        Raises `UserError` where the checkpoint cannot be read, or the questions are not those of
        the run."""
        critic = {} if like.critic is None else {"critic": ocp.args.StandardRestore(like.critic)}
        try:
            restored = self.manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(like.policy),
                    data=grain.checkpoint.CheckpointRestore(iterator),
                    meta=ocp.args.JsonRestore(),
                    **critic,
                ),
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the checkpoint of step {step} in {self.folder} cannot be read: it is damaged, or of another "
                f"model ({(str(error).splitlines() or [type(error).__name__])[0][:200]})"
            ) from error
        if restored["meta"]["questions"] != questions:
            raise UserError(
                f"{self.folder.parent} was trained on other questions: the data under config.data.train has "
                "changed since; restore it, or choose another --workdir"
            )
        return States(restored["state"], restored["critic"] if critic else None)

    def meta(self, step: int) -> dict[str, Any]:
        """What `save` kept of `step` beside arrays and data; older checkpoints have less of it."""
        return self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))[
            "meta"
        ]

    def close(self) -> None:
        self.manager.close()


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
    """The model's parameters of a step (the latest by default), as `dtype`, placed by `shardings`;
    moments are not read.

    Where adapters were trained, the base is loaded from where the run had it, and they are added to
    it."""
    config, step = workdir_lib.read_config(workdir), pick_step(workdir, step)
    if not config.lora.rank:
        return _load_learnt(workdir, step, parameters.describe_params(cfg, shardings, dtype))
    adapted = lora.adapted(cfg, config.lora)
    mesh = shardings["embedding"].mesh
    adapters = _load_learnt(
        workdir,
        step,
        parameters.describe(
            lora.specs(adapted), sharding.param_shardings(lora.specs(adapted), mesh)
        ),
    )
    base = hf.load_params(download.locate(config.model.path), cfg, shardings, dtype)
    return jax.jit(functools.partial(lora.folded, adapted), out_shardings=shardings)(base, adapters)


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
    """Of a workdir's checkpoints, absolute as Orbax wants it; `resolve` would make a local path of
    a bucket's."""
    path = epath.Path(workdir)
    return (path if is_remote(path) else path.resolve()) / "checkpoints"


def _steps(folder: epath.Path) -> list[int]:
    """Of the complete checkpoints in a folder. In a bucket nothing can be moved into place: there a
    last file says so."""
    known = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return sorted(int(p.name) for p in known if ocp.utils.is_checkpoint_finalized(p))
