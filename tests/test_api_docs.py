"""docs/api.md and the notebook run as they are written, on the tiny model."""

import ast
import inspect
import json
import os
import subprocess
import sys

import nbclient
import nbformat
from support import docs
from support.commands import PATIENCE, ROOT
from support.environment import XLA_QUICK

import sar_jax

PAGE = (ROOT / "docs/api.md").read_text()
NOTEBOOK = ROOT / "examples/quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def run(code: str, cwd, flags: str) -> str:
    """What a fresh interpreter prints, on one device. flags: for XLA."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def calls(code: str) -> dict[str, list[ast.Call]]:
    """The calls of methods and functions of modules, by name."""
    found = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.setdefault(node.func.attr, []).append(node)
    return found


def test_the_page_shows_every_call():
    code = "\n".join(docs.fences(PAGE, "python", "py"))
    names = {"load", "train", "plan", "generate", "explain", "evaluate", "export"}
    assert names <= calls(code).keys()


def test_the_blocks_of_the_page_run_in_order():
    printed = run("\n".join(docs.fences(PAGE, "python")), ROOT, XLA_QUICK)
    assert "config.data.max_prompt_tokens is 80" in printed  # the last block's
    assert "stopped and saved at step 2 of 20" in printed


def test_calls_that_are_not_run_have_these_arguments():
    """Of a plan, and of what only a TPU runs."""
    functions, seen = {"train": sar_jax.train, "plan": sar_jax.plan, "load": sar_jax.load}, set()
    texts = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown"]
    shown = [fence for text in (PAGE, *texts) for fence in docs.fences(text, "python", "py")]
    for code in (*shown, *CODE):
        for name in functions.keys() & calls(code).keys():
            for call in calls(code)[name]:
                if isinstance(call.func.value, ast.Name) and call.func.value.id == "sj":
                    options = {keyword.arg: None for keyword in call.keywords}
                    inspect.signature(functions[name]).bind(*call.args, **options)
                    seen.add(name)
    assert seen == functions.keys()


def test_the_notebook_s_outputs_are_small_and_say_nothing_of_a_machine():
    assert NOTEBOOK.stat().st_size < 100_000
    for cell in CELLS:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            assert "/tmp" not in json.dumps(output)


# In the notebook, and in its test: it takes as many minutes otherwise.
SHORTER = {
    "steps=10": "steps=2",
    "config.rollout.samples = 16, 8": "config.rollout.samples = 4, 4",
    "minibatch_questions = 8": "minibatch_questions = 4",
    "config.rollout.max_answer_tokens = 64, 96": "config.rollout.max_answer_tokens = 16, 96",
    "packing.rows_per_microbatch = 288, 8": "packing.rows_per_microbatch = 288, 2",
    "arithmetic:64": "arithmetic:16",
}


def shorter(code: str) -> str:
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    return code


def test_the_notebook_runs(tmp_path, monkeypatch):
    """In a kernel, with fewer answers."""
    assert all(long in "".join(CODE) for long in SHORTER)
    monkeypatch.setenv("XLA_FLAGS", XLA_QUICK)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    resources = {"metadata": {"path": str(tmp_path)}}
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        cell.source = shorter(cell.source)
    done = nbclient.NotebookClient(notebook, timeout=PATIENCE, resources=resources).execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert any("R_SA" in str(output.get("data", {}).get("text/html")) for output in outputs)
    printed = "".join(output.get("text", "") for output in outputs)
    assert "step 2/2" in printed and "model.safetensors" in printed
    assert "no TPU here" in printed and not list(tmp_path.iterdir())


def test_the_notebook_s_settings_for_a_tpu_are_those_that_were_planned():
    """As the page beside them says: they are checked, and fit what they must."""
    from sar_jax.training.settings import checks

    (cell,) = [code for code in CODE if "def gemma_config" in code]
    scope = {"sj": sar_jax}
    exec(cell, scope)
    config = scope["gemma_config"]()
    checks.check(config)
    assert config.lora.rank and not list(checks.warnings(config))
