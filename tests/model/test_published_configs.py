"""The table of published models in docs/models.md is what the script makes of them."""

import runpy

import pytest
from support.commands import ROOT

from sar_jax.model import families

SCRIPT = runpy.run_path(str(ROOT / "benchmarks/published_configs.py"))
MODELS = SCRIPT["MODELS"]
# the smallest of each model type
SMALLEST = {}
for _name in sorted(MODELS, key=lambda name: MODELS[name][1] or 10**12):
    SMALLEST.setdefault(MODELS[_name][0]["model_type"], _name)


def test_the_page_has_the_table_of_today():
    """Each row also compares the parameters with those that the hub counts."""
    assert f"\n{SCRIPT['table']()}" in (ROOT / "docs/models.md").read_text()


def test_at_least_25_load_and_each_family_is_among_them():
    loads = [name for name in MODELS if "| |" not in SCRIPT["row"](name)]
    kinds = {MODELS[name][0]["model_type"] for name in loads}
    assert len(loads) >= 25 and kinds >= {*families.MODEL_TYPES, "gemma3"} - {"ministral"}


@pytest.mark.parametrize("kind", [*families.MODEL_TYPES, "gemma3"])
def test_parameters_are_those_that_transformers_makes(kind):
    if kind != "ministral":  # published as mistral
        ours, theirs = SCRIPT["count"](SMALLEST[kind])
        assert ours == theirs
