"""The pages: their links and paragraphs, every command that they show, and the tables of fields and
metrics, which are those that runs have."""

import dataclasses
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import tomllib
import typing
from typing import NamedTuple

import pytest
from support import docs
from support.commands import PATIENCE, ROOT, run_command
from support.training import read_metrics, small

from sar_jax import config as config_lib
from sar_jax.rl import alarms, rewards
from sar_jax.text.tasks import own
from sar_jax.training.settings import config_files

# Programs whose commands cannot be run here, or need not be.
OTHERS = set("sar_jax tensorboard wandb hf gcloud kubectl xpk docker git ruff".split())
# Scripts that reach a cloud, and print what they would call.
CLOUD = ("tpu_vm.sh", "gce.sh", "gke.sh", "launch/launch.sh")
# Where a command's words are places to be filled in.
PLACES = {"--config=FILE": "--config=configs/tiny.py", "--process=$i": "--process=1"}
# Stands for the Python of a launch script: prints its arguments, one a line; asked for a wheel it
# leaves an empty one of the right name; asked for the name of a slice it is Python.
PYTHON = r"""#!/bin/bash
if [ "$1" = -I ]; then exec REAL "$@"; fi
if [ "$2" != pip ]; then printf '%s\n' "$@"; exit; fi
while [ $# -gt 1 ]; do if [ "$1" = --wheel-dir ]; then out=$2; fi; shift; done
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$1/sar_jax/__init__.py")
touch "$out/sar_jax-$version-py3-none-any.whl"
"""


def page(name: str) -> str:
    return (ROOT / name).read_text()


def named(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


# Links, paragraphs, names


@pytest.mark.parametrize("path", docs.PAGES, ids=named)
def test_every_link_leads_somewhere(path):
    for link in docs.links(path.read_text()):
        if link.startswith(("https:", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in docs.anchors(target.read_text()), link


@pytest.mark.parametrize("path", docs.PAGES, ids=named)
def test_paragraphs_are_short(path):
    """At most six lines of 120 columns."""
    for paragraph in docs.paragraphs(path.read_text()):
        assert sum(-(-len(line) // 120) for line in paragraph.splitlines()) <= 6, paragraph


def test_the_readme_is_short():
    assert len(page("README.md").splitlines()) <= 130


def test_the_index_has_every_page():
    index = {link.partition("#")[0] for link in docs.links(page("docs/README.md"))}
    assert index >= {f.name for f in (ROOT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("path", docs.PAGES, ids=named)
def test_files_that_a_page_names_are_there(path):
    folders = "benchmarks|configs|docs|examples|launch|sar_jax|tests"
    for piece in docs.code(path.read_text()):
        if re.fullmatch(rf"({folders})/[\w/.]+", piece):
            assert (ROOT / piece).exists(), piece


@pytest.mark.parametrize("path", docs.PAGES, ids=named)
def test_fields_that_a_page_names_are_fields(path):
    sections = {
        f.name: {g.name for g in dataclasses.fields(f.type)}
        for cls in (config_lib.TrainConfig, config_lib.PretrainConfig)
        for f in dataclasses.fields(cls)
        if dataclasses.is_dataclass(f.type)
    }
    diffs = "".join(docs.fences(path.read_text(), "diff"))
    added = set(re.findall(r"^\+    (\w+): ", diffs, re.MULTILINE))
    for piece in docs.code(path.read_text()):
        match = re.fullmatch(r"(?:--)?(?:config\.)?(\w+)\.(\w+)(?:=\S*)?", piece)
        if match and match[1] in sections and not re.fullmatch(r"\w+\.(md|py|safetensors)", piece):
            assert match[2] in sections[match[1]] | added | {"NAME"}, piece


def test_what_counts_as_a_paragraph_a_link_and_a_command():
    """The helpers see what they should."""
    text = "# A `b`, c's\n\none\ntwo\n\n- x\n  y\n- z\n\n| a |\n\n"
    text += "```sh\nA=1 b 'c d' \\\n  e && f # g\n```"
    assert docs.paragraphs(text) == ["one\ntwo", "- x\n  y", "- z"]
    assert docs.anchors(text) == {"a-b-cs"}
    assert docs.links("[a](b.md#c) `[d](e)` ![f](g.svg)\n```\n[h](i)\n```") == ["b.md#c", "g.svg"]
    (line,) = [fence.replace("\\\n", " ") for fence in docs.fences(text, "sh")]
    assert docs.split(line.strip()) == [(("b", "c d", "e"), ("A=1",)), (("f",), ())]


# Commands


def as_script(command: docs.Command, folder: pathlib.Path) -> list[list[str]]:
    """A launch script's command, run as far as it goes without a cloud; the Python command lines
    that it leads to."""
    python = folder / "python"
    python.write_text(PYTHON.replace("REAL", sys.executable))
    python.chmod(0o755)
    values = dict(a.partition("=")[::2] for a in command.environment)
    (folder / values.get("ENV_FILE", "none")).touch()
    words = [*command.words]
    for word in words:
        if match := re.fullmatch(r"--config\.data\.\w+=([^:]+\.jsonl)", word):
            (folder / match[1]).touch()
    if words[0].endswith(CLOUD) and "--help" not in words:
        words.insert(2, "--dry-run")
    elif words[0].endswith(("reproduce_tiny.sh", "reproduce_real.sh")):
        values["SEEDS"] = "1"
        if words[0].endswith("real.sh"):  # whose own model is there
            (folder / words[1] / "start").mkdir(parents=True)
    done = subprocess.run(
        [ROOT / words[0], *words[1:]],
        cwd=folder,
        env=os.environ | {"PYTHON": str(python), "BUILD": str(folder / "build")} | values,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    if words[0].endswith(CLOUD):
        return [in_run(words)] if words[1] == "run" else []
    called = done.stdout.splitlines()
    overrides = called[called.index("--") + 1 :] if "--" in called else []
    config = "gemma3_270m" if words[0].endswith("real.sh") else "tiny"
    train = ["-m", "sar_jax.train", f"--config=configs/{config}.py", *overrides]
    return [called, train] if "--" in called else [called]


def in_run(words: list[str]) -> list[str]:
    """The Python command line of `launch/SCRIPT.sh run --dry-run ...`."""
    module = words[3] if len(words) > 3 and words[3].isalpha() else "train"
    not_python = {"--auto-resume", "--attach", module}
    return ["-m", f"sar_jax.{module}", *(word for word in words[3:] if word not in not_python)]


WRONG = {
    "-m sar_jax.train --config=configs/tiny.py --config.loss.averge=tokens": "averge",
    "-m sar_jax.train --config=configs/tiny.py --config.loss.average=token": "loss.average",
    "-m sar_jax.train --config=configs/tiny.py --config.steps=many": "config.steps",
    "-m sar_jax.train --config=configs/tinny.py": "no such file: configs/tinny.py",
    "-m sar_jax.train --config=configs/tiny_pretrain.py": "TrainConfig",
    "-m sar_jax.train --workdir=runs/x": "--config is missing",
    "-m sar_jax.train --help lorra": "no option and no field has 'lorra'",
    "-m sar_jax.train --config=configs/tiny.py stray": "stray",
    "-m sar_jax.pretrain --config=configs/tiny_pretrain.py --out=x": "out",
    "-m sar_jax.evaluate --model=x --task=gsm8k": "task",
    "-m sar_jax.plan --config=configs/tiny.py --topologie=v6e:2x4": "topologie",
    "-m sar_jax.exprot --workdir=x": "exprot",
    "benchmarks/rollout.py variable": "SystemExit",
    "benchmarks/rollouts.py fixed": "rollouts.py",
}


def python_lines(command: docs.Command, folder: pathlib.Path) -> list[list[str]]:
    """The Python command lines that a command is or leads to."""
    words = [PLACES.get(word, word) for word in command.words]
    if words[0].startswith("launch/"):
        return as_script(command, folder)
    if words[0] != "python":
        return []
    mentioned = words[1] == "-m" and len(words) <= 3  # a module's name alone
    has_no_options = words[1].startswith(("docs/", "examples/"))
    return [] if mentioned or has_no_options else [words[1:]]


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> list[tuple[docs.Command, list[str]]]:
    """The pages' commands, each with the Python command lines behind it."""
    found = []
    for command in docs.commands():
        folder = tmp_path_factory.mktemp("command")
        found += [(command, line) for line in python_lines(command, folder)]
    return found


@pytest.fixture(scope="module")
def faults(shown) -> list[str | None]:
    """What the commands find wrong with the pages' lines, then with the wrong ones. All are read at
    once: imports take most of the time."""
    lines = [line for _, line in shown] + [line.split() for line in WRONG]
    done = subprocess.run(
        [sys.executable, "tests/support/parsing.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_commands_take_every_line_that_a_page_shows(shown, faults):
    assert len(shown) > 50
    assert not [f"{c}: {fault}" for (c, _), fault in zip(shown, faults, strict=False) if fault]


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_found(line, faults):
    own = faults[-len(WRONG) :]
    assert WRONG[line] in (own[list(WRONG).index(line)] or "")


@pytest.mark.parametrize("command", docs.commands(), ids=str)
def test_other_programs_are_known(command):
    words = [*command.words]
    if words[0] == "pip":
        extras = tomllib.loads(page("pyproject.toml"))["project"]["optional-dependencies"]
        assert words[1] == "install"
        assert set(re.findall(r"\.\[(\w+)\]", words[-1])) <= set(extras)
    elif words[0] == "pytest":
        options = tomllib.loads(page("pyproject.toml"))["tool"]["pytest"]["ini_options"]
        markers = {marker.split(":")[0] for marker in options.get("markers", [])}
        for option, word in zip(words, words[1:], strict=False):
            if option == "-m":
                assert word in markers
            elif option != "-k":
                assert word in ("-m", "-k") or (ROOT / word).exists()
    else:
        assert words[0] in OTHERS | {"python"} or words[0].startswith("launch/")


def documented(name: str, module: str, **places: pathlib.Path | str) -> list[str]:
    """The words of the command that a page shows for a module: the first that has all the places
    that are filled in."""
    for command in docs.commands():
        words = " ".join(command.words)
        if command.page == ROOT / name and f"-m {module} " in words:
            if all(re.search(rf"\b{place}\b", words) for place in places):
                for place, value in places.items():
                    words = re.sub(rf"\b{place}\b", str(value), words)
                return words.split()[2:]
    raise AssertionError(f"{name} shows no command of {module} with {', '.join(places)}")


# Commands that are run, and what the pages say of it


@pytest.fixture(scope="module")
def group_run(tmp_path_factory) -> pathlib.Path:
    """A run with groups and nearly everything that a group's run can measure. Answers have twelve
    tokens: all are cut off, and wrong."""
    workdir = tmp_path_factory.mktemp("group") / "run"
    overrides = small(
        "steps=5",
        "data.eval=arithmetic:4",
        "evaluation.every_steps=5",
        "evaluation.batch=4",
        "rollout.refill_rounds=1",
        "rewards.length=0.1",
        "rewards.entropy_min=0.1",
        "rewards.o1_pruner=0.1",
        "rewards.efficient_reasoner=0.1",
        "self_aligned.adaptive=true",
        "self_aligned.copied_run=8",
        "lora.rank=4",
        "loss.importance_cap=2",
        "guards.low_entropy=100",  # an alarm from the fifth step on
    )[1:]
    command = documented("README.md", "sar_jax.train", **{"configs/tiny.py": "configs/tiny.py"})
    done = run_command(*command, *overrides, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def critic_run(tmp_path_factory) -> pathlib.Path:
    """A run with a critic, two answers a question, long enough to be right."""
    workdir = tmp_path_factory.mktemp("critic") / "run"
    overrides = small(
        "steps=2",
        "data.eval=arithmetic:4",
        "evaluation.every_steps=2",
        "evaluation.batch=4",
        "rollout.questions=8",
        "rollout.samples=2",
        "rollout.slots=16",
        "rollout.max_answer_tokens=96",
        "packing.row_tokens=288",
        "loss.minibatch_questions=4",
        config="tiny_ppo",
    )
    done = run_command("sar_jax.train", *overrides, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def test_metrics_on_the_page_are_those_that_runs_write(group_run, critic_run):
    written = {
        name for run in (group_run, critic_run) for line in read_metrics(run) for name in line
    }
    rows = re.findall(r"^\| `([^`]+)` \|", page("docs/metrics.md"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    names = {"reward": rewards.REWARDS, "advantage": rewards.REWARDS, "alarm": alarms.ALARMS}
    described: dict[str, str] = {}  # name -> row
    for row in rows:
        kinds = names[re.split(r"[/_]", row)[0]] if "NAME" in row else [""]
        described |= {row.replace("NAME", kind): row for kind in kinds}
    assert written - described.keys() == {"step"}
    # model flops are compared with a chip's peak, which a CPU does not have; the others are of
    # functions of one's own (tests/test_own_functions.py)
    own = {"time/reward", "verifier/judge_calls", "verifier/judge_tokens"}
    assert set(rows) - {described[name] for name in written - {"step"}} == {"mfu"} | own


def test_the_picture_is_of_what_explain_gives(tmp_path):
    """The README's command is run as it is, but for the place of its output."""
    output = tmp_path / "scored.jsonl"
    done = run_command(*documented("README.md", "sar_jax.explain", **{"scored.jsonl": output}))
    assert done.returncode == 0, done.stderr
    scored = [json.loads(line) for line in output.read_text().splitlines()]
    draw = runpy.run_path(str(ROOT / "docs/make_heatmap.py"))["picture"]
    ours, theirs = draw(scored), page("docs/heatmap.svg")
    number = r"[-+]?\d+\.\d+"
    assert re.sub(number, "", ours) == re.sub(number, "", theirs)
    ours, theirs = (list(map(float, re.findall(number, text))) for text in (ours, theirs))
    assert ours == pytest.approx(theirs, abs=0.11)  # printed with one or two places
    assert scored[0]["self_aligned"] > 2 * scored[1]["self_aligned"]


def test_a_run_is_exported_and_evaluated_by_the_commands_shown(critic_run, tmp_path):
    folder, results = tmp_path / "hf", tmp_path / "results"
    places = {"WORKDIR": critic_run, "HF_DIR": folder}
    done = run_command(*documented("docs/models.md", "sar_jax.export", **places))
    assert done.returncode == 0 and (folder / "config.json").exists(), done.stderr
    command = documented(
        "docs/evaluation.md", "sar_jax.evaluate", **{"arithmetic:4": "arithmetic:4"}
    )
    words = [word.replace("--output=DIR", f"--output={results}") for word in command]
    done = run_command(*words, "--config.evaluation.batch=4", "--config.rollout.slots=8")
    assert done.returncode == 0, done.stderr
    assert {f.name for f in results.iterdir()} >= {"results.json", "results.md", "answers"}


def test_rows_of_ones_own_are_those_that_a_page_shows(tmp_path):
    (rows,) = docs.fences(page("docs/data.md"), "json")
    (tmp_path / "mine.jsonl").write_text(rows)
    source = own.load(str(tmp_path / "mine.jsonl"))
    assert [row.kind for row in source] == ["math", "choice", "boolean"]


def test_the_yaml_that_a_page_shows_is_a_config(tmp_path):
    (shown,) = docs.fences(page("docs/configuration.md"), "yaml")
    (tmp_path / "own.yaml").write_text(shown)
    config = config_files.load_config(f"{tmp_path}/own.yaml", config_lib.TrainConfig)
    assert (config.prompt.thinking, config.optimizer.lr) == ("on", 1e-6)
    assert (config.data.eval, config.steps, config.model.offload_reference) == ("gsm8k", 200, True)


def test_the_page_of_fields_is_made_of_the_config():
    done = subprocess.run(
        [sys.executable, "docs/make_configuration.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    rows = config_rows()
    fields = {}
    for cls in (config_lib.TrainConfig, config_lib.PretrainConfig):
        for field in dataclasses.fields(cls):
            if dataclasses.is_dataclass(field.type):
                for inner in dataclasses.fields(field.type):
                    fields[f"{field.name}.{inner.name}"] = inner.type
            else:
                fields[field.name] = field.type
    assert rows.keys() == fields.keys()
    for path, kind in fields.items():
        choices = typing.get_args(kind)
        words = ", ".join(f'`"{choice}"`' for choice in choices) if choices else kind.__name__
        words = words.replace("OrAuto", '`int`, `"auto"`')
        assert rows[path].kind == words, path
        # a comment that says what the choices mean says it of those that there are
        named = set(re.findall(r'"(\w+)"', rows[path].meaning))
        assert not choices or named <= set(choices), path


class ConfigRow(NamedTuple):
    kind: str
    meaning: str


def config_rows() -> dict[str, ConfigRow]:
    """The rows of the page of fields, by the field's path."""
    found = re.findall(
        r"^\| `([\w.]+)` \| (.*?) \| `[^|]*` \| (\S.*) \|$", page("docs/configuration.md"), re.M
    )
    return {path: ConfigRow(kind, meaning) for path, kind, meaning in found}
