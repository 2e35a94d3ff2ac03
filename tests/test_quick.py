"""The quick tests and the checked annotations: that they are what they say."""

import ast

import jax.numpy as jnp
import jaxtyping
import pytest
from support.commands import ROOT
from support.quick import QUICK

from sar_jax.rl import losses


def test_every_folder_of_the_package_has_quick_tests_and_so_has_the_root():
    folders = {f.parent.name for f in (ROOT / "sar_jax").glob("*/__init__.py")}
    assert {entry.partition("/")[0] for entry in QUICK if "/" in entry} == folders
    assert any("/" not in entry for entry in QUICK)


@pytest.mark.parametrize("entry", QUICK)
def test_a_quick_test_is_there(entry):
    file, _, begin = entry.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert any(name.startswith(begin.partition("[")[0] or "test_") for name in names)


def test_shapes_in_annotations_are_checked_while_tests_run():
    """ "R T" has two dimensions, and the same ones for both."""
    assert losses.kl_k3(jnp.zeros((2, 3)), jnp.zeros((2, 3))).shape == (2, 3)
    for shapes in (((2, 3), (3, 2)), ((3,), (3,))):
        with pytest.raises(jaxtyping.TypeCheckError, match="kl_k3"):
            losses.kl_k3(*map(jnp.zeros, shapes))
