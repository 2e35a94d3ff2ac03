"""Checkpoints of a small state, without a model."""

import pathlib
import random

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from sar_jax.training import questions as questions_lib
from sar_jax.training.learner import States, TrainState
from sar_jax.training.storage.checkpoints import Checkpoints
from sar_jax.training.storage.identity import Identity

OWN = Identity("this run", {"config.json": "a", "the weights": "b"}, "these")


def states(seed: int, width: int = 1) -> States:
    """Arrays as a run has them: large and small, of several types, some of them zero.

    width   how many times larger they are
    """
    rng = np.random.default_rng(seed)
    numbers = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    params = {
        "embedding": numbers(100, 40),
        "layers": {"q": numbers(2, 40, 30), "norm": numbers(2)},
    }
    moments = (jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), jnp.zeros((40, 40)))
    count = jnp.asarray(seed, jnp.int32)
    return States(TrainState(params, moments, count, count), None)


def described(like: States) -> States:
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    return jax.tree.map(place, like)


def questions(taken: int = 0):
    """An iterator from which batches have been taken."""
    iterator = questions_lib.batches(list(range(50)), 2, 0, 0, 1)
    for _ in range(taken):
        next(iterator)
    return iterator


def save(folder: pathlib.Path, *steps: int, own: Identity = OWN, width: int = 1) -> None:
    """Checkpoints of these steps, whose states have the step as their seed."""
    checkpoints = Checkpoints(epath.Path(folder), own, keep=9)
    for step in steps:
        checkpoints.save(step, states(step, width), questions(step), last=True)
    checkpoints.close()


def resume(folder: pathlib.Path, own: Identity = OWN, width: int = 1):
    """What a run in the folder goes on with, and its iterator."""
    checkpoints, iterator = Checkpoints(epath.Path(folder), own, keep=9), questions()
    try:
        return checkpoints.resume(described(states(0, width)), iterator), iterator
    finally:
        checkpoints.close()


def is_of(resumed, iterator, step: int, width: int = 1) -> bool:
    """Is it the checkpoint of the step, to the last bit?"""
    same = jax.tree.map(lambda a, b: bool((a == b).all()), resumed.states, states(step, width))
    return (
        resumed.step == step
        and all(jax.tree.leaves(same))
        and next(iterator) == next(questions(step))
    )


def arrays_of(folder: pathlib.Path, step: int) -> list[pathlib.Path]:
    """The files of a step that hold numbers, the largest first."""
    files = (folder / "checkpoints" / f"{step:08d}" / "state").rglob("d/*")
    return sorted(files, key=lambda f: f.stat().st_size, reverse=True)


def flip(file: pathlib.Path, rng: random.Random) -> None:
    """One bit of a file, anywhere."""
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
