"""Calls from Python: the config that they take, and the errors that they raise."""

import functools
import inspect
import os
import re
import sys
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.parallel import memory
from sar_jax.training.settings import config_files, derived

P, R = ParamSpec("P"), TypeVar("R")


def one_line(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose errors that a user can mend are `UserError`; all others stay.

    Those are: `UserError` itself, in which --NAME becomes NAME, since options are arguments here;
    memory that is too small, and what the system refuses, such as a write to a full disk.
    """

    @functools.wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except UserError as error:
            said = str(error)
        except MemoryError as error:
            said = f"this machine's memory is too small: {str(error) or 'nothing more is known'}"
        except OSError as error:
            if error.strerror is None:
                raise
            said = f"{error.filename or 'a file'}: {error.strerror}"
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
            said = memory.explain(str(error), memory.stage_of(error))
        # out here: the first error, as this one's context, would keep its arrays on the devices
        raise UserError(re.sub(r"(?<![\w-])--(?=[a-z])", "", " ".join(said.splitlines())))

    return called


def make_callable(module: str, function: Callable[..., Any]) -> None:
    """Calls of a module are from now on those of its function of the same name.

    module   a name in `sys.modules`; whoever imports it has it in the place of the function
    """

    class Called(types.ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return function(*arguments, **options)

    found = sys.modules[module]
    found.__class__ = Called
    found.__signature__ = inspect.signature(function)


@one_line
def as_config(given: Any) -> TrainConfig:
    """The config that was given, or that of the file whose path it is.

    Raises `UserError` for anything else.
    """
    if isinstance(given, str | os.PathLike):
        path = os.path.expanduser(os.fspath(given))
        return derived.spelled_out(config_files.load_config(path, TrainConfig))
    if not isinstance(given, TrainConfig):
        raise UserError(
            f"config is a {type(given).__name__}: give a TrainConfig, or the path of a config file"
        )
    return derived.spelled_out(given)
