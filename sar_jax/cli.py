"""How every command starts: flags, `--help`, and errors as one clear line with a non-zero exit status."""

import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from sar_jax.errors import UserError


def config_flag(cls: type) -> Callable[[], Any]:
    """Defines `--config=FILE [--config.any.field=value]`; call the result after parsing for the config, a `cls`."""
    holder = config_flags.DEFINE_config_file(
        "config", help_string="Python file whose get_config() returns the configuration. Override any field: "
        "--config.optimizer.lr=2e-6")

    def get() -> Any:
        try:
            config = holder.value
        except Exception as error:   # the file ran and failed, or is not there: absl kept the exception until now
            raise UserError(f"--config: {error}") from None
        if config is None:
            raise UserError("--config is missing: give a configuration file, for example --config=configs/tiny.py")
        if not isinstance(config, cls):
            raise UserError(f"--config: get_config() must return a {cls.__name__}, not a {type(config).__name__}")
        return config

    return get


def run(main: Callable[[], int | None], usage: str) -> None:
    """Parses the command line and runs `main`; exits 2 with one line on a `UserError` or a wrong flag."""
    sys.modules["__main__"].__doc__ = usage
    app.define_help_flags()
    try:
        rest = flags.FLAGS(sys.argv)
        if len(rest) > 1:
            raise UserError(f"unexpected argument {rest[1]!r}: options look like --name=value (see --help)")
        status = main()
    except (flags.Error, UserError) as error:
        _fail(str(error))
    except (KeyError, ValueError, TypeError) as error:
        if not _from_flags(error):
            raise
        _fail(f"--config: {error.args[0] if error.args else error}")
    except FileNotFoundError as error:
        if not _from_flags(error):
            raise
        _fail(f"--config: {error.filename}: no such file")
    else:
        sys.exit(status or 0)


def _from_flags(error: BaseException) -> bool:
    """Was it raised while config_flags read the configuration file or an override?"""
    frame = error.__traceback__
    while frame:
        if "config_flags" in frame.tb_frame.f_code.co_filename:
            return True
        frame = frame.tb_next
    return False


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
