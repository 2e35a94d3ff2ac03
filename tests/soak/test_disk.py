"""A disk that is full for a while, at random moments, and one that stays full."""

import pathlib
import random
import subprocess
import threading
import time

import pytest
from support.commands import PATIENCE, one_error, run_command, start_in_background
from support.soak_runs import assert_same_run, command

pytestmark = pytest.mark.soak

_MEGABYTES = 64


@pytest.fixture
def disk(tmp_path):
    """A file system of its own in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={_MEGABYTES}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: pathlib.Path) -> pathlib.Path:
    """Writes until nothing more fits."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (2**20, 2**10, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return filler


def test_full_for_a_while(disk, tmp_path, record_property):
    """Metrics, samples and checkpoints wait for room; the run is that of an empty disk."""
    rng, alone, times = random.Random(3), tmp_path / "alone", 8
    run_command(*command(tmp_path / "warm", "plain"), check=True)
    begin = time.monotonic()
    run_command(*command(alone, "plain"), check=True)
    whole, waited = time.monotonic() - begin, 0
    for i in range(times):
        workdir, output = disk / f"run{i}", tmp_path / f"printed{i}"
        process = start_in_background(
            *command(workdir, "plain"), "--config.checkpoint.keep=1", output=output
        )
        time.sleep(rng.uniform(0.5, 0.95) * whole)
        if workdir.exists() and process.poll() is None:
            filler = fill(disk)
            room = threading.Timer(rng.uniform(1, 8), filler.unlink)
            room.start()
        status = process.wait(PATIENCE)
        printed = output.read_text()
        if status != 0:  # it could not begin
            assert "error: " in printed and "Traceback" not in printed, printed
            room.join()
            run_command(*command(workdir, "plain"), "--config.checkpoint.keep=1", check=True)
        waited += "trying again" in printed
        assert_same_run(alone, workdir, "state")
        subprocess.run(["rm", "-r", workdir], check=True)
    print(f"\n{waited} of {times} waited for room")
    record_property("soak", ("a disk that is full for a while", times, times, 0, 0))


def test_full_for_good(disk, tmp_path, record_property):
    """One line, with the path; the checkpoint before is whole, and with room the run ends well."""
    alone, workdir = tmp_path / "alone", disk / "run"
    run_command(*command(alone, "plain"), check=True)
    patient = "--config.checkpoint.retry_seconds=2"
    keep = "--config.checkpoint.keep=1"
    run_command(*command(workdir, "plain"), keep, "--config.steps=4", check=True)
    filler = fill(disk)
    error = one_error(run_command(*command(workdir, "plain"), keep, patient))
    assert f"{workdir}/" in error and "No space left" in error, error
    filler.unlink()
    run_command(*command(workdir, "plain"), keep, check=True)
    assert_same_run(alone, workdir, "state")
    record_property("soak", ("a disk that stays full", 1, 0, 1, 0))
