"""What `transformers` computes, in float32 and in float64; and how close two results have to be.

float64 is the truth: beside float32's rounding its own is nothing. Two programs that compute in
float32 differ from it, and from each other, by what the order of their sums and the processor's
instructions make of rounding, so that no fixed tolerance holds on every machine."""

import contextlib
import copy
import functools
import pathlib
from collections.abc import Callable, Sequence
from unittest import mock

import jax
import numpy as np
import torch
from support.models import load_torch

# How much farther from the truth than torch's float32 ours may be: see `assert_as_close`.
FACTOR, FLOOR = 3, 16
# Of the largest value: see `assert_same`.
ROUNDING = 1e-4


def assert_as_close(ours, single, double) -> None:
    """Ours is about as close to the truth as another computation in float32 is.

    ours     in float32
    single   another computation of the same in float32 (torch's, as a rule)
    double   the truth: the same in float64

    Compared are the largest differences from `double` over the whole array: at most FACTOR times
    that of `single`, and FLOOR units in the last place of the array's largest value. The floor is
    for results that `single` happens to hit, as often happens to a few numbers; the factor is for
    chance in the largest of many errors. Measured over 300 drawn models of all families, logits
    were off by at most 1.9 times as much as torch's, and torch's by 1.7 to 192 units. Most settings
    that are off by a thousandth make logits that are not close (tests/model/test_network.py).
    """
    ours, single, double = (np.asarray(x, np.float64) for x in (ours, single, double))
    assert ours.shape == single.shape == double.shape
    error, known = np.abs(ours - double).max(), np.abs(single - double).max()
    unit = np.finfo(np.float32).eps * np.abs(double).max()
    assert error <= FACTOR * known + FLOOR * unit, (
        f"off by {error:.3g}; float32 elsewhere by {known:.3g}, a unit is {unit:.3g}"
    )


def assert_same(ours, other, scale: float | None = None) -> None:
    """Two computations of the same in float32 that differ in the order of sums: by at most ROUNDING
    of the largest value, or of `scale`, the size of what was summed, where sums cancel.

    Rounding makes about 1e-6; whatever is mixed up, left out or counted twice makes 1e-2."""
    ours, other = (np.asarray(x, np.float64) for x in (ours, other))
    assert ours.shape == other.shape
    error, largest = np.abs(ours - other).max(initial=0), np.abs(other).max(initial=0)
    allowed = ROUNDING * (largest if scale is None else scale)
    assert error <= allowed, f"differ by {error:.3g} of {largest:.3g}, at most {allowed:.3g}"


def assert_same_numbers(ours: dict, other: dict, scale: float = 0.0) -> None:
    """The same for numbers by name, each of its own size."""
    assert ours.keys() == other.keys()
    for name, value in other.items():
        allowed = ROUNDING * max(abs(float(value)), scale)
        assert abs(float(ours[name]) - float(value)) <= allowed, (name, ours[name], value)


def assert_same_update(before, ours, other) -> None:
    """Two updates of the same parameters (trees of arrays) moved them alike: by at most ROUNDING of
    the largest move of an array, and two units in the last place of its largest parameter."""
    for old, x, y in zip(*map(jax.tree.leaves, (before, ours, other)), strict=True):
        old, x, y = (np.asarray(a, np.float64) for a in (old, x, y))
        unit = np.finfo(np.float32).eps * np.abs(old).max()
        moved = np.abs(y - old).max()
        assert np.abs(x - y).max() <= ROUNDING * moved + 2 * unit, (np.abs(x - y).max(), moved)


@contextlib.contextmanager
def float64():
    """Within, `transformers` computes in float64 what it otherwise computes in float32 whatever the
    dtype of the model: norms, softmax, rotary tables."""
    with (
        mock.patch.object(torch, "float32", torch.float64),
        mock.patch.object(torch, "float", torch.float64),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield


class Oracle:
    """A folder's model by `transformers`, in float32 (`single`) and in float64 (`double`)."""

    def __init__(self, folder: pathlib.Path, long: bool = False):
        """long: see `load_torch`."""
        self.single = load_torch(folder, long)

    @functools.cached_property
    def double(self):
        """The same model: its rotary frequencies, too, are those that it has in float32."""
        if "long_factor" in self.single.config.rope_parameters:
            # makes the frequencies of long rows
            self.single(torch.zeros(1, self.single.config.max_position_embeddings, dtype=torch.int))
        return copy.deepcopy(self.single).double()

    def both(self, function: Callable) -> tuple[np.ndarray, np.ndarray]:
        """What a function makes of the model in float32 and in float64, as arrays."""
        with torch.no_grad():
            single = function(self.single)
            with float64():
                return single.numpy(), function(self.double).numpy()

    def gradients(self, function: Callable) -> tuple[dict, dict]:
        """Of what a function makes of the model, a number, in every parameter by name: in float32
        and in float64."""
        found = []
        for network, how in ((self.single, contextlib.nullcontext()), (self.double, float64())):
            network.zero_grad()
            with how:
                function(network).backward()
            found.append({name: p.grad.numpy() for name, p in network.named_parameters()})
            network.zero_grad()
        return tuple(found)

    def logits(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """[T, V] after each token of one sequence."""
        row = torch.tensor(np.asarray(ids)[None])
        return self.both(lambda network: network(row).logits[0])

    def logps(self, context: Sequence[int], answer: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """log P(a_j | context, a_<j), from raw logits at temperature 1."""
        row, ids = torch.tensor([[*context, *answer]]), torch.tensor([[*answer]]).T
        return self.both(
            lambda network: (
                network(row).logits[0, len(context) - 1 : -1].log_softmax(-1).gather(1, ids)[:, 0]
            )
        )
