"""Names of TPU slices: the one table of how Google's tools name a slice, and of its machines.

    python3 sar_jax/parallel/slices.py v5litepod-8

prints the same slice in all of these forms; the launch scripts read it. So this file needs nothing
but a Python 3.

    v5e:2x4                    sar_jax.plan, and the TPU compiler: chips by their arrangement
    v5e-8                      common usage
    v5litepod-8                TPU VMs: the "accelerator type"
    ct5lp-hightpu-8t           a machine type of Compute Engine and GKE: a slice of one machine
    tpu-v5-lite-podslice:2x4   GKE's labels: gke-tpu-accelerator and gke-tpu-topology
    tpu7x-2x2x1                XPK

The number in a name such as v5p-8 counts TensorCores, of which a v4, a v5p and a TPU7x chip have
two; that of v5litepod-8 and v6e-8 counts chips. So v5p-8 and tpu7x-8 are four chips each.

Sources: Google Cloud's pages on TPU v4, v5e, v5p, v6e and 7x, on TPU machine types and on planning
TPUs in GKE; XPK 1.16 for tpu7x-N (all read in November 2026).
"""

from __future__ import annotations

import math
import re
import sys
from typing import NamedTuple


class Version(NamedTuple):
    """How tools name the slices of a version of the chip.

    accelerator_type   what stands before the number of an accelerator type
    counted            what that number counts for each chip: its TensorCores, or 1 for the chip
    label              GKE's gke-tpu-accelerator
    machines           machine type by the chips of one machine
    services           of these that lend it: "tpu_vm" (queued resources), "gce", "gke"
    shapes             arrangements of chips that a number stands for, from small to large
    others             further names of the version
    """

    accelerator_type: str
    counted: int
    label: str
    machines: dict[int, str]
    services: tuple[str, ...]
    shapes: tuple[str, ...]
    others: tuple[str, ...] = ()


_SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
VERSIONS = {
    "v4": Version("v4", 2, "tpu-v4-podslice", {4: "ct4p-hightpu-4t"}, ("tpu_vm", "gke"), _CUBES),
    "v5e": Version(
        "v5litepod",
        1,
        "tpu-v5-lite-podslice",
        {1: "ct5lp-hightpu-1t", 4: "ct5lp-hightpu-4t", 8: "ct5lp-hightpu-8t"},
        ("tpu_vm", "gke"),
        _SQUARES,
        ("v5lite", "tpu-v5-lite", "tpu-v5-lite-device"),
    ),
    "v5p": Version(
        "v5p",
        2,
        "tpu-v5p-slice",
        {4: "ct5p-hightpu-4t"},
        ("tpu_vm", "gce", "gke"),
        _CUBES,
        ("tpu-v5p",),
    ),
    "v6e": Version(
        "v6e",
        1,
        "tpu-v6e-slice",
        {1: "ct6e-standard-1t", 4: "ct6e-standard-4t", 8: "ct6e-standard-8t"},
        ("tpu_vm", "gce", "gke"),
        _SQUARES,
        ("tpu-v6e", "trillium"),
    ),
    "tpu7x": Version(
        "tpu7x",
        2,
        "tpu7x",
        {1: "tpu7x-standard-1t", 4: "tpu7x-standard-4t"},
        ("gce", "gke"),
        ("1x1x1", *_CUBES),
        ("v7x", "7x", "tpu-v7x", "ironwood"),
    ),
}


def _size(shape: str) -> int:
    return math.prod(map(int, shape.split("x")))


class Slice(NamedTuple):
    """version: a key of VERSIONS; shape: of its chips, such as 2x4; machine: a machine type."""

    version: str
    shape: str
    machine: str

    @property
    def chips(self) -> int:
        return _size(self.shape)

    @property
    def chips_a_host(self) -> int:
        return int(self.machine.rpartition("-")[2].rstrip("t"))

    @property
    def hosts(self) -> int:
        return self.chips // self.chips_a_host

    @property
    def name(self) -> str:
        """As `sar_jax.plan` and the TPU compiler have it: v5e:2x4."""
        return f"{self.version}:{self.shape}"

    @property
    def accelerator_type(self) -> str:
        """As TPU VMs and XPK have it: v5litepod-8."""
        version = VERSIONS[self.version]
        return f"{version.accelerator_type}-{self.chips * version.counted}"

    @property
    def label(self) -> str:
        """GKE's gke-tpu-accelerator."""
        return VERSIONS[self.version].label


# Every name of a version; longer ones first, since some begin with another.
_VERSION_OF = {
    name: version
    for version, row in VERSIONS.items()
    for name in (version, row.accelerator_type, row.label, *row.others)
}
_NAMES = "|".join(sorted(map(re.escape, _VERSION_OF), key=len, reverse=True))
_NUMBERED = re.compile(rf"({_NAMES})-([1-9]\d*)")
_SHAPED = re.compile(rf"({_NAMES})[:/ -]([1-9]\d*(?:x[1-9]\d*){{1,2}})")
_MACHINES = {
    machine: (version, chips)
    for version, row in VERSIONS.items()
    for chips, machine in row.machines.items()
}
_MACHINE = re.compile(rf"({'|'.join(map(re.escape, _MACHINES))})(?:[:/ ]([1-9]\d*(?:x[1-9]\d*)*))?")


def parse(name: str) -> Slice:
    """The slice that any of the names stands for. Raises ValueError that says what is wrong."""
    text = " ".join(name.lower().split())
    if match := _MACHINE.fullmatch(text):
        version, chips = _MACHINES[match[1]]
        shape = match[2] or _of_size(version, chips)
        return _slice(version, shape, match[1])
    if match := _NUMBERED.fullmatch(text):
        version, number = _VERSION_OF[match[1]], int(match[2])
        counted = VERSIONS[version].counted
        shape = _of_size(version, number / counted)
        if shape is None:
            known = ", ".join(numbered(version))
            what = "TensorCores, two a chip" if counted == 2 else "chips"
            raise ValueError(
                f"no slice of {version} has this number, which counts {what}. There are {known}; "
                f"for another give the shape, such as {version}:{VERSIONS[version].shapes[2]}"
            )
        return _slice(version, shape)
    if match := _SHAPED.fullmatch(text):
        return _slice(_VERSION_OF[match[1]], match[2])
    raise ValueError(
        f"write a slice as CHIP:SHAPE (v6e:2x4) or CHIP-NUMBER (v6e-8), with a CHIP of "
        f"{', '.join(VERSIONS)}"
    )


def _of_size(version: str, chips: float):
    return next((shape for shape in VERSIONS[version].shapes if _size(shape) == chips), None)


def numbered(version: str) -> tuple[str, ...]:
    """The names with a number: ("v6e-1", "v6e-4", ...)."""
    counted = VERSIONS[version].counted
    return tuple(f"{version}-{_size(shape) * counted}" for shape in VERSIONS[version].shapes)


def renamed(name: str, shape: str) -> str:
    """The slice of another shape, of the same version, in the form of a name."""
    text = " ".join(name.lower().split())
    found = parse(name)._replace(shape=shape)
    if match := _NUMBERED.fullmatch(text):
        return f"{match[1]}-{found.chips * VERSIONS[found.version].counted}"
    if match := _SHAPED.fullmatch(text):
        return text[: match.start(2)] + shape
    return found.name


def _slice(version: str, shape: str, machine: str = "") -> Slice:
    """A machine type is chosen where none is given: one machine if it can have all the chips."""
    row = VERSIONS[version]
    if shape.count("x") != row.shapes[0].count("x"):
        dimensions = "three" if "x" in row.shapes[0].partition("x")[2] else "two"
        raise ValueError(
            f"slices of {version} have shapes of {dimensions} numbers, such as {row.shapes[2]}"
        )
    chips = _size(shape)
    machine = machine or row.machines.get(chips) or row.machines[4]
    found = Slice(version, shape, machine)
    if chips % found.chips_a_host:
        raise ValueError(
            f"{chips} chips do not make up machines of {found.chips_a_host} ({machine})"
        )
    return found


def main(arguments) -> int:
    """One line of words, which `read` of a shell takes apart."""
    try:
        found = parse(" ".join(arguments))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    services = ",".join(VERSIONS[found.version].services)
    print(found.version, found.shape, found.chips, found.hosts, found.chips_a_host, end=" ")
    print(found.accelerator_type, found.machine, found.label, services)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
