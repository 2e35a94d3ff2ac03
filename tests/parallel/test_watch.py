"""Signs of life: who is silent for too long, and that an abort waits for the last line."""

import subprocess
import sys
import time

from support.commands import PATIENCE, ROOT

from sar_jax.parallel import watch

LIFE = "sar_jax/life/"


def test_who_gives_no_new_sign_for_too_long_is_found():
    start = time.monotonic()
    watched = watch.Watch(3, 0, timeout=10)
    now = start + 1
    signs = {f"{LIFE}0": "1", f"{LIFE}1": "1"}
    assert watched.silent(signs, now) == []  # process 2 has not said anything yet
    signs |= {f"{LIFE}0": "5", f"{LIFE}1": "2"}
    assert watched.silent(signs, now + 9) == []
    signs[f"{LIFE}0"] = "6"
    assert watched.silent(signs, now + 10.5) == [2]
    signs |= {f"{LIFE}0": "7", f"{LIFE}2": "1"}  # it was only slow
    assert watched.silent(signs, now + 18.9) == []
    signs[f"{LIFE}0"] = "9"
    assert watched.silent(signs, now + 19.1) == [1]
    # this process itself was stopped for an hour, and so were the others: all have new signs
    assert watched.silent({f"{LIFE}{p}": "99" for p in range(3)}, now + 3600) == []


def test_strangers_signs_are_of_no_interest():
    watched = watch.Watch(2, 0, timeout=10)
    signs = {f"{LIFE}0": "1", f"{LIFE}1": "1", f"{LIFE}7": "1", f"{LIFE}x": "1", "": ""}
    assert watched.silent(signs, time.monotonic()) == []


def test_only_one_prints_the_last_line():
    watched = watch.Watch(2, 0, timeout=10)
    assert watched.claim() and not watched.claim()


def test_an_abort_waits_for_the_last_line_and_then_ends_the_process():
    """As JAX's, in another thread; the process that nobody ends is ended by it all the same."""
    script = """
import ctypes, os, sys, threading, time
from sar_jax.parallel import watch
watch._delay_aborts()
threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()
time.sleep(1)
print("the last line", flush=True)
if sys.argv[1:]:
    os._exit(75)
time.sleep(1000)
"""
    run = lambda *words: subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    for words, status in ((["end"], 75), ([], -6)):
        done = run(*words)
        assert (done.returncode, done.stdout) == (status, "the last line\n")
