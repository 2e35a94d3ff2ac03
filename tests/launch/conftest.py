"""Shared by the tests of the launch scripts."""

import pytest
from support.cloud import Cloud


@pytest.fixture
def cloud(tmp_path):
    made = Cloud(tmp_path)
    yield made
    made.clean()
