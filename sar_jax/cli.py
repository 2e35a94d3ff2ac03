"""How every command starts: flags, `--help`, and errors as one clear line with a non-zero exit
status."""

import errno
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from sar_jax.errors import UserError
from sar_jax.parallel import multihost


def config_flag(cls: type) -> Callable[[], Any]:
    """Defines `--config=FILE [--config.any.field=value]`; call the result after parsing for the
    config, a `cls`."""
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
                "--config is missing: give a configuration file, for example --config=configs/tiny.py"
            )
        if (
            type(config).__name__ == "_ErrorConfig"
        ):  # config_flags' stand-in for a file that it could not read
            raise UserError("--config: the file cannot be read; write --config=FILE")
        if not isinstance(config, cls):
            raise UserError(
                f"--config: get_config() must return a {cls.__name__}, not a {type(config).__name__}"
            )
        return config

    return get


def run(main: Callable[..., int | None], usage: str, words: bool = False) -> None:
    """Parses the command line and runs `main`; exits 2 with one line on a `UserError` or a wrong
    flag.

    words: `main` takes the list of what stands beside the options; otherwise nothing may.
    """
    sys.modules["__main__"].__doc__ = usage
    app.define_help_flags()
    try:
        rest = flags.FLAGS(sys.argv)
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(
                logging.FATAL
            )  # libraries log tracebacks of errors that they also raise
        if not words:
            refuse_words(rest[1:])
        status = main(rest[1:]) if words else main()
    except (flags.Error, UserError) as error:
        _fail(str(error))
    except (KeyError, ValueError, TypeError, OSError) as error:
        if _from_flags(error):
            missing = isinstance(error, OSError) and "No such file" in str(error)
            _fail(
                f"--config: {str(error).strip().splitlines()[-1].strip()}"
                if not missing
                else f"--config: no such file: {_config_argument()}"
            )
        if not isinstance(error, OSError) or error.strerror is None:
            raise
        hint = (
            "; what was complete before is good. Free some space and run the same command again"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else ""
        )
        _fail(f"{error.filename or 'a file'}: {error.strerror}{hint}")
    except KeyboardInterrupt:
        print("interrupted; what was complete stays as it is", file=sys.stderr)
        sys.exit(130)
    else:
        sys.exit(status or 0)


def refuse_words(words: list[str]) -> None:
    """Raises `UserError` for what stands beside the options."""
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


def _config_argument() -> str:
    """The last --config=FILE of the command line."""
    return [a.partition("=")[2] for a in sys.argv if a.startswith(("--config=", "-config="))][-1]


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    multihost.end(2)
    sys.exit(2)
