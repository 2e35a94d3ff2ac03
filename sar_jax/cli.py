"""How every command starts: flags, `--help`, and each error as one clear line.

An error ends the command with a non-zero exit status.
"""

import errno
import pathlib
import sys
import typing
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from sar_jax.errors import UserError
from sar_jax.parallel import memory, multihost

# An override of a field that takes only some values is read as text; `checks` knows the values.
config_flags.register_flag_parser_for_type(typing.Literal, flags.ArgumentParser())

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def config_flag(cls: type) -> Callable[[], Any]:
    """Defines `--config=FILE [--config.any.field=value]`.

    Returns a function that gives the config, a `cls`, once the command line has been read. It
    raises `UserError` where there is none, or another one.
    """
    holder = config_flags.DEFINE_config_file(
        "config",
        help_string="Python file whose get_config() returns the configuration. Override any field: "
        "--config.optimizer.lr=2e-6",
    )

    def get() -> Any:
        try:
            config = holder.value
        except Exception as error:  # the file ran and failed: absl kept the exception until now
            raise UserError(f"--config: {type(error).__name__}: {error}") from None
        if config is None:
            raise UserError(
                "--config is missing: give a configuration file, for example "
                "--config=configs/tiny.py"
            )
        # config_flags puts an object of this class in the place of a file that it could not read
        if type(config).__name__ == "_ErrorConfig":
            raise UserError(_unreadable(config._error))
        if not isinstance(config, cls):
            raise UserError(
                f"--config: get_config() must return a {cls.__name__}, not a "
                f"{type(config).__name__}"
            )
        return config

    return get


def run(main: Callable[..., int | None], usage: str, words: bool = False) -> None:
    """Parses the command line, runs `main`, and ends the process.

    main    returns the exit status, or None for 0
    usage   what `--help` shows before the options
    words   `main` takes the list of the arguments that are no options; otherwise there may be none

    A `UserError`, a wrong flag and an error of the system end it with status 2 and one line on
    stderr, Ctrl-C with 130.
    """
    sys.modules["__main__"].__doc__ = usage
    app.define_help_flags()
    try:
        rest = flags.FLAGS(sys.argv)
        if not flags.FLAGS["verbosity"].present:
            # libraries log tracebacks of errors that they also raise
            logging.set_verbosity(logging.FATAL)
        if not words:
            refuse_words(rest[1:])
        status = main(rest[1:]) if words else main()
    except (flags.Error, UserError) as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"this machine's memory is too small: {str(error) or 'nothing more is known'}")
    except Exception as error:
        if isinstance(error, (KeyError, ValueError, TypeError, OSError)) and _from_flags(error):
            _fail(_unreadable(error))
        if memory.is_exhausted(error):
            _fail(memory.explain(str(error), memory.stage_of(error)))
        if not isinstance(error, OSError) or error.strerror is None:
            raise
        hint = ""
        if error.errno in _FULL:
            hint = (
                "; everything written before is intact. Free some space and run the same command "
                "again"
            )
        _fail(f"{error.filename or 'a file'}: {error.strerror}{hint}")
    except KeyboardInterrupt:
        multihost.end(130, "interrupted; everything that was complete is kept")
        sys.exit(130)
    else:
        multihost.leave(status or 0)
        sys.exit(status or 0)


def refuse_words(words: list[str]) -> None:
    """Raises `UserError` for an argument that is no option."""
    if words:
        raise UserError(
            f"unexpected argument {words[0]!r}: options look like --name=value (see --help)"
        )


def _from_flags(error: BaseException) -> bool:
    """Was it raised while config_flags read the configuration file or an override?"""
    frame = error.__traceback__
    while frame:
        if "config_flags" in frame.tb_frame.f_code.co_filename:
            return True
        frame = frame.tb_next
    return False


def _unreadable(error: BaseException) -> str:
    """What is wrong with the configuration file, or with an override of one of its fields."""
    argument = _config_argument()
    path = argument.partition(":")[0]  # what follows is handed to get_config
    if argument and not pathlib.Path(path).exists():
        return f"--config: no such file: {path}"
    # the message of an unreadable file is wrapped, that of a failing one is a whole traceback
    return f"--config: {str(error.__cause__ or error).strip().splitlines()[-1].strip()}"


def _config_argument() -> str:
    """The last --config=FILE, or --config FILE, of the command line; empty without one."""
    names = ("--config", "-config")
    found = ""
    for word, after in zip(sys.argv[1:], [*sys.argv[2:], ""]):
        name, is_joined, value = word.partition("=")
        if name in names:
            found = value if is_joined else after
    return found


def _fail(message: str) -> None:
    multihost.end(2, f"error: {message}")
    sys.exit(2)
