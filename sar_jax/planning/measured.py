"""What is known of a program once it is compiled, and who hears of it."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class Measured:
    """One compiled program; bytes on one device. Infinite where the compiler finds no room for it.

    total             arguments, results, temporaries, code, and what is beside them
    beside            what is in memory meanwhile
    arguments         of the program; temporary: its temporaries
    collectives       bytes sent in a call, by kind; None where the program cannot be printed
    sent              their sum
    compile_seconds   that it took, when it was compiled, beside another one
    compiler          what the compiler says where it finds no room
    cached            was it compiled before, for another plan?
    """

    total: float
    beside: int
    temporary: float
    arguments: int | None = None
    collectives: dict[str, float] | None = None
    sent: float | None = None
    compile_seconds: float = 0.0
    compiler: str | None = None
    cached: bool = False


class Head(NamedTuple):
    """What is known of a plan before anything is compiled; fields as of `estimate.Plan`.

    slots_are_fitted   the config says auto
    programs           names of those that will be compiled
    """

    topology: str
    chips: int
    devices: int
    hbm: float
    decoding_copies: int
    overrides: Sequence[str]
    slots: int
    slots_are_fitted: bool
    programs: Sequence[str]


class Watch:
    """Hears of a plan while it is made; this one says nothing."""

    def begin(self, head: Head) -> None:
        """A slice is planned; its programs will be compiled."""

    def tell(self, what: str, number: int = 0, count: int = 0) -> None:
        """What is done now; of `count` programs it is the one with this number, from 1."""

    def found(self, name: str, program: Measured) -> None:
        """What a program takes is known."""


SILENT = Watch()
