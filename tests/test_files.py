"""Writes that are tried again for a while."""

import errno
import os
import pathlib
import time

import pytest
from etils import epath

from sar_jax import files
from sar_jax.errors import UserError

HERE, BUCKET = pathlib.Path("run/metrics.jsonl"), epath.Path("gs://bucket/run")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DENIED = PermissionError(errno.EACCES, os.strerror(errno.EACCES))


class Failing:
    """Fails a few times before it succeeds."""

    def __init__(self, error, times):
        self.error, self.left, self.calls = error, times, 0

    def __call__(self):
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "written"


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time passes by waiting alone."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.mark.parametrize(
    "error, path",
    [(FULL, HERE), (UserError(f"the checkpoint ... ({FULL.strerror}); ..."), HERE)]
    + [(DENIED, BUCKET), (UserError("the bucket is away"), BUCKET)],
)
def test_what_may_pass_is_tried_until_it_has(error, path, capsys, clock):
    write = Failing(error, 4)
    assert files.persistently(write, 60, path) == "written"
    assert write.calls == 5 and 10 < clock[0] < 30
    assert capsys.readouterr().out.count("trying again") == 4


@pytest.mark.parametrize("error", [DENIED, FileNotFoundError(2, "x"), UserError("no such step")])
def test_what_stays_is_raised_at_once(error, clock):
    write = Failing(error, 4)
    with pytest.raises(type(error)):
        files.persistently(write, 60, HERE)
    assert write.calls == 1 and clock[0] == 0


@pytest.mark.parametrize("seconds", [0, 5, 60])
def test_in_the_end_the_last_error_is_raised_and_no_time_is_lost(seconds, clock):
    with pytest.raises(OSError, match="No space left"):
        files.persistently(Failing(FULL, 10**9), seconds, HERE)
    assert clock[0] == pytest.approx(seconds)


def test_an_error_that_names_no_file_names_the_one_that_was_written():
    """As a write to a full device does: /dev/full is one."""
    with pytest.raises(OSError) as raised, files.naming(HERE):
        with open("/dev/full", "w") as file:
            file.write("x")
    assert raised.value.filename == str(HERE) and raised.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError) as raised, files.naming(HERE):
        open("no such file")
    assert raised.value.filename == "no such file"
    with pytest.raises(OSError) as raised:
        files.persistently(Failing(FULL, 9), 0, HERE)
    assert raised.value.filename == str(HERE)
