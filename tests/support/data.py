"""Real rows: the published data sets in the folder that SAR_JAX_TEST_DATA names, if it does."""

import json
import os
import pathlib

import pytest


def real(*parts: str) -> pathlib.Path:
    """A file or folder of theirs; the test is skipped where there is none."""
    path = pathlib.Path(os.environ.get("SAR_JAX_TEST_DATA", "/nowhere")).joinpath(*parts)
    return path if path.exists() else pytest.skip(f"SAR_JAX_TEST_DATA has no {'/'.join(parts)}")


def real_rows(*parts: str) -> list[dict]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in real(*parts).read_bytes().split(b"\n") if line]
