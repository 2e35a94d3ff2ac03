"""How every command starts: `sar_jax COMMAND`, flags, `--help`, and each error as one clear line.

    sar_jax train --config=FILE      what `python -m sar_jax.train --config=FILE` is
    sar_jax train --help optimizer   of the options and fields those with this in their name
    sar_jax --help                   the commands
    sar_jax --version

An error ends the command with a non-zero exit status. Nothing that takes long is imported before a
command runs: help is there at once.
"""

import contextlib
import difflib
import errno
import gc
import os
import pathlib
import re
import runpy
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging

from sar_jax import __version__, fields
from sar_jax.errors import UserError
from sar_jax.training.settings import config_help

COMMANDS = ("train", "pretrain", "evaluate", "explain", "report", "export", "plan")

_HERE = pathlib.Path(__file__).parent
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HELP = ("--help", "-help", "-h", "--helpshort", "-helpshort", "-?", "--?")


def command() -> None:
    """The console command `sar_jax`: runs `python -m sar_jax.COMMAND` in this process."""
    name, words = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in _HELP:
        _show(_overview())
    if name == "--version":
        _show(f"sar_jax {__version__}\n")
    if name not in COMMANDS:
        _refuse(_unknown(name))
    if _help_words(words) is not None:
        _show(_help(_HERE / f"{name}.py", words).replace("python -m sar_jax.", "sar_jax "))
    with contextlib.suppress(OSError):  # the folder may be gone
        if not sys.flags.safe_path:
            sys.path[0] = os.getcwd()  # as with `python -m`: a config file imports what is there
    # PyTorch is not needed: no warning that it is not there
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    sys.argv[1:] = words
    try:
        runpy.run_module(f"sar_jax.{name}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # while libraries are imported; `run` hears the later ones
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _overview() -> str:
    width, longest = shutil.get_terminal_size().columns, max(map(len, COMMANDS))
    lines = ["usage: sar_jax COMMAND [options]", ""]
    for name in COMMANDS:
        text, first = config_help.summary(_HERE / f"{name}.py"), f"  {name:{longest}}  "
        lines.append(textwrap.fill(text, max(width, 40), initial_indent=first,
                                   subsequent_indent=" " * len(first)))  # fmt: skip
    return "\n".join([*lines, "", "sar_jax COMMAND --help shows the options of one."]) + "\n"


def _unknown(name: str) -> str:
    """What is wrong with a word that is no command."""
    if name.startswith("-"):
        return f"the command is missing before {name}: sar_jax train {name}"
    near = difflib.get_close_matches(name.lower().removeprefix("sar_jax."), COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it is one of {', '.join(COMMANDS)}"
    return f"unknown command {name!r}: {hint}"


def _help_words(words: list[str]) -> list[str] | None:
    """The words right after a `--help`; None where there is no `--help`."""
    if "--" in words:
        words = words[: words.index("--")]
    at = next((i for i, word in enumerate(words) if word in _HELP), None)
    if at is None:
        return None
    rest = words[at + 1 :]
    return rest[: next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))]


def _help(file: pathlib.Path, words: list[str]) -> str:
    width = shutil.get_terminal_size().columns
    return config_help.command_help(file, width, _help_words(words) or [])


def _show(text: str) -> NoReturn:
    """Prints a text and ends the process, with status 0 also where nobody reads to the end."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def begin(line: str) -> None:
    """Prints a line on stderr before imports that take seconds, unless help is asked for."""
    if _help_words(sys.argv[1:]) is None and "--helpfull" not in sys.argv:
        print(line, file=sys.stderr, flush=True)


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def config_flag(cls: type) -> Callable[[], Any]:
    """Defines `--config=FILE [--config.any.field=value]`.

    Returns a function that gives the config, a `cls`, once the command line has been read. It
    raises `UserError` where there is none.
    """
    from ml_collections import config_flags

    # An override of a field that takes only some values is read as text; `checks` knows the values.
    config_flags.register_flag_parser_for_type(typing.Literal, flags.ArgumentParser())
    config_flags.register_flag_parser_for_type(fields.OrAuto, _NumberOrWord())
    holder = config_flags.DEFINE_config_file(
        "config",
        help_string="A file of the configuration: Python, YAML or JSON. Override any field: "
        "--config.optimizer.lr=2e-6",
    )
    flags.FLAGS["config"].parser = _ConfigParser(cls)

    def get() -> Any:
        if holder.value is None:
            raise UserError(
                "--config is missing: give a configuration file, for example "
                "--config=configs/tiny.py"
            )
        from sar_jax.training.settings import derived

        return derived.spelled_out(holder.value)

    return get


class _NumberOrWord(flags.ArgumentParser):
    """A whole number, or text that the field may know."""

    def parse(self, argument: str) -> int | str:
        try:
            return int(argument)
        except ValueError:
            return argument

    def flag_type(self) -> str:
        return "int or word"


class _ConfigParser(flags.ArgumentParser):
    """Takes the place of `config_flags`' own, whose errors are tracebacks."""

    def __init__(self, cls: type):
        self.cls = cls

    def parse(self, argument: str) -> Any:
        """The config of a file; overrides of its fields must name some."""
        from sar_jax.training.settings import config_files

        config = config_files.load_config(argument, self.cls)
        for word in flags.FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=False):
            if override := re.match(r"--?(?:no)?config\.([^=]*)", word):
                fields.check_path(self.cls, override[1])
        return config

    def flag_type(self) -> str:
        return "config file"


def run(main: Callable[..., int | None], usage: str, words: bool = False) -> None:
    """Parses the command line, runs `main`, and ends the process.

    main    returns the exit status, or None for 0
    usage   what `--help` shows before the options
    words   `main` takes the list of the arguments that are no options; otherwise there may be none

    A `UserError`, a wrong flag and an error of the system end it with status 2 and one line on
    stderr, Ctrl-C with 130.
    """
    from sar_jax.parallel import memory, multihost, outputs

    gc.freeze()  # what was imported stays: nobody need look through it for garbage
    sys.modules["__main__"].__doc__ = usage
    outputs.outlive()
    app.define_help_flags()
    given = sys.argv[1:]
    if _help_words(given) is not None or "--helpfull" in given:
        text = _help(pathlib.Path(sys.modules["__main__"].__file__), given)
        _show(f"{text}{flags.FLAGS.get_help()}\n" if "--helpfull" in given else text)
    try:
        # in place: the flags of a config read it again
        sys.argv[1:] = [_underscored(_at_home(word)) for word in sys.argv[1:]]
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


def _underscored(word: str) -> str:
    """The word with the name of an option as it is defined: --max_chips for --max-chips."""
    given, equals, value = word.partition("=")
    name = given.lstrip("-").replace("-", "_")
    known = given.startswith("--") and name in flags.FLAGS
    return f"--{name}{equals}{value}" if known else word


def refuse_words(words: list[str]) -> None:
    """Raises `UserError` for an argument that is no option."""
    if words:
        raise UserError(
            f"unexpected argument {words[0]!r}: options look like --name=value (see --help)"
        )


def _fail(message: str) -> None:
    from sar_jax.parallel import multihost

    multihost.end(2, f"error: {' '.join(message.splitlines())}")
    sys.exit(2)
