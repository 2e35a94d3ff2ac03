"""A checkpoint is what was written, or it is named, put aside and not used."""

import json
import random
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import saving

from sar_jax.errors import UserError
from sar_jax.training.storage import digests
from sar_jax.training.storage.identity import Identity


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    saving.save(folder, 1, 2)
    return folder


@pytest.fixture
def workdir(two_steps, tmp_path):
    return shutil.copytree(two_steps, tmp_path / "run")


def step(workdir, number=2):
    return workdir / "checkpoints" / f"{number:08d}"


def test_what_is_whole_is_resumed_to_the_last_bit(workdir, capsys):
    assert saving.is_of(*saving.resume(workdir), 2)
    assert not capsys.readouterr().out and not (workdir / "damaged").exists()


def flipped(workdir):
    saving.flip(saving.arrays_of(workdir, 2)[0], random.Random(3))


def flipped_unlisted(workdir):
    """Bits of arrays that are too large for their file to be hashed."""
    (step(workdir) / "files.json").unlink()
    for file in saving.arrays_of(workdir, 2)[:2]:
        data = bytearray(file.read_bytes())
        for i in range(len(data) // 4, len(data) // 2, 64):
            data[i] ^= 1
        file.write_bytes(data)


def zeroed(workdir):
    (step(workdir) / "files.json").unlink()
    file = saving.arrays_of(workdir, 2)[0]
    data = file.read_bytes()
    file.write_bytes(data[:2000] + bytes(3000) + data[5000:])


def cut(workdir):
    file = saving.arrays_of(workdir, 2)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


def cut_unlisted(workdir):
    """As on a step that an earlier version wrote."""
    (step(workdir) / "files.json").unlink()
    cut(workdir)


def lost(workdir):
    saving.arrays_of(workdir, 2)[0].unlink()


def lost_unlisted(workdir):
    (step(workdir) / "files.json").unlink()
    lost(workdir)


def lost_state(workdir):
    shutil.rmtree(step(workdir) / "state")


def other_iterator(workdir):
    (step(workdir) / "files.json").unlink()
    (step(workdir) / "data/metadata").write_text('{"next_index": 3}')


def lost_iterator(workdir):
    shutil.rmtree(step(workdir) / "data")


def other_meta(workdir):
    """One digit of the questions' fingerprint: damage, not other questions."""
    (step(workdir) / "files.json").unlink()
    file = step(workdir) / "meta/metadata"
    file.write_text(file.read_text().replace("these", "thesf"))


def cut_meta(workdir):
    (step(workdir) / "files.json").unlink()
    file = step(workdir) / "meta/metadata"
    file.write_text(file.read_text()[:50])


def meta_of_another_kind(workdir):
    (step(workdir) / "files.json").unlink()
    (step(workdir) / "meta/metadata").write_text("[]")


def cut_list(workdir):
    file = step(workdir) / "files.json"
    file.write_text(file.read_text()[:50])


def foreign(workdir):
    shutil.rmtree(step(workdir))
    other = workdir.parent / "other"
    saving.save(other, 2, own=saving.OWN._replace(run="another run"))
    shutil.copytree(step(other), step(workdir))


DAMAGES = {
    flipped: "state/",
    flipped_unlisted: "does not hold the numbers that were saved|state cannot be read",
    zeroed: "does not hold the numbers that were saved|state cannot be read",
    cut: "bytes, and had",
    cut_unlisted: "state cannot be read",
    lost: "is missing",
    lost_unlisted: "state cannot be read",
    other_iterator: "data is not what was written",
    lost_iterator: "data/.* is missing",
    other_meta: "meta is not what was written",
    cut_meta: "meta is not what was written",
    meta_of_another_kind: "meta is not what was written",
    cut_list: "files.json is damaged",
    foreign: "it is that of another run",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_step_is_named_and_kept_aside_and_the_one_before_resumed(workdir, capsys, damage):
    damage(workdir)
    assert saving.is_of(*saving.resume(workdir), 1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: the checkpoint of step 2 is damaged: ")
    assert line.endswith(f"it was moved to {workdir / 'damaged/00000002-1'}")
    assert re.search(DAMAGES[damage], line), line
    assert (workdir / "damaged/00000002-1/meta").is_dir() and not step(workdir).exists()


@pytest.mark.parametrize("damage", [cut, other_meta], ids=lambda damage: damage.__name__)
def test_without_an_earlier_step_nothing_is_begun_anew_and_nothing_moved(workdir, damage):
    shutil.rmtree(step(workdir, 1))
    damage(workdir)
    with pytest.raises(UserError, match="step 2 is damaged.*no earlier checkpoint that can"):
        saving.resume(workdir)
    assert step(workdir).is_dir()


@pytest.mark.parametrize("leave", ["empty", "half", "unfinished"])
def test_what_a_killed_save_leaves_behind_blocks_no_resume(workdir, capsys, leave):
    name = "00000009.orbax-checkpoint-tmp" if leave == "unfinished" else "00000009"
    left = workdir / "checkpoints" / name
    left.mkdir()
    if leave != "empty":
        (left / "meta").mkdir()
        (left / "meta/metadata").write_text("{")
    assert saving.is_of(*saving.resume(workdir), 2)
    printed = capsys.readouterr().out
    assert ("damaged/00000009-1" in printed) == (leave != "unfinished")
    saving.save(workdir, 9)
    assert saving.is_of(*saving.resume(workdir), 9)


def test_a_step_without_a_state_is_put_aside(workdir):
    lost_state(workdir)
    assert saving.is_of(*saving.resume(workdir), 1)
    assert (workdir / "damaged/00000002-1/meta/metadata").is_file()


def test_checkpoints_of_an_earlier_version_are_resumed(workdir):
    """They have no digests and no list, and the iterator as grain writes it."""
    folder = step(workdir)
    (folder / "files.json").unlink()
    (folder / "meta/metadata").write_text(json.dumps({"questions": "these"}))
    state = (folder / "data/metadata").read_text()
    (folder / "data/metadata").unlink()
    (folder / "data/process_0-of-1.json").write_text(state)
    assert saving.is_of(*saving.resume(workdir), 2)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"questions": "those"}, "different questions"),
        ({"model": {**saving.OWN.model, "the weights": "x"}}, "change in the weights of"),
        ({"model": {"config.json": "x", "the weights": "y"}}, "in config.json, the weights of"),
    ],
)
def test_another_model_and_other_questions_are_refused_by_name(workdir, change, words):
    with pytest.raises(UserError, match=words):
        saving.resume(workdir, Identity(**{**saving.OWN._asdict(), **change}))
    assert step(workdir).is_dir() and step(workdir, 1).is_dir()


def test_checkpoints_that_are_a_file_are_named(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="checkpoints is a file"):
        saving.resume(tmp_path)


def oracle(x: np.ndarray) -> list[int]:
    """The two sums in numpy, word by word."""
    words = x.view({1: np.uint8, 2: np.uint16}.get(x.itemsize, np.uint32)).ravel()
    mixed = np.arange(words.size, dtype=np.uint64)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> shift)) * factor % 2**32
    mixed ^= mixed >> 16
    weights = (mixed | 1, 2 * np.arange(words.size, dtype=np.uint64) + 1)
    return [sum(int(a) * int(b) for a, b in zip(words, weight)) % 2**32 for weight in weights]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 7)])
def test_the_sums_of_an_array(dtype, shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape) * 50, dtype)
    assert digests.sums(x).tolist() == oracle(np.atleast_1d(np.asarray(x)))


def test_digests_do_not_depend_on_how_arrays_are_spread():
    mesh = jax.make_mesh((len(jax.devices()),), ("fsdp",))
    x = jnp.arange(64.0).reshape(16, 4)
    whole = digests.of_arrays({"x": x})
    for spec in (("fsdp",), ()):
        spread = jax.NamedSharding(mesh, jax.P(*spec))
        assert digests.of_arrays({"x": jax.device_put(x, spread)}) == whole
    assert digests.of_arrays({"x": x.reshape(4, 16)}) != whole
    assert digests.of_arrays({"x": x.at[3, 1].set(jnp.nextafter(x[3, 1], 99.0))}) != whole
    assert digests.of_arrays({"x": x[::-1]}) != whole
