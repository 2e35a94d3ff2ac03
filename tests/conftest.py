"""Shared by all tests: the environment, the order of the files, and fixtures."""

import pathlib

import support.environment  # noqa: F401   before JAX

import jax
import numpy as np
import pytest
from support.models import FAMILIES, Loaded, make_hf_folder
from support.oracle import Oracle

from sar_jax.parallel import sharding

# The files that take longest begin, so that the workers end at about the same time.
_LONGEST = (
    "test_train.py",
    "test_multihost.py",
    "test_critic.py",
    "test_lora.py",
    "test_sampler.py",
    "test_sharding.py",
    "test_learner.py",
    "test_launch.py",
    "test_plan.py",
    "test_verifier.py",
    "test_network.py",
    "test_losses.py",
    "test_pretrain.py",
    "test_score.py",
)


def pytest_collection_modifyitems(config, items):
    rank = {name: i for i, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    if "explore" not in config.option.markexpr:
        drawn = [item for item in items if item.get_closest_marker("explore")]
        config.hook.pytest_deselected(items=drawn)
        items[:] = [item for item in items if not item.get_closest_marker("explore")]


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory) -> pathlib.Path:
    return make_hf_folder(tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture(scope="session")
def oracle(hf_folder) -> Oracle:
    """Of the model that `loaded` is."""
    return Oracle(hf_folder)


@pytest.fixture(scope="session")
def mesh():
    """One device."""
    return sharding.make_mesh(1, 1, 1, jax.devices()[:1])


@pytest.fixture(scope="session")
def loaded(hf_folder, mesh) -> Loaded:
    return Loaded(hf_folder, mesh)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def each_family(request, tmp_path_factory, mesh) -> Loaded:
    """A random model of every family, with its oracle."""
    folder = make_hf_folder(
        tmp_path_factory.mktemp("family") / request.param, seed=2, family=request.param
    )
    loaded = Loaded(folder, mesh)
    loaded.oracle = Oracle(folder, long=True)
    return loaded


@pytest.fixture(scope="session")
def verifier():
    from sar_jax.text.answers.verifier import Verifier

    with Verifier(workers=1, timeout=20) as made:
        yield made


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tpu_compiler(monkeypatch):
    """For this process: libtpu reads XLA_FLAGS too, and dies of those for CPUs."""
    jax.devices()  # which have read them now
    monkeypatch.delenv("XLA_FLAGS")
