"""A supervised training that has not ended: the folder beside its output, from which it goes on.

    OUTPUT.unfinished/   config.json, run.json, lock, checkpoints/, as in a workdir

It stays after a stop, or an error, where it holds a checkpoint.
"""

import datetime
import pathlib
import uuid
from typing import Any

from etils import epath

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.parallel import multihost
from sar_jax.training.storage import saved
from sar_jax.training.storage import workdir as workdir_lib
from sar_jax.training.storage.checkpoints import Checkpoints
from sar_jax.training.storage.identity import Identity
from sar_jax.training.storage.lock import Lock
from sar_jax.training.storage.workdir import Facts


class Unfinished:
    """The folder of the training that writes `output`, while the block runs.

    facts   of its first start, where there is something to go on from; else of this one

    Entering raises `UserError` where another process trains there, or where a checkpoint is that of
    another config. In the messages of what is used here `--workdir` is `--output`.
    """

    def __init__(self, output: pathlib.Path, config: config_lib.PretrainConfig):
        output = output.absolute()
        self.folder = epath.Path(output.with_name(f"{output.name}.unfinished"))
        self.config, self.lock = config, Lock(self.folder)
        self.checkpoints: Checkpoints | None = None
        self.is_ours = self.is_done = False

    def __enter__(self) -> "Unfinished":
        try:
            self.facts = Facts(*multihost.first(lambda: list(self._read())))
        except UserError as error:
            raise _in_its_words(error) from error
        return self

    def _read(self) -> Facts:
        if (self.folder / "config.json").is_file():
            self.lock.take()
            self.is_ours = True
        if self.is_ours and not self._has_checkpoint():  # of a start that came to nothing
            return Facts(uuid.uuid4().hex, datetime.date.today().isoformat())
        for line in workdir_lib.check(self.folder, self.config):
            print(line, flush=True)
        facts = workdir_lib.facts(self.folder)
        if not self.is_ours:
            return facts
        there = workdir_lib.read_config(self.folder, config_lib.PretrainConfig)
        same = there.model.path == self.config.model.path
        return facts if same else facts._replace(revision=None)

    def _has_checkpoint(self) -> bool:
        return bool(saved.steps(saved.folder_of(self.folder)))

    def claim(self, model: dict[str, str], examples: str, revision: str | None) -> Checkpoints:
        """The checkpoints in the folder, which is made.

        model      digests of the model to begin with (`identity.of_model`); empty from scratch
        examples   fingerprint of what is learnt
        revision   of the model, where it is one of the hub
        """
        facts = self.facts._replace(revision=revision)
        multihost.first(lambda: self._claim(facts))
        own, cfg = Identity(facts.run, model, examples), self.config.checkpoint
        self.checkpoints = Checkpoints(self.folder, own, cfg.keep, cfg.retry_seconds)
        return self.checkpoints

    def _claim(self, facts: Facts) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock.take()
        self.is_ours = True
        workdir_lib.claim(self.folder, self.config, facts)

    def finish(self) -> None:
        """The output is written: nothing is left to go on with."""
        self.is_done = True

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self.checkpoints is not None:
            self.checkpoints.close()
        if self.is_ours and (self.is_done or not self._has_checkpoint()):
            self.folder.rmtree(missing_ok=True)
        self.lock.release()
        if isinstance(error, UserError):
            raise _in_its_words(error) from error


def _in_its_words(error: UserError) -> UserError:
    return UserError(str(error).replace("--workdir", "--output"))
