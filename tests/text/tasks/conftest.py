"""Shared by the tests of published data sets."""

import dataclasses

import pytest
from support.published import ROWS, write

from sar_jax.text import tasks
from sar_jax.text.tasks.example import Example


@pytest.fixture(autouse=True)
def all_rows_of_numina_are_its_test_split(monkeypatch):
    monkeypatch.setitem(
        tasks.TASKS, "numina", dataclasses.replace(tasks.TASKS["numina"], test_share=1.0)
    )


@pytest.fixture(scope="session")
def expected(tmp_path_factory) -> dict[str, list[Example]]:
    """What each task loads from JSON lines; the first test holds it against the table above."""
    folder = tmp_path_factory.mktemp("expected")
    found = {}
    for name, rows in ROWS.items():
        task = dataclasses.replace(tasks.TASKS[name], test_share=1.0 if name == "numina" else 0.0)
        found[name] = task("test", str(write(folder / f"{name}.jsonl", rows)))
    return found
