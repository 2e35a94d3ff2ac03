"""What the TPU compiler says of a program, said again where it was compiled before."""

import dataclasses
import importlib.metadata
import math
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache
from support.commands import PATIENCE, ROOT

from sar_jax.parallel import sharding
from sar_jax.planning import compiling, hlo
from sar_jax.planning.kept import Kept
from sar_jax.planning.measured import Watch
from sar_jax.planning.programs import Program

pytestmark = pytest.mark.usefixtures("tpu_compiler")


def program(width=256, beside=0, topology="v5e:2x2", rows=8, factor=2.0):
    """A product whose result is summed over four chips."""
    mesh = sharding.make_mesh(1, -1, 1, compiling.describe(topology).devices)
    x = jax.ShapeDtypeStruct((rows, width), jnp.bfloat16, sharding=sharding.by_rows(mesh))
    function = jax.jit(lambda x: (factor * x.T @ x).sum(1), out_shardings=sharding.replicated(mesh))
    return Program(lambda: function.lower(x), mesh, beside)


@pytest.fixture
def compilations(monkeypatch):
    """Counts them."""
    count, compile_one = [], jax.stages.Lowered.compile
    counted = lambda self, *given: (count.append(1), compile_one(self, *given))[1]
    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    return count


def figures(measured):
    return dataclasses.asdict(measured) | {"cached": None}


def test_a_program_that_was_compiled_is_not_compiled_again(tmp_path, compilations):
    first = compiling.measure(program(), Kept(tmp_path))
    again = compiling.measure(program(), Kept(tmp_path))
    assert len(compilations) == 1 and not first.cached and again.cached
    assert figures(first) == figures(again)
    assert first.sent > 0 and first.total > first.arguments > 0
    beside = compiling.measure(program(beside=1000), Kept(tmp_path))
    assert beside.cached and beside.total == first.total + 1000  # the same program, elsewhere
    assert not compiling.measure(program()).cached and len(compilations) == 2  # nothing is kept


@pytest.mark.parametrize(
    "changed", [{"width": 512}, {"topology": "v6e:2x2"}, {"factor": 3.0}, {"topology": "v5e:2x4"}]
)
def test_another_program_and_another_slice_are_compiled(tmp_path, compilations, changed):
    compiling.measure(program(), Kept(tmp_path))
    assert not compiling.measure(program(**changed), Kept(tmp_path)).cached
    assert len(compilations) == 2


def _another_jaxlib(monkeypatch):
    real = importlib.metadata.version
    fake = lambda name: "9.9" if name == "jaxlib" else real(name)
    monkeypatch.setattr(importlib.metadata, "version", fake)


@pytest.mark.parametrize(
    "change",
    [
        _another_jaxlib,
        lambda m: m.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_enable_latency_hiding_scheduler=false"),
        lambda m: m.setenv("XLA_FLAGS", "--xla_dump_max_hlo_modules=1"),
        lambda m: m.setattr(compiling, "_VERSION", 1000),
        lambda m: m.setattr(compiling, "_reader", lambda: "another parser of collectives"),
    ],
    ids=["jaxlib", "libtpu's options", "XLA's options", "record", "reader"],
)
def test_the_key_is_of_all_that_figures_follow_from(monkeypatch, change):
    before = compiling._lower(program()).key
    assert compiling._lower(program()).key == before
    change(monkeypatch)
    assert compiling._lower(program()).key != before


def test_the_key_is_of_where_the_devices_are():
    """The same text for the same chips, each at another place of the mesh."""
    mesh, text = program().mesh, "module @m"
    turned = jax.sharding.Mesh(mesh.devices[:, ::-1], mesh.axis_names)
    assert compiling._key(text, mesh) != compiling._key(text, turned)


def test_a_damaged_record_is_compiled_again(tmp_path, compilations, capsys):
    first = compiling.measure(program(), Kept(tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace('"temporary": ', '"temporary": 9'))
    again = compiling.measure(program(), Kept(tmp_path))
    assert not again.cached and len(compilations) == 2 and "warning" in capsys.readouterr().err
    spent = {"compile_seconds": None}
    assert figures(again) | spent == figures(first) | spent
    assert compiling.measure(program(), Kept(tmp_path)).cached  # mended


def test_that_there_is_no_room_is_kept_too(tmp_path, compilations):
    mesh = program().mesh
    x = jax.ShapeDtypeStruct((2**36,), jnp.bfloat16, sharding=sharding.replicated(mesh))
    huge = Program(lambda: jax.jit(lambda x: x * 2).lower(x), mesh, 0)
    for cached in (False, True):
        found = compiling.measure(huge, Kept(tmp_path))
        assert math.isinf(found.total) and found.compiler and found.cached == cached
    assert len(compilations) == 1


class Heard(Watch):
    """Writes down what it hears."""

    def __init__(self):
        self.said = []

    def tell(self, what, number=0, count=0):
        self.said.append((what, number, count))

    def found(self, name, program):
        self.said.append((name, program))


@pytest.fixture
def jax_keeps(tmp_path):
    """The folder where JAX keeps programs for this test alone: others write to the shared one."""

    def keep_in(folder):
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", str(folder))

    shared = jax.config.jax_compilation_cache_dir
    keep_in(tmp_path / "programs")
    yield tmp_path / "programs"
    keep_in(shared)


def test_jax_keeps_no_programs_for_tpus(jax_keeps):
    """It could not read them here, and warns."""
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.jit(lambda x: x + 1)(jnp.ones(3))  # it does keep others
    before = sorted(jax_keeps.glob("*-cache"))
    assert before
    compiling.measure(program(384))
    assert sorted(jax_keeps.glob("*-cache")) == before
    assert jax.config.jax_persistent_cache_min_compile_time_secs == least


def test_two_are_compiled_at_once(tmp_path, monkeypatch):
    """Each waits for the other one here."""
    both, compile_one = threading.Barrier(2, timeout=PATIENCE), jax.stages.Lowered.compile
    together = lambda self, *given: (both.wait(), compile_one(self, *given))[1]
    monkeypatch.setattr(jax.stages.Lowered, "compile", together)
    monkeypatch.setattr(compiling, "_AT_ONCE", 2)
    heard = Heard()
    given = {f"{rows}": program(rows=rows) for rows in (8, 16, 32, 64)}
    found = compiling.measure_all(given, Kept(tmp_path), heard)
    assert list(found) == list(given) and not any(p.cached for p in found.values())
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_one)
    for name, one in given.items():
        assert compiling.measure(one, Kept(tmp_path)) == dataclasses.replace(
            found[name], cached=True
        )
        alone = compiling.measure(one)
        assert figures(alone) | {"compile_seconds": 0} == figures(found[name]) | {
            "compile_seconds": 0
        }
    assert ("compiling 8 and 16", 1, 4) in heard.said


def test_one_that_fails_is_raised_and_the_others_are_kept(tmp_path, monkeypatch):
    real = jax.stages.Lowered.compile

    def fail(self, *given):
        if "1024" in self.as_text():
            raise jax.errors.JaxRuntimeError("INTERNAL: no reason")
        return real(self, *given)

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    monkeypatch.setattr(compiling, "_AT_ONCE", 1)
    given = {"good": program(), "bad": program(rows=1024)}
    with pytest.raises(jax.errors.JaxRuntimeError, match="no reason"):
        compiling.measure_all(given, Kept(tmp_path))
    assert compiling.measure(given["good"], Kept(tmp_path)).cached


def test_the_known_come_first_then_the_short_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "_AT_ONCE", 1)

    def long():  # a program of many lines
        lowered = program()
        x = jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharding.replicated(lowered.mesh))
        many = jax.jit(lambda x: sum(x * i for i in range(50)))
        return Program(lambda: many.lower(x), lowered.mesh, 0)

    compiling.measure(program(512), Kept(tmp_path))
    heard = Heard()
    given = {"long": long(), "short": program(), "known": program(512)}
    found = compiling.measure_all(given, Kept(tmp_path), heard)
    assert list(found) == list(given)  # in a step's order
    assert [said[0] for said in heard.said] == [
        "tracing the programs",
        "known",
        "compiling short",
        "short",
        "compiling long",
        "long",
    ]
    numbered = [said[1:] for said in heard.said if said[0].startswith("compiling")]
    assert numbered == [(2, 3), (3, 3)]  # which of how many
    assert [found[n].cached for n in given] == [False, False, True]
    for name, program_found in heard.said[1::2][1:]:
        assert found.get(name, program_found) == program_found


def test_a_program_that_cannot_be_printed_says_nothing_on_stderr(monkeypatch, capfd):
    """jax 0.10 logs the whole stack where XLA fails to print some programs, and raises too."""

    def fail(self):
        os.write(2, b"E1127 status_macros.cc:58] INTERNAL: RET_CHECK failure\n")
        raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure")

    monkeypatch.setattr(jax.stages.Compiled, "as_text", fail)
    found = compiling.measure(program())
    assert found.sent is None and found.collectives is None and found.total > 0
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_libtpu_does_not_complain_of_this_machine():
    """It does when it is loaded, which is once in a process."""
    code = "from sar_jax.planning import compiling; compiling.describe('v5e:2x2')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


def test_bytes_sent_are_those_of_the_program_s_text():
    with compiling._not_kept_by_jax():
        text = compiling._lower(program()).stage.compile().as_text()
    assert compiling.measure(program()).collectives == hlo.collective_bytes(text, 4)
