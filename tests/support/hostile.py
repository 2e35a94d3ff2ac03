"""A comparison for the verifier's workers that does, for some answers, what no comparison should
do."""

import ctypes
import itertools
import os
import sys
import time

from sar_jax.text.answers import algebra


def hang() -> bool:
    """In C code, which looks for no signal and holds the interpreter's lock."""
    return bool(sum(itertools.repeat(0)))


def exhaust() -> bool:
    return bool([bytes(1 << 26) for _ in itertools.count()])  # of address space; no page is touched


def segfault() -> bool:
    return bool(ctypes.string_at(0))


def fail() -> bool:
    raise ArithmeticError("on purpose")


def wait() -> bool:
    """For a file that appears after the answer was submitted."""
    while not os.path.exists(os.environ["HOSTILE_FILE"]):
        time.sleep(0.01)
    return True


def is_free_of_jax() -> bool:
    algebra.equal(r"2\sqrt{3}", r"\sqrt{12}")  # all that a worker ever imports
    return not {"jax", "jaxlib", "flax", "torch", "transformers", "sar_jax.config", "numpy"} & set(
        sys.modules
    )


DEEDS = {
    "h^1": hang,
    "m^1": exhaust,
    "s^1": segfault,
    "f^1": fail,
    "w^1": wait,
    "j^1": is_free_of_jax,
    "q^1": lambda: os._exit(3),
    "p^1": lambda: os.getpid() % 2**31 > 0,
}


def equal(given: str, truth: str) -> bool:
    return DEEDS[given]() if given in DEEDS else algebra.equal(given, truth)


def without_its_libraries(given: str, truth: str) -> bool:
    raise ImportError("no_such_library")
