"""Imports only go down the layers; host text knows no JAX, and the reward arithmetic no model and no files."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "sar_jax"

# Lowest first; a module imports from its own layer and from those below. A new module has to be given its place here.
LAYERS = (
    {"errors", "config", "checks", "sampling", "structs", "sharding", "rendezvous", "multihost", "chips", "hlo", "published",
     "download"},
    {"rewards", "losses", "gae", "credit", "alpha", "guards", "packing", "attention", "splash", "cudnn", "paged", "rope",
     "results", "filters"},
    {"parameters", "cache", "int8"},
    {"answers", "quantities", "equivalence", "labels", "worker", "verifier", "tokenizer", "prompts", "tasks",
     "tasks.example", "tasks.options", "tasks.jsonl", "tasks.local", "tasks.hub", "tasks.published", "tasks.mix",
     "tasks.numeric", "tasks.arithmetic", "tasks.gsm8k", "tasks.math_lighteval", "tasks.numina", "tasks.gsm_symbolic",
     "tasks.aime", "tasks.logicbench", "tasks.prontoqa"},
    {"model", "roofline"},
    {"families"},
    {"hf", "score", "sample", "slots", "capacity", "handover", "lora"},
    {"learner", "critic", "programs"},
    {"experience", "rollouts", "generate", "checkpoint", "policy", "metrics", "data", "screen", "cli", "results_folder",
     "plots", "summary", "compare", "planning"},
    {"run"},
    {"train", "pretrain", "export", "explain", "evaluate", "plan"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HOST_TEXT = sorted(next(layer for layer in LAYERS if "answers" in layer))
ENTRY_POINTS = LAYERS[-1]

FILES = {".".join(f.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): f
         for f in sorted(PACKAGE.rglob("*.py")) if f != PACKAGE / "__init__.py"}
TREES = {name: ast.parse(file.read_text()) for name, file in FILES.items()}


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
    for dotted in imports(TREES[name]):
        parts = dotted.split(".")
        if parts[0] == "sar_jax":
            known = [".".join(parts[1:end]) for end in range(len(parts), 1, -1) if ".".join(parts[1:end]) in FILES]
            assert known, f"{name} imports {dotted}, which is no module"
            found.add(known[0])
    return found


def foreign(name: str) -> set[str]:
    """The top-level packages, other than ours, that a module imports."""
    return {dotted.split(".")[0] for dotted in imports(TREES[name])} - {"sar_jax"}


def test_the_helpers_see_every_kind_of_import():
    tree = ast.parse("import a.b\nfrom c import d as e, f\ndef g():\n    if 1:\n        import h as i, j")
    assert imports(tree) == {"a.b", "c.d", "c.f", "h", "j"}
    assert {"hf", "errors", "tasks"} <= own("pretrain") and "tasks.jsonl" in own("explain")
    assert "jax" in foreign("train")


def test_every_module_has_its_layer_and_every_layer_its_modules():
    assert set(FILES) == set(RANK)


@pytest.mark.parametrize("name", FILES)
def test_imports_only_go_down(name):
    assert not {other for other in own(name) if RANK[other] > RANK[name]}


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


def test_entry_points_do_not_import_each_other():
    """Except that pretraining writes its folder as export does."""
    assert {(a, b) for a in ENTRY_POINTS for b in own(a) & ENTRY_POINTS} == {("pretrain", "export")}


@pytest.mark.parametrize("name", HOST_TEXT)
def test_host_text_knows_no_jax(name):
    assert not foreign(name) & {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "jaxtyping"}
    assert own(name) <= {"errors", "config", *HOST_TEXT}


@pytest.mark.parametrize("modules", ["sar_jax.text.answers.judge", "sar_jax.text.answers.verifier", "sar_jax.text.answers.worker", "sar_jax.text.tasks",
                                     "sar_jax.text.prompts", "sar_jax.text.tokenizer", "sar_jax.config",
                                     "sar_jax.rl.rewards, sar_jax.rl.packing"])
def test_importing_host_code_does_not_load_jax(modules):
    """In a fresh interpreter, libraries' own imports included. Rewards and packing are numpy only."""
    loaded = "{'jax', 'jaxlib', 'flax', 'optax', 'orbax'} & set(sys.modules)"
    if "packing" in modules:
        loaded = "{'flax', 'optax', 'orbax', 'sar_jax.model.network'} & set(sys.modules)"   # jaxtyping's Array loads jax itself
    done = subprocess.run([sys.executable, "-c", f"import sys, {modules}\nprint(sorted({loaded}))"], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name, allowed", [
    ("rewards", {"collections", "typing", "numpy", "jaxtyping"}),
    ("packing", {"collections", "typing", "numpy", "jaxtyping"}),
    ("results", {"collections", "typing", "numpy", "dataclasses", "math"}),
    ("alpha", {"collections", "typing"}), ("guards", {"collections", "typing"}),
    ("losses", {"collections", "typing", "numpy", "jaxtyping", "jax"})])
def test_the_arithmetic_knows_no_model_no_data_and_no_files(name, allowed):
    assert own(name) <= {"structs", "config"} and foreign(name) <= allowed
    names = {node.id for node in ast.walk(TREES[name]) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "exec", "eval", "__import__"}


def test_flax_stands_in_one_file():
    assert {name for name in FILES if "flax" in foreign(name)} == {"model"}
    assert not [name for name, tree in TREES.items() if name != "model" and any(
        isinstance(node, ast.Name) and node.id == "nnx" for node in ast.walk(tree))]


def test_no_file_name_shadows_the_standard_library_or_says_nothing():
    names = {part for name in FILES for part in name.split(".")}
    assert not names & sys.stdlib_module_names
    assert not names & {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name):
    assert len(FILES[name].read_text().splitlines()) <= 320
    long = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(TREES[name])
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno + 1 > 70}
    assert not long


@pytest.mark.parametrize("name", FILES)
def test_a_file_begins_with_what_it_is(name):
    assert ast.get_docstring(TREES[name])
