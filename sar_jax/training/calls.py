"""Calls from Python: the config that they take, and the errors that they raise."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.parallel import memory


def as_config(given: Any, load: Callable[[str, type], Any]) -> TrainConfig:
    """The config that was given, or that of the file whose path it is.

    load   reads a file: (path, class) -> config

    Raises `UserError` for anything else.
    """
    if isinstance(given, str | os.PathLike):
        return load(os.path.expanduser(os.fspath(given)), TrainConfig)
    if not isinstance(given, TrainConfig):
        raise UserError(
            f"config is a {type(given).__name__}: give a TrainConfig, or the path of a config file"
        )
    return given


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Errors of the block that a user can mend become `UserError`; all others stay as they are.

    Those are: `UserError` itself, in which --NAME becomes NAME, since options are arguments here;
    memory that is too small, and what the system refuses, such as a write to a full disk.
    """
    found = None
    try:
        yield
    except UserError as error:
        found = str(error)
    except MemoryError as error:
        found = f"this machine's memory is too small: {str(error) or 'nothing more is known'}"
    except OSError as error:
        if error.strerror is None:
            raise
        found = f"{error.filename or 'a file'}: {error.strerror}"
    except Exception as error:
        if not memory.is_exhausted(error):
            raise
        found = memory.explain(str(error), memory.stage_of(error))
    # out here: an error that came with the first one would keep its arrays on the devices
    if found is not None:
        raise UserError(re.sub(r"(?<![\w-])--(?=[a-z])", "", " ".join(found.splitlines())))
