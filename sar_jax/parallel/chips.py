"""TPU chips and slices, as published: what `sar_jax.plan` compares a program with.

Sources: Google Cloud's pages on TPU v4, v5e, v5p, v6e and 7x (peak, HBM bandwidth, inter-chip
interconnect; read in November 2026), and the TPU compiler (libtpu 0.0.52), which names the memory
that it leaves to programs when one does not fit."""

import os
import re
from typing import NamedTuple

import jax
from jax.experimental import topologies

from sar_jax.errors import UserError


class Chip(NamedTuple):
    """One JAX device. hbm: bytes that programs may use; flops: dense bf16, a second; bandwidth:
    bytes a second to HBM; interconnect: bytes a second in one direction over all links, half of the
    published bidirectional figure; devices: of a chip (the compiler takes the two cores of v4 and
    7x as devices of their own)."""

    hbm: float
    flops: float
    bandwidth: float
    interconnect: float
    devices: int
    slices: tuple[str, ...]  # from small to large, for advice


CHIPS = {
    "v4": Chip(
        15.25 * 2**30,
        275e12 / 2,
        1228e9 / 2,
        150e9 / 2,
        2,
        ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    ),
    "v5e": Chip(
        15.75 * 2**30, 197e12, 819e9, 200e9, 1, ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
    ),
    "v5p": Chip(
        95.73 * 2**30,
        459e12,
        2765e9,
        600e9,
        1,
        ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
    ),
    "v6e": Chip(
        31.24 * 2**30,
        918e12,
        1640e9,
        400e9,
        1,
        ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    ),
    "tpu7x": Chip(
        94.74 * 2**30,
        2307e12 / 2,
        7380e9 / 2,
        600e9 / 2,
        2,
        ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    ),
}
_FORM = re.compile(r"(\w+):([1-9]\d*(?:x[1-9]\d*){1,2})")


def describe(name: str) -> tuple[Chip, list[jax.Device]]:
    """The chip and the devices of a slice like "v6e:2x4", for compilation; none of them has to be
    there.

    Raises `UserError` that lists what there is, or says how to install the compiler.
    """
    match = _FORM.fullmatch(name)
    known = "; ".join(f"{chip}:{', '.join(c.slices)}" for chip, c in CHIPS.items())
    if (
        not match
        or match[1] not in CHIPS
        or name.count("x") - match[1].count("x") != CHIPS[match[1]].slices[0].count("x")
    ):
        raise UserError(
            f"--topology is {name!r}: it is written CHIP:SHAPE, like v6e:2x4. Known: {known}"
        )
    # This machine is no TPU VM that could be asked; and several plans may be made at once.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise UserError("the TPU compiler is missing: pip install libtpu") from None
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # the runtime raises its own kinds
        raise UserError(
            f"--topology is {name!r}: the compiler knows no such slice ({str(error).splitlines()[0][:200]}). "
            f"Known: {known}"
        ) from None
    return CHIPS[match[1]], list(devices)


def next_slice(name: str) -> str | None:
    """The next larger slice of the same chips, if one is listed."""
    chip, shape = name.split(":")
    slices = CHIPS[chip].slices
    larger = [s for s in slices if _size(s) > _size(shape)]
    return f"{chip}:{larger[0]}" if larger else None


def _size(shape: str) -> int:
    total = 1
    for n in shape.split("x"):
        total *= int(n)
    return total
