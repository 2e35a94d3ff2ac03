"""One run writes to a workdir: on a file system, and in a bucket (one that is kept in memory)."""

import json
import os
import socket
import subprocess
import sys
import threading

import pytest
from etils import epath
from support.commands import wait_for

from sar_jax.errors import UserError
from sar_jax.training.storage.lock import Lock

HOLD = """
import sys, multiprocessing, time
from etils import epath
from sar_jax.training.storage.lock import Lock
lock = Lock(epath.Path(sys.argv[1]))
lock.take()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that holds the lock; it has a worker, as a run has."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    worker = int(process.stdout.readline())
    yield process
    for pid in (process.pid, worker):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    process.wait()


def test_a_second_run_is_refused_and_told_who_has_the_workdir(owner, tmp_path):
    lock = Lock(epath.Path(tmp_path))
    with pytest.raises(UserError) as refused:
        lock.take()
    assert f"process {owner.pid} on {socket.gethostname()}" in str(refused.value)
    assert json.loads((tmp_path / "lock").read_text())["process"] == owner.pid


def test_a_killed_owner_does_not_block_though_its_workers_live(owner, tmp_path):
    owner.kill()
    owner.wait()
    with Lock(epath.Path(tmp_path)) as lock:
        lock.take()
        assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_it_can_be_taken_twice_by_its_owner(tmp_path):
    with Lock(epath.Path(tmp_path)) as lock:
        lock.take()
        lock.take()


def lease(bucket, **fields):
    there = {"host": "elsewhere", "process": 7, "since": "noon", "lease": "theirs", **fields}
    (bucket / "lock").write_text(json.dumps(there))


def test_a_lease_that_is_renewed_is_respected(bucket):
    lease(bucket)
    stop = threading.Event()

    def renew():
        for beat in range(1000):
            if stop.wait(0.05):
                return
            lease(bucket, renewed=beat)

    threading.Thread(target=renew).start()
    try:
        with pytest.raises(UserError, match="process 7 on elsewhere .since noon"):
            Lock(bucket, beat=0.2).take()
    finally:
        stop.set()


@pytest.mark.parametrize("there", [None, "{", '["x"]', {}, {"host": socket.gethostname()}])
def test_a_lease_that_is_over_or_damaged_is_taken_and_renewed(bucket, there):
    """Of the last: its owner was a process of this machine that has ended."""
    if isinstance(there, str):
        (bucket / "lock").write_text(there)
    elif there is not None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        lease(bucket, **there, process=ended.pid)
    with Lock(bucket, beat=0.05) as lock:
        lock.take()
        first = json.loads((bucket / "lock").read_text())
        assert first["process"] == os.getpid()
        now = lambda: json.loads((bucket / "lock").read_text())
        wait_for(lambda: now()["renewed"] > first["renewed"])
        assert now()["lease"] == first["lease"]
    assert not (bucket / "lock").exists()


def test_of_two_that_take_it_at_once_one_has_it(bucket):
    had = []

    def take():
        lock = Lock(bucket, beat=0.5)
        try:
            lock.take()
            had.append(lock)
        except UserError as error:
            had.append(error)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(x, Lock) for x in had) == [False, True]
    next(x for x in had if isinstance(x, Lock)).release()
