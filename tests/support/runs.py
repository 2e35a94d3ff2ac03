"""A run in this process, without its loop."""

import contextlib
import pathlib
from collections.abc import Iterator

from etils import epath

from sar_jax.config import TrainConfig
from sar_jax.training.setup import Started, setup
from sar_jax.training.storage.lock import Lock


@contextlib.contextmanager
def begun(config: TrainConfig, workdir: pathlib.Path) -> Iterator[Started]:
    """Set up as a command does, and closed at the end."""
    folder = epath.Path(workdir)
    started = setup(config, folder, Lock(folder))
    run = started.run
    try:
        yield started
    finally:
        for part in (run.tools.verifier, run.checkpoints, run.metrics):
            part.close()
