"""Command lines that are read by the real commands, and not run: their flags, their config file and
its overrides, and the checks of the config.

    python tests/support/parsing.py < JSON list of word lists > JSON list: null, or what is wrong

Each is read in a process of its own, forked off this one, which has imported the libraries and most
of the package."""

import argparse
import importlib
import json
import os
import pathlib
import runpy
import sys

IMPORTS = (
    "sar_jax.evaluation.comparison",
    "sar_jax.planning.tables",
    "sar_jax.training.setup",
    "sar_jax.training.step",
)
# These take a config where it is given; the others cannot do without one.
CONFIG_IS_OPTIONAL = ("sar_jax.evaluate", "sar_jax.explain", "sar_jax.export")


class Parsed(BaseException):
    """The command line is right, and the command would begin now."""


def read_module(name: str, arguments: list[str]) -> None:
    """`python -m NAME ARGUMENTS` up to where the command begins. Raises what the command would, and
    `Parsed`."""
    from absl import flags

    from sar_jax import cli, config
    from sar_jax.training.settings import checks, config_help

    getters = []

    def config_flag(cls):
        getters.append(defined(cls))
        return getters[-1]

    def run(main, usage, words=False):
        if (asked := cli._help_words(sys.argv[1:])) is not None:
            shown = config_help.command_help(pathlib.Path(sys.argv[0]), 80, asked)
            raise Parsed if "--" in shown else AssertionError(shown)
        rest = flags.FLAGS(sys.argv)
        if not words:
            cli.refuse_words(rest[1:])
        for get in getters:
            if flags.FLAGS["config"].present or name not in CONFIG_IS_OPTIONAL:
                found = get()
                found.data.train = found.data.train or "arithmetic"  # a plan needs none
                pretrain = isinstance(found, config.PretrainConfig)
                (checks.check_pretrain if pretrain else checks.check)(found)
        raise Parsed

    defined = cli.config_flag
    cli.config_flag, cli.run = config_flag, run
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def read_script(path: str, arguments: list[str]) -> None:
    """The same for a script that reads its options with argparse."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(*given, **named):
        real(*given, **named)
        raise Parsed

    argparse.ArgumentParser.parse_args = parse_args
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))  # as Python does
    runpy.run_path(path, run_name="__main__")


def read(words: list[str]) -> str | None:
    """What is wrong with a command line; words: `-m MODULE ...` or `SCRIPT ...`."""
    try:
        if words[0] == "-m":
            read_module(words[1], words[2:])
        else:
            read_script(words[0], words[1:])
    except Parsed:
        return None
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "it ended before it had read its options"


def read_in_a_fork(words: list[str]) -> str | None:
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the answer alone goes to stdout
        os.write(theirs, json.dumps(read(words)).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as file:
        found = file.read()
    os.wait()
    return json.loads(found) if found else "it ended its process"


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    lines = json.load(sys.stdin)
    for name in IMPORTS:
        importlib.import_module(name)
    json.dump([read_in_a_fork(words) for words in lines], sys.stdout)
