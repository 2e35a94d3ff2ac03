"""Imports only go down the layers; host text knows no JAX, and the reward arithmetic no model and
no files."""

import ast
import collections
import sys

import pytest
from support.commands import ROOT, modules_after

PACKAGE = ROOT / "sar_jax"

# Who may import what: ten rules. A world is a folder; the base is the six files that cross
# borders.
BASE = {"errors", "files", "structs", "fields", "config"}
RULES: dict[str, set[str]] = {
    "base": {"base"},
    "text": {"base"},
    "rl": {"base"},
    "parallel": {"base"},
    "model": {"base", "parallel"},
    "rollout": {"base", "parallel", "model", "text.prompts"},
    "evaluation": {"base", "parallel", "model", "rollout", "text"},
    "training": {"base", "parallel", "model", "rollout", "text", "rl", "evaluation"},
    "planning": {"base", "parallel", "model", "rollout", "training", "evaluation.pages.page"},
    "commands": {
        "base",
        "text",
        "rl",
        "parallel",
        "model",
        "rollout",
        "evaluation",
        "training",
        "planning",
        "commands",
    },
}
NO_JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "jaxtyping"}  # of what is text
ENTRY_POINTS = {"train", "pretrain", "evaluate", "export", "explain", "plan", "report"}

FILES = {
    ".".join(f.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): f
    for f in sorted(PACKAGE.rglob("*.py"))
    if f != PACKAGE / "__init__.py"
}
TREES = {name: ast.parse(file.read_text()) for name, file in FILES.items()}


def world(name: str) -> str:
    """The folder that a module is in; of those at the root, "base" or "commands"."""
    first = name.split(".")[0]
    return first if first in RULES else "base" if first in BASE else "commands"


def allowed(name: str, other: str) -> bool:
    """May the module `name` import the module `other`?"""
    own_world = world(name)
    return world(other) == own_world or bool({world(other), other} & RULES[own_world])


def imports(tree: ast.AST) -> set[str]:
    """Every dotted name that is imported, wherever it stands: `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(name: str) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for dotted in imports(TREES[name]) - {"sar_jax.__version__"}:
        parts = dotted.split(".")
        if parts[0] == "sar_jax":
            known = [
                ".".join(parts[1:end])
                for end in range(len(parts), 1, -1)
                if ".".join(parts[1:end]) in FILES
            ]
            assert known, f"{name} imports {dotted}, which is no module"
            found.add(known[0])
    return found


def foreign(name: str) -> set[str]:
    """The top-level packages, other than ours, that a module imports."""
    return {dotted.split(".")[0] for dotted in imports(TREES[name])} - {"sar_jax"}


def test_the_helpers_see_every_kind_of_import():
    tree = ast.parse(
        "import a.b\nfrom c import d as e, f\ndef g():\n    if 1:\n        import h as i, j"
    )
    assert imports(tree) == {"a.b", "c.d", "c.f", "h", "j"}
    assert {"model.hf", "errors", "text.tasks"} <= own("pretrain") and "text.tasks.given" in own(
        "explain"
    )
    assert "jax" in foreign("train")


def test_the_root_is_a_map():
    """At most 14 files and 9 folders; every folder is a world with a rule."""
    folders = {f.name for f in PACKAGE.iterdir() if f.is_dir()} - {"__pycache__", "assets"}
    assert folders == set(RULES) - {"base", "commands"}
    assert len(list(PACKAGE.glob("*.py"))) <= 14


def test_no_folder_is_a_heap():
    """What is in a folder can be taken in at a glance: a longer list wants folders of its own."""
    counts = collections.Counter(file.parent.relative_to(PACKAGE) for file in FILES.values())
    assert max(counts.values()) <= 24, counts.most_common(1)


@pytest.mark.parametrize("name", FILES)
def test_each_world_imports_what_its_rule_allows(name):
    assert not {other for other in own(name) if not allowed(name, other)}


@pytest.mark.parametrize(
    "name, other",
    [
        ("text.prompts", "training.step"),
        ("rl.rewards", "model.network"),
        ("model.hf", "rollout.slots"),
        ("rollout.texts", "text.tasks.gsm8k"),
        ("evaluation.folder", "training.storage.checkpoints"),
        ("structs", "rl.packing"),
        ("config", "train"),
        ("planning.hlo", "evaluation.tables"),
    ],
)
def test_what_no_rule_allows(name, other):
    assert not allowed(name, other)


def test_imports_run_in_no_circle():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            path.append(name)
            for other in own(name) - {name}:
                visit(other)
            done.add(path.pop())

    for name in FILES:
        visit(name)


def test_nothing_imports_an_entry_point():
    """Nor does anything else: a command is flags and `main`."""
    assert not {(a, b) for a in FILES for b in own(a) & ENTRY_POINTS}


@pytest.mark.parametrize("name", [name for name in FILES if world(name) == "text"])
def test_text_knows_no_jax(name):
    assert not foreign(name) & NO_JAX


@pytest.mark.parametrize(
    "modules",
    [
        "sar_jax.text.answers.judge",
        "sar_jax.text.answers.verifier",
        "sar_jax.text.answers.worker",
        "sar_jax.text.tasks",
        "sar_jax.text.prompts",
        "sar_jax.text.tokenizer",
        "sar_jax.config",
        "sar_jax.rl.rewards, sar_jax.rl.packing",
    ],
)
def test_importing_host_code_does_not_load_jax(modules):
    """In a fresh interpreter, libraries' own imports included. Rewards and packing are numpy
    only."""
    heavy = {"flax", "optax", "orbax", "sar_jax.model.network"}
    if "packing" not in modules:  # there jaxtyping's Array loads jax itself
        heavy |= {"jax", "jaxlib"}
    assert not heavy & modules_after(f"import {modules}")


@pytest.mark.parametrize("name", [name for name in FILES if world(name) == "rl"])
def test_the_arithmetic_knows_no_model_and_no_files(name):
    assert foreign(name) <= {
        "collections",
        "typing",
        "numpy",
        "jaxtyping",
        "jax",
        "dataclasses",
        "itertools",
        "math",
        "types",
    }
    names = {node.id for node in ast.walk(TREES[name]) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "exec", "eval", "__import__", "pathlib"}


def test_flax_stands_in_one_file():
    assert {name for name in FILES if "flax" in foreign(name)} == {"model.network"}
    assert not [
        name
        for name, tree in TREES.items()
        if name != "model.network"
        and any(isinstance(node, ast.Name) and node.id == "nnx" for node in ast.walk(tree))
    ]


def test_no_file_name_shadows_the_standard_library_or_says_nothing():
    names = {part for name in FILES for part in name.split(".")}
    assert not names & sys.stdlib_module_names
    assert not names & {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name):
    assert len(FILES[name].read_text().splitlines()) <= 400
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(TREES[name])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - node.lineno + 1 > 60
    }
    assert not long


@pytest.mark.parametrize("name", FILES)
def test_a_file_begins_with_what_it_is(name):
    assert ast.get_docstring(TREES[name])
