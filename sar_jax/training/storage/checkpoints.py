"""Checkpoints (Orbax): one step's parameters, optimizer, data iterator and bookkeeping.

    state        TrainState: parameters, moments, counts
    critic       the critic's TrainState, where there is one
    data         how far the data iterator is, which is the same for every number of processes
    meta         whose checkpoint it is (`identity`), the adaptive alpha's state, and digests of
                 everything above
    files.json   size of each file of the folder

Each step is written to a temporary name and moved into place when complete, so the last good one
survives a full disk or a killed process. What is read is compared with the digests. Random keys are
derived from seed and step, so they need no saving.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath

from sar_jax.errors import UserError
from sar_jax.files import persistently
from sar_jax.parallel import multihost
from sar_jax.training.learner import States
from sar_jax.training.storage import digests, saved
from sar_jax.training.storage.identity import Identity


class Resumed(NamedTuple):
    """What a run goes on with. alpha: state of the adaptive weight, if there is one."""

    states: States
    step: int
    alpha: dict[str, Any] | None


class Checkpoints:
    """The checkpoints of one workdir.

    `save` returns at once; the files are complete after `wait` or the next save.

    keep      how many stay
    own       whose checkpoints these are; others are not read
    patience  seconds for which a save is tried again where the disk is full or the bucket away

    Raises `UserError` where the folder cannot be used. What a killed process or another program
    left in it under a step's name, without a complete checkpoint, is put aside.
    """

    def __init__(self, workdir: epath.Path, own: Identity, keep: int = 1, patience: float = 0):
        self.folder, self.own = saved.folder_of(workdir), own
        self.keep, self.patience = keep, patience
        self.writing: int | None = None  # the step of the save that may still be under way
        self.error: Exception | None = None  # of that save, not told yet
        multihost.first(self._tidy)
        self.manager = self._make_manager()

    def _make_manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep,
            create=True,
            step_format_fixed_length=8,
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._list_files),
        )
        try:
            return ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise UserError(
                f"{self.folder}: {error.strerror or saved.first_line(error)}"
            ) from error

    def _list_files(self) -> None:
        """Before a step is moved into place; on a bucket, before it is called complete."""
        if multihost.is_first():
            name = f"{self.writing:08d}"
            partial = self.folder / f"{name}.orbax-checkpoint-tmp"
            digests.write_files(partial if partial.is_dir() else self.folder / name)

    def _tidy(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file: checkpoints need a folder of this name")
        for path in self.folder.iterdir() if self.folder.is_dir() else []:
            if path.name.isdigit() and not saved.is_complete(path):
                self._put_aside(path, f"{path} holds no complete checkpoint")

    def _put_aside(self, path: epath.Path, why: str) -> None:
        """Out of Orbax's sight, and kept."""
        aside = self.folder.parent / "damaged"
        aside.mkdir(exist_ok=True)
        taken = [int(p.name.partition("-")[2]) for p in aside.glob(f"{path.name}-*")]
        target = aside / f"{path.name}-{max(taken, default=0) + 1}"
        path.rename(target)
        print(f"warning: {why}; it was moved to {target}", flush=True)

    def compile(self, states: States) -> None:
        """Compiles what a save runs, so that the first one does not hold a step up."""
        digests.of_arrays(_named(states))

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self.manager.latest_step()

    def save(
        self,
        step: int,
        states: States,
        iterator: Any,
        alpha: dict[str, Any] | None = None,
        last: bool = False,
    ) -> None:
        """Starts writing the checkpoint of `step`, unless it is there already.

        alpha   state of the adaptive weight, if there is one
        last    returns when it is complete

        A save that fails is tried again for as long as `patience` says. Where the one before has
        failed unseen, this one takes its place. Raises `UserError` where writing fails.
        """
        trouble = _trouble(self.wait)  # of the save before
        if trouble is None and self.latest() == step:
            return
        start = lambda: self._start(step, states, iterator, alpha)
        if trouble is None and not last:
            trouble = _trouble(start)
            if trouble is None:
                return
        elif trouble is not None:
            print(f"warning: {trouble} Now step {step} is tried.", flush=True)
        persistently(lambda: (start(), self.wait()), self.patience, self.folder)

    def _start(
        self, step: int, states: States, iterator: Any, alpha: dict[str, Any] | None
    ) -> None:
        self.writing = step
        named = _named(states)
        data = iterator.get_state()
        meta = {
            **self.own._asdict(),
            "alpha": alpha,
            "arrays": digests.of_arrays(named),
            "data": digests.of_value(data),
            "processes": jax.process_count(),
        }
        meta["digest"] = digests.of_value(meta)
        items = {name: ocp.args.StandardSave(state) for name, state in named.items()}
        items |= {"data": ocp.args.JsonSave(data), "meta": ocp.args.JsonSave(meta)}
        try:
            self.manager.save(step, args=ocp.args.Composite(**items))
        except Exception as error:  # OSError, and what Orbax and tensorstore make of it
            raise self._failed(error) from error

    def has_failed(self) -> bool:
        """Has the save under way ended in an error, of which the next one tells? Does not wait."""
        if self.error is None and not self.manager.is_saving_in_progress():
            try:
                self.manager.wait_until_finished()
            except Exception as error:  # Orbax raises it once
                self.error = error
        return self.error is not None

    def wait(self) -> None:
        """Returns when every save is complete. Raises `UserError` where writing failed."""
        error, self.error = self.error, None
        try:
            if error:
                raise error
            self.manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> UserError:
        with contextlib.suppress(Exception):  # it says again what has been said
            self.manager.close()
        for partial in self.folder.glob("*.orbax-checkpoint-tmp"):
            with contextlib.suppress(OSError):
                partial.rmtree()
        self.manager = self._make_manager()
        good, kept = saved.steps(self.folder), "there is no earlier checkpoint"
        if good:
            kept = f"the checkpoint of step {good[-1]} is complete"
        return UserError(
            f"the checkpoint of step {self.writing} could not be written to {self.folder} "
            f"({_reason(error)}); {kept}. Free some space and run the same command with the same "
            "--workdir to continue."
        )

    def resume(self, like: States, iterator: Any) -> Resumed | None:
        """The newest checkpoint that is what was written; None where there is none.

        like       describes the states and where they go
        iterator   is set to where it was

        Damaged ones are named, put aside, and kept. Raises `UserError` where no other is left, or
        where the model or the questions are not those of the run.
        """
        damaged: list[tuple[int, str]] = []
        for step in reversed(saved.steps(self.folder)):
            found = self._read(step, like, iterator)
            if not isinstance(found, str):
                break
            damaged.append((step, found))
        else:
            if not damaged:
                return None
            raise UserError(
                f"{damaged[0][1]}, and there is no earlier checkpoint that can be read: put the "
                "file back, or choose another --workdir to begin anew"
            )
        multihost.first(lambda: [self._put_aside(self.folder / f"{s:08d}", p) for s, p in damaged])
        if damaged:
            self.manager.reload()
        return found

    def _read(self, step: int, like: States, iterator: Any) -> Resumed | str:
        """A checkpoint, or what is wrong with it, on every process."""
        folder = self.folder / f"{step:08d}"
        problem = multihost.first(
            lambda: saved.damage(folder) or self.own.foreign(saved.read_meta(folder))
        )
        if problem:
            return saved.damaged(step, problem)
        meta = multihost.first(lambda: saved.read_meta(folder))
        self.own.check(meta, self.folder.parent)
        wanted = _named(like)
        items = {name: ocp.args.StandardRestore(state) for name, state in wanted.items()}
        restored, problem = None, None
        try:
            restored = self.manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # of many kinds: what is damaged can fail anywhere
            problem = f"{folder / 'state'} cannot be read ({saved.first_line(error)})"
        problem = next(filter(None, multihost.gather(problem)), None)
        if problem is None:
            problem = saved.differing(folder, meta, {name: restored[name] for name in wanted})
        if problem:
            return saved.damaged(step, problem)
        iterator.set_state(multihost.first(lambda: saved.read_data(folder)))
        before, now = meta.get("processes"), jax.process_count()
        if before not in (None, now):
            print(
                f"{before} process(es) saved step {step}, and {now} go on: sums are made in "
                "another order, numbers may differ in their last bits",
                flush=True,
            )
        return Resumed(States(restored["state"], restored.get("critic")), step, meta.get("alpha"))

    def close(self) -> None:
        self.manager.close()


def _trouble(write: Callable[[], None]) -> UserError | None:
    """What writing ends in; None where it succeeds."""
    try:
        write()
    except UserError as error:
        return error
    return None


def _named(states: States) -> dict[str, Any]:
    """By the names of the checkpoint's parts."""
    return {"state": states.policy} | ({"critic": states.critic} if states.critic else {})


def _reason(error: BaseException) -> str:
    """What the system said, wherever it is among an error's causes; else the error's first line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        system = re.search(r": ([^:]+) \[os_error_code", str(cause))  # tensorstore's words
        if system:
            return system.group(1)
        cause = cause.__cause__ or cause.__context__
    return saved.first_line(error)
