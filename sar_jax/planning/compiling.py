"""Programs compiled by the TPU compiler, and what it says of their memory and of what they send.

    measure       one program
    measure_all   those of a run, the cheap ones first

A program is known by its text. What was compiled before, by the same compiler for the same devices,
is read (`kept`), so a plan of what was planned before takes no longer than tracing it.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from sar_jax.parallel import backend, chips, memory
from sar_jax.planning import hlo
from sar_jax.planning.kept import Kept
from sar_jax.planning.measured import SILENT, Measured, Watch
from sar_jax.planning.programs import Program

_VERSION = 1  # of a record
_AT_ONCE = min(2, os.cpu_count() or 1)  # programs; a large one takes some GiB meanwhile
# What the compiler is told beside a program's text: by the environment, and by JAX.
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_SETTINGS = (
    "jax_optimization_level",
    "jax_memory_fitting_level",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
    "jax_compiler_enable_remat_pass",
    "jax_disable_most_optimizations",
    "jax_use_shardy_partitioner",
)


class _Lowered(NamedTuple):
    """text: of the program, without what says where a line of Python is."""

    program: Program
    stage: jax.stages.Lowered
    text: str
    key: str


class _Compiled(NamedTuple):
    """stage: None where the compiler finds no room, which error says; seconds: that it took."""

    stage: jax.stages.Compiled | None
    error: str | None
    seconds: float


def describe(topology: str) -> chips.Slice:
    """`chips.describe`, without what libtpu says of a machine that has no TPU."""
    with backend.without_noise():
        return chips.describe(topology)


def measure(program: Program, kept: Kept | None = None) -> Measured:
    """What the compiler says of a program; kept: where that was compiled before may be found."""
    return measure_all({"": program}, kept)[""]


def measure_all(
    programs: Mapping[str, Program], kept: Kept | None = None, watch: Watch = SILENT
) -> dict[str, Measured]:
    """The same of several, in their order; watch hears first of those that are known."""
    lowered, found = {}, {}
    watch.tell("tracing the programs", 0, len(programs))
    for name, program in programs.items():
        lowered[name] = _lower(program)
        if known := _known(lowered[name], kept):
            found[name] = known
            watch.found(name, known)
    others = {name: low for name, low in lowered.items() if name not in found}
    count = len(programs)
    tell = lambda names: watch.tell(f"compiling {' and '.join(names)}", len(found) + 1, count)
    for name, compiled in _compile_all(others, tell):
        found[name] = _written(lowered[name], compiled, kept)
        watch.found(name, found[name])
    return {name: found[name] for name in programs}


def _compile_all(
    lowered: Mapping[str, _Lowered], tell: Callable[[Collection[str]], None]
) -> Iterator[tuple[str, _Compiled]]:
    """Each as soon as it is done, the short ones first; tell: hears what is compiled now.

    The compiler works on one core for most of a program, and on all of them for parts of a long
    one: that one beside all others, from the beginning, took longer.
    """
    waiting = collections.deque(sorted(lowered, key=lambda name: len(lowered[name].text)))
    with _not_kept_by_jax(), concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        running: dict[concurrent.futures.Future[_Compiled], str] = {}
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                name = waiting.popleft()
                running[pool.submit(_compile, lowered[name])] = name
            tell(running.values())
            done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                yield running.pop(future), future.result()


def _lower(program: Program) -> _Lowered:
    with jax.sharding.use_abstract_mesh(program.mesh.abstract_mesh):
        stage = program.lower()
    text = stage.as_text()
    return _Lowered(program, stage, text, _key(text, program.mesh))


def _key(text: str, mesh: jax.sharding.Mesh) -> str:
    """Of everything that the figures of a program follow from."""
    place = lambda d: [getattr(d, name, None) for name in ("id", "coords", "core_on_chip")] + [
        getattr(d, "slice_index", 0), getattr(d, "process_index", 0)
    ]  # fmt: skip
    devices = [place(device) for device in mesh.devices.flat]
    told = {name: os.environ.get(name) for name in _ENVIRONMENT}
    told |= {name: str(getattr(jax.config, name, None)) for name in _SETTINGS}
    what = [_VERSION, _reader(), _versions(), mesh.devices.flat[0].device_kind, devices, told, text]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _reader() -> str:
    """Of what reads a program's collectives: another one may find other bytes."""
    source = importlib.resources.files(__package__).joinpath("hlo.py").read_bytes()
    return hashlib.sha256(source).hexdigest()


def _versions() -> list[str]:
    found = []
    for name in ("jax", "jaxlib", "libtpu", "libtpu-nightly"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def _known(lowered: _Lowered, kept: Kept | None) -> Measured | None:
    record = kept and kept.read(lowered.key)
    return _measured(record, lowered.program.beside, cached=True) if record else None


def _compile(lowered: _Lowered) -> _Compiled:
    start = time.monotonic()
    try:
        stage = lowered.stage.compile()
    except jax.errors.JaxRuntimeError as error:
        if not memory.is_exhausted(error):
            raise
        return _Compiled(None, str(error).splitlines()[0], time.monotonic() - start)
    return _Compiled(stage, None, time.monotonic() - start)


def _written(lowered: _Lowered, compiled: _Compiled, kept: Kept | None) -> Measured:
    """What is known of it now, and is kept."""
    record: dict[str, Any] = {"compile_seconds": compiled.seconds}
    if compiled.stage is None:
        record["compiler"] = compiled.error
    else:
        about = compiled.stage.memory_analysis()
        record |= {
            "bytes": memory.program_bytes(compiled.stage),
            "temporary": about.temp_size_in_bytes,
            "arguments": about.argument_size_in_bytes,
            "collectives": _collectives(compiled.stage, lowered.program.mesh.size),
        }
    if kept:
        kept.write(lowered.key, record)
    return _measured(record, lowered.program.beside, cached=False)


def _collectives(compiled: jax.stages.Compiled, devices: int) -> dict[str, float] | None:
    """None where the program cannot be printed: jax 0.10 fails with some kinds of attention."""
    try:
        with _silent():  # a trace of the stack comes with the error
            text = compiled.as_text()
    except jax.errors.JaxRuntimeError:
        return None
    return hlo.collective_bytes(text, devices)


def _measured(record: Mapping[str, Any], beside: int, cached: bool) -> Measured:
    """beside: it is no part of a record, since the same program may run beside something else."""
    if "bytes" not in record:
        return Measured(
            total=math.inf,
            beside=beside,
            temporary=math.inf,
            compile_seconds=record["compile_seconds"],
            compiler=record["compiler"],
            cached=cached,
        )
    sent = record["collectives"]
    return Measured(
        total=record["bytes"] + beside,
        beside=beside,
        temporary=record["temporary"],
        arguments=record["arguments"],
        collectives=sent,
        sent=None if sent is None else sum(sent.values()),
        compile_seconds=record["compile_seconds"],
        cached=cached,
    )


@contextlib.contextmanager
def _not_kept_by_jax() -> Iterator[None]:
    """JAX's own cache would write programs for TPUs that it cannot read again without one."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What libraries write to stderr meanwhile is lost."""
    sys.stderr.flush()
    shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nowhere)
