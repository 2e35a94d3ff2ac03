"""How every command starts: flags, `--help`, and each error as one clear line.

An error ends the command with a non-zero exit status.
"""

import errno
import inspect
import pathlib
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from sar_jax import fields
from sar_jax.errors import UserError
from sar_jax.parallel import memory, multihost, outputs

# An override of a field that takes only some values is read as text; `checks` knows the values.
config_flags.register_flag_parser_for_type(typing.Literal, flags.ArgumentParser())

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def config_flag(cls: type) -> Callable[[], Any]:
    """Defines `--config=FILE [--config.any.field=value]`.

    Returns a function that gives the config, a `cls`, once the command line has been read. It
    raises `UserError` where there is none.
    """
    holder = config_flags.DEFINE_config_file(
        "config",
        help_string="Python file whose get_config() returns the configuration. Override any field: "
        "--config.optimizer.lr=2e-6",
    )
    flags.FLAGS["config"].parser = _ConfigParser(cls)

    def get() -> Any:
        if holder.value is None:
            raise UserError(
                "--config is missing: give a configuration file, for example "
                "--config=configs/tiny.py"
            )
        return holder.value

    return get


class _ConfigParser(flags.ArgumentParser):
    """Takes the place of `config_flags`' own, whose errors are tracebacks."""

    def __init__(self, cls: type):
        self.cls = cls

    def parse(self, argument: str) -> Any:
        """The config of a file; overrides of its fields must name some."""
        config = load_config(argument, self.cls)
        for word in flags.FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=False):
            if override := re.match(r"--?(?:no)?config\.([^=]*)", word):
                fields.check_path(self.cls, override[1])
        return config

    def flag_type(self) -> str:
        return "config file"


def load_config(argument: str, cls: type) -> Any:
    """What `get_config()` of a Python file returns, a `cls`.

    argument   the file; with a text for get_config after a colon, "FILE:TEXT"

    Raises `UserError` that names the file and, for what it does, the line.
    """
    path, colon, given = argument.partition(":")
    file, words = pathlib.Path(path), [given] if colon else []
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is no file" if file.exists() else ""
        raise UserError(f"--config: {path}: {what}" if what else f"--config: no such file: {path}")
    module = types.ModuleType("config_file")
    module.__file__ = path
    sys.modules[module.__name__] = module  # where a dataclass looks for its own
    try:
        # compiled here and not imported: nothing stale is read, and nothing written
        exec(compile(file.read_bytes(), path, "exec"), vars(module))
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise UserError(f"--config: {path}: it defines no function get_config()")
        _check_arguments(path, get_config, words)
        config = get_config(*words)
    except (Exception, SystemExit) as error:
        if isinstance(error, UserError) and str(error).startswith("--config: "):
            raise
        raise UserError(f"--config: {_place(error, path)}{_said(error)}") from None
    if not isinstance(config, cls):
        hint = "; does it end without `return`?" if config is None else ""
        raise UserError(
            f"--config: {path}: get_config() must return a {cls.__name__}, not "
            f"{'None' if config is None else 'a ' + type(config).__name__}{hint}"
        )
    return config


def _check_arguments(path: str, get_config: Callable[..., Any], words: list[str]) -> None:
    try:
        inspect.signature(get_config).bind(*words)
    except TypeError as error:
        hint = "takes no text" if words else "needs a text: give --config=FILE:TEXT"
        raise UserError(f"--config: {path}: get_config() {hint} ({error})") from None
    except ValueError:  # a callable without a signature
        return


def _place(error: BaseException, path: str) -> str:
    """The file, with the line of it in which an error arose."""
    if isinstance(error, SyntaxError) and error.filename == path and error.lineno:
        return f"{path}, line {error.lineno}: "
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    return f"{path}, line {lines[-1]}: " if lines else f"{path}: "


def _said(error: BaseException) -> str:
    """An error's own words, in one line."""
    if isinstance(error, UserError):
        return str(error)
    said = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def run(main: Callable[..., int | None], usage: str, words: bool = False) -> None:
    """Parses the command line, runs `main`, and ends the process.

    main    returns the exit status, or None for 0
    usage   what `--help` shows before the options
    words   `main` takes the list of the arguments that are no options; otherwise there may be none

    A `UserError`, a wrong flag and an error of the system end it with status 2 and one line on
    stderr, Ctrl-C with 130.
    """
    sys.modules["__main__"].__doc__ = usage
    outputs.outlive()
    app.define_help_flags()
    try:
        # in place: the flags of a config read it again
        sys.argv[1:] = map(_at_home, sys.argv[1:])
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


def _at_home(word: str) -> str:
    """The word with the folder for its "~/", which a shell leaves in --workdir=~/runs."""
    return re.sub(r"(?:^|(?<==))~(?=/)", lambda _: str(pathlib.Path.home()), word)


def refuse_words(words: list[str]) -> None:
    """Raises `UserError` for an argument that is no option."""
    if words:
        raise UserError(
            f"unexpected argument {words[0]!r}: options look like --name=value (see --help)"
        )


def _fail(message: str) -> None:
    multihost.end(2, f"error: {' '.join(message.splitlines())}")
    sys.exit(2)
