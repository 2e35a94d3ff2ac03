"""How commands begin: `sar_jax COMMAND`, help, a configuration file that cannot be used, and
overrides of choices."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest
from absl import flags
from support.commands import ROOT, one_error, run_command

import sar_jax
from sar_jax import cli, config
from sar_jax.training.settings import config_help

OVERRIDES = ["", "--config.steps=3"]


def console(*words: str, before: str = "", **how) -> subprocess.CompletedProcess:
    """`sar_jax WORDS` as its script runs it. before: Python that the process runs first."""
    code = f"import sys; sys.argv[:] = ['sar_jax', *{list(words)!r}]\n{before}\n"
    code += "from sar_jax.cli import command; sys.exit(command())"
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | how.pop("env", {})
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, **how
    )


def paths(cls: type, prefix: str = "") -> set[str]:
    """The paths of all fields of a class of `config`."""
    found = set()
    for name, field in cls.__dataclass_fields__.items():
        is_section = hasattr(field.type, "__dataclass_fields__")
        found |= paths(field.type, f"{name}.") if is_section else {prefix + name}
    return found


WITH_CONFIG = {name: config.TrainConfig for name in ("train", "evaluate", "explain", "plan")}
WITH_CONFIG["pretrain"] = config.PretrainConfig
# JAX and what else takes long to import
HEAVY = "\nimport atexit; atexit.register(lambda: print('LOADED', *sys.modules, file=sys.stderr))"


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_the_commands_are_listed_with_a_line_each(words):
    done = console(*words, before=HEAVY)
    assert done.returncode == 0
    for name in cli.COMMANDS:
        first = ast.get_docstring(ast.parse((ROOT / f"sar_jax/{name}.py").read_text()))
        assert re.search(rf"^  {name} +{re.escape(first.split()[0])} ", done.stdout, re.MULTILINE)
    loaded = set(done.stderr.split())
    assert "LOADED" in loaded
    assert not {"jax", "numpy", "ml_collections", "transformers", "yaml"} & loaded


def test_the_version_is_told():
    done = console("--version")
    assert (done.returncode, done.stdout) == (0, f"sar_jax {sar_jax.__version__}\n")


@pytest.mark.parametrize(
    "word, words",
    [
        ("trian", "unknown command 'trian': did you mean 'train'?"),
        ("Evaluate", "unknown command 'Evaluate': did you mean 'evaluate'?"),
        ("sar_jax.plan", "unknown command 'sar_jax.plan': did you mean 'plan'?"),
        ("x", f"unknown command 'x': it is one of {', '.join(cli.COMMANDS)}"),
        ("cli", f"unknown command 'cli': it is one of {', '.join(cli.COMMANDS)}"),
        ("--config=a.py", "the command is missing before --config=a.py: sar_jax train --confi"),
    ],
)
def test_what_is_no_command_is_one_line(word, words):
    assert one_error(console(word)).startswith(f"error: {words}")


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_help_shows_every_field_without_jax(name):
    done = console(name, "--help", before=HEAVY)
    assert done.returncode == 0 and "--config=FILE" in done.stdout
    shown = set(re.findall(r"^  --config\.([\w.]+)  \(", done.stdout, re.MULTILINE))
    assert shown == paths(WITH_CONFIG[name])
    assert not {"jax", "ml_collections", "transformers"} & set(done.stderr.split())
    assert "--pdb" not in done.stdout  # of the library of flags


def test_help_shows_type_default_and_comment():
    said = " ".join(console("train", "--help").stdout.split())
    assert "--config.optimizer.lr (float; default 1e-6) Peak learning rate." in said
    assert '--config.loss.average ("limit" | "tokens" | "sequences"; default "limit")' in said
    assert "--[no]extend More steps than" in said and "--workdir=TEXT Folder for" in said
    assert "optimizer: AdamW on clipped gradients" in said


@pytest.mark.parametrize("width", [80, 100, 150])
def test_help_is_as_wide_as_the_terminal(width):
    lines = console("train", "--help", env={"COLUMNS": str(width)}).stdout.splitlines()
    lines = lines[lines.index("Options:") :]
    assert width - 15 < max(map(len, lines)) <= width


def test_help_of_some_fields():
    done = console("train", "--help", "lora", "extend")
    shown = re.findall(r"^  --([\w.\[\]]+)", done.stdout, re.MULTILINE)
    assert shown == ["[no]extend", "config.lora.rank", "config.lora.alpha", "config.lora.targets"]
    assert "has 'lorra' in its name" in console("train", "--help", "lorra").stdout
    assert "--workdir" in console("train", "--help", "--config", "a.py").stdout


def test_help_into_a_closed_pipe_is_no_error():
    """As of `sar_jax train --help | head`, where head has ended."""
    code = "import sys; sys.argv = ['', 'train', '--help']; from sar_jax.cli import command; "
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}command()"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["train", "report"])
def test_help_is_the_same_with_python_m(name):
    done = run_command(f"sar_jax.{name}", "--help", COLUMNS="80")
    assert done.returncode == 0
    assert done.stdout.replace("python -m sar_jax.", "sar_jax ") == console(name, "--help").stdout


def test_helpfull_has_the_options_of_the_libraries():
    done = run_command("sar_jax.report", "--helpfull")
    assert done.returncode == 0
    assert "--coordinator" in done.stdout and "--output=TEXT" in done.stdout


# The flags that each command defines, beside those of what it imports; read where `run` begins.
DEFINED = """
import json, os, runpy, sys
from absl import flags
from sar_jax import cli
from sar_jax.parallel import multihost
import sar_jax.training.setup, ml_collections.config_flags
before = set(flags.FLAGS)
def stop(*given, **named):
    new = [flags.FLAGS[name] for name in sorted(set(flags.FLAGS) - before)]
    found = {f.name: [f.help, f.default, f.boolean] for f in new}
    print(json.dumps([sys.argv[1], found]), flush=True)
    os._exit(0)
cli.run = stop
for name in cli.COMMANDS:
    if os.fork() == 0:
        sys.argv = [name, name]
        runpy.run_module(f"sar_jax.{name}", run_name="__main__")
    os.wait()
"""


def test_the_options_that_help_shows_are_those_that_commands_take():
    out = subprocess.check_output([sys.executable, "-c", DEFINED], cwd=ROOT, text=True)
    found = dict(map(json.loads, out.splitlines()))
    assert found.keys() == set(cli.COMMANDS)
    for name, defined in found.items():
        tree = ast.parse((ROOT / f"sar_jax/{name}.py").read_text())
        has_config = config_help.config_class(tree) is not None
        assert (defined.pop("config", None) is not None) == has_config == (name in WITH_CONFIG)
        ours = {o.name: [o.text, o.default, o.kind == "bool"] for o in config_help.options(tree)}
        assert ours == defined, name


def test_the_text_of_an_option_may_name_constants():
    source = """
from sar_jax import cli as c
A, B = 1, (2.5, "x")
D = len(B)
flags.DEFINE_integer("a", A, f"one of {', '.join(c.COMMANDS)}")
if True:
    flags.DEFINE_boolean("b", False, "yes " "or no", short_name="y")
    flags.DEFINE_enum("c", None, ["u", "v"], f"{B[0]}", module_name="m")
"""
    found = config_help.options(ast.parse(source))
    assert found == [
        ("a", "integer", 1, f"one of {', '.join(cli.COMMANDS)}"),
        ("b", "bool", False, "yes or no"),
        ("c", "enum", None, "2.5"),
    ]


def test_a_command_is_what_python_m_is(tmp_path):
    """The folder where it is started is searched for modules; errors and statuses are the same."""
    (tmp_path / "mine.py").write_text("def get_config():\n    import beside\n    beside.x\n")
    (tmp_path / "beside.py").write_text("")
    script = "sys.path[0] = '/the/folder/of/the/script'"
    done = console("train", "--config=mine.py", cwd=tmp_path, before=script)
    error = one_error(done)
    assert (
        error == "error: --config: mine.py, line 3: AttributeError: module 'beside' has no attrib"
        "ute 'x'"
    )
    safe = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    done = console("train", "--config=mine.py", cwd=tmp_path, env=safe)
    assert "ModuleNotFoundError: No module named 'beside'" in one_error(done)
    assert "unexpected argument 'stray'" in one_error(console("plan", "stray", cwd=ROOT))


def test_an_interrupt_while_libraries_are_imported_is_one_line():
    before = """
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
"""
    done = console("train", before=before)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def train(*arguments: str) -> str:
    """The error of a training command, without its name."""
    done = run_command("sar_jax.train", *[word for word in arguments if word])
    return one_error(done).removeprefix("error: ")


@pytest.mark.parametrize("given", [["--config=nowhere.py"], ["--config", "nowhere.py"]])
@pytest.mark.parametrize("override", OVERRIDES)
def test_a_config_file_that_is_not_there_is_named(given, override):
    assert train(*given, override) == "--config: no such file: nowhere.py"


@pytest.mark.parametrize("override", OVERRIDES)
def test_what_a_config_file_misses_is_not_taken_for_the_file(tmp_path, override):
    path = tmp_path / "config.py"
    path.write_text("def get_config():\n    open('prompts.txt')\n")
    error = train(f"--config={path}", override)
    assert error.startswith(f"--config: {path}, line 2: ")
    assert "No such file" in error and "prompts.txt" in error


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_config_that_is_a_folder_is_named(tmp_path, override):
    error = train(f"--config={tmp_path}", override)
    assert error == f"--config: {tmp_path}: is a folder"


@pytest.mark.parametrize(
    "override, words",
    [
        ("--config.loss.ratio=tokens", "config.loss.ratio is 'tokens': it must be "),
        ("--config.rollout.cache_dtype=int4", "config.rollout.cache_dtype is 'int4': it must be "),
        # what is allowed is taken over: the error is of another field
        ("--config.advantage.estimator=leave_one_out", "config.rollout.samples is 0"),
        ("--config.rollout.cache_dtype=", "config.rollout.samples is 0"),
    ],
)
def test_a_choice_is_overridden_as_text_and_then_checked(override, words):
    """A choice that is not allowed comes first: nothing else is wrong with these."""
    samples = "--config.rollout.samples=" + ("0" if "samples" in words else "4")
    assert words in train("--config=configs/tiny.py", override, samples)


@pytest.mark.parametrize(
    "word, read",
    [
        ("--workdir=~/runs/a", "--workdir=HOME/runs/a"),
        ("--config.data.train=~/rows.jsonl:5", "--config.data.train=HOME/rows.jsonl:5"),
        ("--config.data.train=gsm8k=~/gsm8k", "--config.data.train=gsm8k=HOME/gsm8k"),
        ("~/runs/a", "HOME/runs/a"),
        ("--config.prompt.system=about ~/5", "--config.prompt.system=about ~/5"),
        ("--config.prompt.system=~5", "--config.prompt.system=~5"),
        ("a~/b", "a~/b"),
    ],
)
def test_a_home_folder_in_an_option_is_found(word, read, monkeypatch):
    monkeypatch.setenv("HOME", "/some/HOME")
    assert cli._at_home(word) == read.replace("HOME", "/some/HOME")


@pytest.mark.parametrize(
    "word, read",
    [
        ("--flag-of-test=a-b", "--flag_of_test=a-b"),
        ("--flag_of_test=a-b", "--flag_of_test=a-b"),
        ("--flag-of-test", "--flag_of_test"),
        ("--no-such-flag=1", "--no-such-flag=1"),  # its error names what was written
        ("--config.data.train=my-rows.jsonl", "--config.data.train=my-rows.jsonl"),
        ("flag-of-test", "flag-of-test"),
        ("-", "-"),
    ],
)
def test_an_option_may_have_hyphens(word, read):
    if "flag_of_test" not in flags.FLAGS:
        flags.DEFINE_string("flag_of_test", None, "Of this test.")
    try:
        assert cli._underscored(word) == read
    finally:
        delattr(flags.FLAGS, "flag_of_test")


def test_a_character_that_the_locale_lacks_ends_no_command():
    code = "from sar_jax import cli; cli.run(lambda: print('3 \\u2192 4'), '')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "3 \\u2192 4\n"), done.stderr
