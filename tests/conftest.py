"""Shared by all tests: the environment, the order of the files, and fixtures."""

import pathlib

import support.environment  # noqa: F401   before JAX

import jax
import numpy as np
import pytest
from support.models import FAMILIES, Loaded, load_torch, make_hf_folder

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


def pytest_collection_modifyitems(items):
    rank = {name: i for i, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory) -> pathlib.Path:
    return make_hf_folder(tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture(scope="session")
def torch_model(hf_folder):
    return load_torch(hf_folder)


@pytest.fixture(scope="session")
def mesh():
    """One device."""
    return sharding.make_mesh(1, 1, 1, jax.devices()[:1])


@pytest.fixture(scope="session")
def loaded(hf_folder, mesh) -> Loaded:
    return Loaded(hf_folder, mesh)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def each_family(request, tmp_path_factory, mesh) -> Loaded:
    """A random model of every family; `.torch` is the oracle."""
    folder = make_hf_folder(
        tmp_path_factory.mktemp("family") / request.param, seed=2, family=request.param
    )
    loaded = Loaded(folder, mesh)
    loaded.torch = load_torch(folder, long=True)
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
