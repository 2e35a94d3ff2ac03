"""Chips as published: what `sar_jax.plan` compares a program with, and what mfu divides by.

Sources: Google Cloud's pages on TPU v4, v5e, v5p, v6e and 7x (peak, HBM bandwidth, inter-chip
interconnect; read in November 2026); the TPU compiler (libtpu 0.0.52), which names the memory that
it leaves to programs when one does not fit; NVIDIA's data sheets.
"""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies

from sar_jax.errors import UserError
from sar_jax.parallel import slices

_GIB = 2**30


class Chip(NamedTuple):
    """One chip, or the part of one that a JAX device is (`of_device`).

    kind           `device_kind` of its devices
    hbm            bytes that programs may use
    flops          dense bf16, a second
    bandwidth      bytes a second to HBM
    interconnect   bytes a second in one direction over all links: half of the published
                   bidirectional figure
    slices         shapes from small to large, for advice
    """

    kind: str
    hbm: float
    flops: float
    bandwidth: float
    interconnect: float
    slices: tuple[str, ...] = ()

    def of_device(self, devices_a_chip: int) -> "Chip":
        """The share of each of the devices that a chip is: two where its cores are devices."""
        n = devices_a_chip
        return self._replace(
            hbm=self.hbm / n,
            flops=self.flops / n,
            bandwidth=self.bandwidth / n,
            interconnect=self.interconnect / n,
        )


def _advised(version: str, most: int) -> tuple[str, ...]:
    """The version's slices of 4 to this many chips."""
    shapes = slices.VERSIONS[version].shapes
    return tuple(s for s in shapes if 4 <= math.prod(map(int, s.split("x"))) <= most)


CHIPS = {
    "v4": Chip("TPU v4", 30.5 * _GIB, 275e12, 1228e9, 150e9, _advised("v4", 64)),
    "v5e": Chip("TPU v5 lite", 15.75 * _GIB, 197e12, 819e9, 200e9, _advised("v5e", 256)),
    "v5p": Chip("TPU v5", 95.73 * _GIB, 459e12, 2765e9, 600e9, _advised("v5p", 128)),
    "v6e": Chip("TPU v6 lite", 31.24 * _GIB, 918e12, 1640e9, 400e9, _advised("v6e", 256)),
    "tpu7x": Chip("TPU7x", 189.48 * _GIB, 2307e12, 7380e9, 600e9, _advised("tpu7x", 64)),
}
# Dense bf16, a second, of other devices: for the metric mfu. A v5p calls itself "TPU v5p", too.
_OTHERS = {
    "TPU v5p": CHIPS["v5p"].flops,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
}


def devices_a_chip(devices: Sequence[jax.Device]) -> int:
    """How many devices a chip is: a v4 on TPU VMs one, for the compiler two; a 7x two."""
    place = lambda d: (getattr(d, "slice_index", 0), getattr(d, "coords", d.id))
    first = place(devices[0])
    return sum(place(device) == first for device in devices)


def peak_flops(devices: Sequence[jax.Device]) -> float | None:
    """Dense bf16 peak of one device, flop a second; None where the kind is not in the table.

    devices   all devices of a run, which are of one kind
    """
    kinds = {chip.kind: chip.flops for chip in CHIPS.values()} | _OTHERS
    peak = kinds.get(devices[0].device_kind)
    return peak and peak / devices_a_chip(devices)


class Slice(NamedTuple):
    """TPUs that are connected.

    name      as it was given (`slices` has every form)
    chips     how many
    devices   as JAX has them
    device    what each of them is
    """

    name: str
    chips: int
    devices: list[jax.Device]
    device: Chip


def describe(name: str) -> Slice:
    """A slice like "v6e:2x4" or "v6e-8", for compilation; none of its chips has to be there.

    Raises `UserError` that lists what there is, or says how to install the compiler.
    """
    found = _parse(name)
    # This machine is no TPU VM that could be asked; and several plans may be made at once.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise UserError("the TPU compiler is not installed: run `pip install libtpu`") from None
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=found.name)
    except Exception as error:  # the runtime raises its own kinds
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"--topology is {name!r}: the compiler does not know {found.name} ({reason}). "
            f"It knows: {_known()}"
        ) from None
    devices = list(topology.devices)
    each = devices_a_chip(devices)
    return Slice(name, len(devices) // each, devices, CHIPS[found.version].of_device(each))


def _parse(name: str) -> slices.Slice:
    try:
        return slices.parse(name)
    except ValueError as error:
        raise UserError(f"--topology is {name!r}: {error}. Known: {_known()}") from None


def _known() -> str:
    return "; ".join(f"{name}:{', '.join(chip.slices)}" for name, chip in CHIPS.items())


def next_slice(name: str) -> str | None:
    """The next larger slice of the same chips, if one is listed, in the form of the name."""
    found = _parse(name)
    size = lambda shape: math.prod(map(int, shape.split("x")))
    larger = [s for s in CHIPS[found.version].slices if size(s) > found.chips]
    return slices.renamed(name, larger[0]) if larger else None
