"""Compiled programs are found again by the next run, and no state of their folder ends one."""

import os
import re
import subprocess
import sys

import jax
import pytest
from support.commands import PATIENCE, ROOT, free_port, run_command
from support.environment import CACHE
from support.training import read_metrics, state_of, timeless, train_command

from sar_jax.parallel import compiled

SCRIPT = """
import pathlib, resource
import jax, jax.numpy as jnp
from sar_jax.parallel import backend, compiled
{before}
backend.open_backend()
compiled.keep({given!r})
{after}
value = jax.jit(lambda x: jnp.sin(x).sum())(jnp.arange(1000.0))
print("result", float(value))
"""
FULL = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"  # every write fails, also root's


def start(caches, given=None, before="", after="", **environment) -> subprocess.Popen:
    """A process with one jitted function. caches: its user's cache folder."""
    env = {name: value for name, value in os.environ.items() if name not in CACHE}
    env |= {"XDG_CACHE_HOME": str(caches), "PYTHONPATH": str(ROOT)} | environment
    script = SCRIPT.format(given=given, before=before, after=after)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[str, str, str]:
    """What is said of the folder, the result, and what is on stderr."""
    out, errors = process.communicate()
    assert process.returncode == 0 and "Traceback" not in errors, errors
    said = re.findall("^compiled programs: (.*)$", out, re.MULTILINE)
    result = re.findall("^result (.*)$", out, re.MULTILINE)
    assert len(said) == len(result) == 1, out
    return said[0], result[0], errors


def run(*arguments, **named) -> tuple[str, str, str]:
    return finish(start(*arguments, **named))


def entries(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*-cache")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A user's cache folder after one run, and the result."""
    caches = tmp_path_factory.mktemp("caches")
    said, result, _ = run(caches)
    assert said.startswith(f"kept in {caches}/sar_jax/compiled/cpu-") and "(0 there" in said
    return caches, result


def copied(kept, tmp_path):
    caches, result = kept
    for path in caches.rglob("*-cache"):
        copy = tmp_path / path.relative_to(caches)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path, result


def test_the_next_run_compiles_nothing(kept):
    caches, result = kept
    before = entries(caches)
    assert before
    said, again, errors = run(caches)
    assert f"({len(before)} there)" in said and again == result and entries(caches) == before
    assert not errors


def test_programs_are_found_where_the_folder_was_moved(kept, tmp_path):
    caches, result = copied(kept, tmp_path)
    before = entries(caches)
    said, again, errors = run(caches)
    assert again == result and entries(caches) == before and not errors


@pytest.mark.parametrize("given", ["off", "none"])
def test_off_keeps_nothing(kept, tmp_path, given):
    said, result, errors = run(tmp_path, given)
    assert said == f"not kept (--compilation_cache={given})" and result == kept[1]
    assert not list(tmp_path.iterdir()) and not errors


def test_a_folder_of_ones_own(kept, tmp_path):
    said, _, _ = run(tmp_path / "caches", str(tmp_path / "mine"))
    assert said.startswith(f"kept in {tmp_path}/mine/cpu-") and entries(tmp_path / "mine")
    assert not (tmp_path / "caches").exists()


def test_jaxs_own_variables_win(tmp_path):
    own = tmp_path / "own"
    least = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    said, _, _ = run(tmp_path / "caches", JAX_COMPILATION_CACHE_DIR=str(own), **least)
    assert said == f"kept in {own} (JAX_COMPILATION_CACHE_DIR)" and entries(own)
    said, _, _ = run(tmp_path / "caches", JAX_ENABLE_COMPILATION_CACHE="false")
    assert said == "not kept (JAX_ENABLE_COMPILATION_CACHE)"
    assert not (tmp_path / "caches").exists()
    said, _, _ = run(tmp_path / "caches", JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="1000")
    assert said.startswith("kept in") and not entries(tmp_path / "caches")


def test_what_is_in_the_folders_place_is_named(kept, tmp_path):
    (tmp_path / "file").write_text("")
    for caches in (tmp_path / "file", "/proc/none"):
        said, result, errors = run(caches)
        assert said.startswith("not kept: ") and str(caches) in said and result == kept[1]
        assert "--compilation_cache=FOLDER" in said and not errors
    said, result, errors = run(tmp_path, str(tmp_path / "file"))
    assert said.startswith("not kept: ") and result == kept[1] and not errors


def test_a_user_without_a_home(kept):
    raises = "def home(): raise RuntimeError('Could not determine home directory.')\n"
    said, result, errors = run("relative", before=f"{raises}pathlib.Path.home = home")
    assert said.startswith("not kept: this user has no home") and result == kept[1]
    assert not errors


def test_a_full_disk(kept, tmp_path):
    """Before the run, without programs and with some, and during it."""
    said, result, errors = run(tmp_path / "none", before=FULL)
    assert said.startswith("not kept: ") and "too large" in said and result == kept[1]
    assert not errors
    caches, _ = copied(kept, tmp_path / "some")
    before = entries(caches)
    said, result, errors = run(caches, before=FULL)
    assert said.endswith("there, read-only)") and result == kept[1] and entries(caches) == before
    assert not errors
    said, result, errors = run(tmp_path / "later", after=FULL)
    assert said.startswith("kept in") and result == kept[1]
    assert errors.count("from here on no compiled program is kept") == errors.count("\n") == 1
    assert not entries(tmp_path / "later")  # not a part of one


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2]])
def test_damaged_programs_are_compiled_and_written_again(kept, tmp_path, damage):
    caches, _ = copied(kept, tmp_path)
    whole = entries(caches)
    for path in caches.rglob("*-cache"):
        path.write_bytes(damage(path.read_bytes()))
    said, result, errors = run(caches)
    assert result == kept[1] and errors.count("\n") == 1
    assert "a kept program cannot be read, and is compiled again" in errors
    assert {name: len(data) > 20 for name, data in entries(caches).items()} == dict.fromkeys(
        whole, True
    )
    said, result, errors = run(caches)
    assert result == kept[1] and not errors


def test_two_runs_at_once(kept, tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    assert [finish(process)[1] for process in both] == [kept[1]] * 2
    assert entries(tmp_path).keys() == entries(kept[0]).keys()


def test_the_user_s_folder_stays_below_a_size(tmp_path):
    """What was used last stays; what JAX has not written stays too."""
    for number, age in enumerate([5, 1, 4, 2, 3]):
        path = tmp_path / "cpu-1" / f"jit_f-{number}-cache"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - 2 * age))
    (tmp_path / "mine.txt").write_bytes(bytes(1000))
    left = lambda: sorted(path.name for path in tmp_path.rglob("*-cache"))
    compiled.prune(tmp_path, 500)
    assert len(left()) == 5
    compiled.prune(tmp_path, 299)
    assert left() == ["jit_f-1-cache", "jit_f-3-cache"]
    assert (tmp_path / "mine.txt").exists()
    compiled.prune(tmp_path / "missing", 0)


def test_tests_keep_theirs_in_a_folder_of_their_own():
    """And so do the commands that they start."""
    assert jax.config.jax_compilation_cache_dir == os.environ["SAR_JAX_TEST_CACHE"]
    assert CACHE["JAX_COMPILATION_CACHE_DIR"] == os.environ["SAR_JAX_TEST_CACHE"]


def test_a_run_with_kept_programs_is_bit_for_bit_the_same(hf_folder, finished, tmp_path):
    """Cold for a step, and then warm for two: metrics and parameters of the run that shares nothing
    with them."""
    folder = tmp_path / "programs"

    def train(name, steps):
        options = f"--config.steps={steps}", f"--compilation_cache={folder}"
        done = run_command(*train_command(hf_folder, tmp_path / name, *options), check=True)
        assert done.stdout.count(f"compiled programs: kept in {folder}/cpu-") == 1

    train("cold", 1)
    before = entries(folder)
    train("warm", 2)
    assert before and entries(folder).keys() >= before.keys()
    for name, steps in (("cold", 1), ("warm", 2)):
        lines = zip(read_metrics(tmp_path / name), read_metrics(finished[0])[: steps + 1])
        for ours, theirs in (map(timeless, pair) for pair in lines):  # the last one is evaluated
            both = ours.keys() & theirs.keys()
            assert {n: ours[n] for n in both} == {n: theirs[n] for n in both} and "step" in both
        ours, theirs = state_of(tmp_path / name, steps), state_of(finished[0], steps)
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))


TOGETHER = """
import sys
import jax, jax.numpy as jnp, numpy as np
from absl import flags
from sar_jax.parallel import compiled, multihost
folder = flags.FLAGS(sys.argv)[1]
multihost.initialize()
compiled.keep(folder)
place = jax.NamedSharding(jax.make_mesh((2,), ("all",)), jax.P("all"))
value = jax.make_array_from_process_local_data(place, np.arange(500.0))
print("result", float(jax.jit(lambda x: jnp.sin(x).sum())(value)))
multihost.leave(0)
"""


@pytest.mark.parametrize("shared", [True, False])
def test_processes_keep_programs_where_all_see_them(tmp_path, shared):
    """Elsewhere the first one would wait for the others, which compile."""
    folders = [tmp_path / "here", tmp_path / ("here" if shared else "there")]
    port = free_port()
    env = {name: value for name, value in os.environ.items() if name not in (*CACHE, "XLA_FLAGS")}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, f"--coordinator=127.0.0.1:{port}", "--processes=2",
             f"--process={i}", str(folder)],
            env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for i, folder in enumerate(folders)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], outputs
    said = re.findall("^compiled programs: (.*)$", "\n".join(outputs), re.MULTILINE)
    results = re.findall("^result (.*)$", "\n".join(outputs), re.MULTILINE)
    assert len(said) == len(results) == 2 and len(set(results)) == 1
    if shared:
        assert all(one.startswith(f"kept in {folders[0]}/cpu-") for one in said)
        assert entries(folders[0])
    else:
        assert f"not kept: {folders[0]}/cpu-" in said[0] and "all processes" in said[0]
        assert not entries(tmp_path)
