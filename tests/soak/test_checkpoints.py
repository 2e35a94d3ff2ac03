"""Damaged checkpoints: each is found, and the one before it resumed, or what is resumed is what was
written, where the damage is in bytes that nothing reads."""

import json
import random
import shutil

import pytest
from support import saving
from support.soak import Tally

pytestmark = pytest.mark.soak

_WIDTH = 30  # times larger than in the quick tests: then files hold more than is hashed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    saving.save(folder, 1, 2, width=_WIDTH)
    return folder


def flip(workdir, rng):
    files = saving.arrays_of(workdir, 2)
    saving.flip(rng.choices(files, [file.stat().st_size for file in files])[0], rng)


def zero(workdir, rng):
    file = saving.arrays_of(workdir, 2)[0]
    data = bytearray(file.read_bytes())
    at = rng.randrange(len(data) - 4096)
    data[at : at + 4096] = bytes(4096)
    file.write_bytes(data)


def lose(workdir, rng):
    rng.choice(saving.arrays_of(workdir, 2)[:3]).unlink()


def cut(workdir, rng):
    file = rng.choice(saving.arrays_of(workdir, 2)[:3])
    file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])


def anywhere(workdir, rng):
    """One bit of any file of the step."""
    folder = workdir / "checkpoints/00000002"
    saving.flip(rng.choice(sorted(p for p in folder.rglob("*") if p.is_file())), rng)


def iterator(workdir, rng):
    file = workdir / "checkpoints/00000002/data/metadata"
    file.write_text(json.dumps({"next_index": rng.randrange(3, 99)}))


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize(
    "damage, times", [(flip, 60), (zero, 15), (lose, 5), (cut, 4), (anywhere, 40), (iterator, 3)]
)
def test_damage(whole, tmp_path, record_property, capsys, damage, times, listed):
    name = damage.__name__ + ("" if listed else ", unlisted")
    rng, tally = random.Random(name), Tally(f"checkpoint: {name}", limit=120)
    for i in range(times):
        workdir = tmp_path / "run"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(whole, workdir)
        if not listed:  # as of an earlier version, or a process that was killed
            (workdir / "checkpoints/00000002/files.json").unlink()
        damage(workdir, rng)
        found = tally.call(str(i), lambda: saving.resume(workdir, width=_WIDTH))  # noqa: B023
        if found is None:
            tally.wrong.append(f"{i}: refused, although step 1 is whole")
        elif not saving.is_of(*found, found[0].step, width=_WIDTH):
            tally.refute(str(i), f"step {found[0].step} with other numbers")
        elif found[0].step == 2 and listed and damage not in (flip, zero, anywhere):
            tally.refute(str(i), "not found")
    tally.finish(record_property)
