"""Shared by all tests: the environment, the order of the files, and fixtures."""

import gc
import pathlib

import support.environment  # noqa: F401   before JAX

from support.annotations import check_annotations

check_annotations()  # before sar_jax

import jax
import numpy as np
import pytest
from support import memory_bucket
from support.commands import PATIENCE, run_command
from support.models import FAMILIES, FEW, Loaded, make_hf_folder
from support.oracle import Oracle
from support.quick import QUICK, has_quick, is_quick
from support.training import train_command

from sar_jax.parallel import sharding

TESTS = pathlib.Path(__file__).parent
# The files that take longest begin, so that the workers end at about the same time.
_LONGEST = (
    "test_train.py",
    "test_multihost.py",
    "test_critic.py",
    "test_lora.py",
    "test_sampler.py",
    "test_sharding.py",
    "test_learner.py",
    "test_train_variants.py",
    "test_slices.py",
    "test_scripts.py",
    "test_workers.py",
    "test_plan.py",
    "test_hlo.py",
    "test_verifier.py",
    "test_network.py",
    "test_configurations.py",
    "test_losses.py",
    "test_pretrain.py",
    "test_score.py",
)


def pytest_ignore_collect(collection_path, config):
    """Files without quick tests need not be read for `pytest -m quick`; else nothing is said."""
    if config.option.markexpr == "quick" and collection_path.name.startswith("test_"):
        return not has_quick(str(collection_path.relative_to(TESTS))) or None
    return None


def pytest_collection_finish(session):
    """What is imported by now stays: looking through it for garbage takes a twentieth of the time
    of tests that trace and compile."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if is_quick(_name(item)):
            item.add_marker("quick")
        family = item.callspec.params.get("each_family") if hasattr(item, "callspec") else None
        if family not in FEW and item.get_closest_marker("few_families"):
            item.add_marker("explore")
    if config.option.markexpr == "quick" and config.args == config.getini("testpaths"):
        names = [_name(item) for item in items]
        missing = [entry for entry in QUICK if not any(name.startswith(entry) for name in names)]
        if missing:
            raise pytest.UsageError(f"support/quick.py: no test begins with {missing[0]}")
    rank = {name: i for i, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    for marker in ("explore", "soak"):
        if marker not in config.option.markexpr:
            apart = [item for item in items if item.get_closest_marker(marker)]
            config.hook.pytest_deselected(items=apart)
            items[:] = [item for item in items if not item.get_closest_marker(marker)]


def _name(item) -> str:
    """Below tests/, such as "rl/test_alpha.py::test_steps_by_hand"."""
    return item.nodeid.partition("tests/")[2]


@pytest.fixture
def bucket(monkeypatch):
    """gs://bucket, kept in memory."""
    return memory_bucket.install(monkeypatch)


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory) -> pathlib.Path:
    return make_hf_folder(tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture(scope="session")
def oracle(hf_folder) -> Oracle:
    """Of the model that `loaded` is."""
    return Oracle(hf_folder)


@pytest.fixture(scope="session")
def finished(hf_folder, tmp_path_factory) -> tuple[pathlib.Path, str]:
    """A run of four steps that nothing interrupted: its workdir and what it printed. What others do
    like it is compared with a process that shares nothing with theirs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = run_command(*train_command(hf_folder, workdir), real=True, check=True)
    return workdir, done.stdout


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

    with Verifier(workers=1, timeout=PATIENCE) as made:
        yield made


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tpu_compiler(monkeypatch):
    """For this process: libtpu reads XLA_FLAGS too, and dies of those for CPUs."""
    pytest.importorskip("libtpu")
    jax.devices()  # which have read them now
    monkeypatch.delenv("XLA_FLAGS")
