"""Who decodes in which slot: the bookkeeping of a decoder's slots. Numpy only, no JAX.

    open      all slots free, with some columns
    sit       an answer takes a free slot
    until     with how many live slots the host wants to look again
    advance   the slots after a call of `decode`: longer answers, and free slots where one has ended
    grow      more columns, where a live slot has used all
    shrink    fewer slots, once no answer waits and the live ones fit

A worked example: sizes (12, 4) on one device, no answer waits. The host looks when 4 slots are
live; the live slots 1, 5, 7 and 10 then move to the slots 0, 1, 2 and 3 of the smaller size.
"""

import collections
from collections.abc import Sequence

import numpy as np

_WAIT = 32  # slots / _WAIT free ones are worth a look of the host


class Seats:
    """The slots of one call of a decoder.

    occupant   the answer in each slot, None where it is free
    count      tokens of each slot's answer so far
    position   of the token that each slot reads next
    columns    of each slot's cache
    """

    def __init__(self, sizes: Sequence[int], columns: Sequence[int], devices: int):
        """sizes: numbers of slots, falling; columns: rising; devices: how many share the slots."""
        self._sizes, self._columns, self._devices = tuple(sizes), tuple(columns), devices
        self.open(self._sizes[0], self._columns[0])

    def open(self, size: int, columns: int) -> None:
        """`size` free slots of `columns` columns."""
        self.columns = columns
        self.occupant: list[int | None] = [None] * size
        self.count = np.zeros(size, int)
        self.position = np.zeros(size, int)

    def fitting(self, answers: int, longest: int) -> tuple[int, int]:
        """Slots and columns to begin with: the fewest that hold all answers and every question.

        answers   that are wanted in all
        longest   tokens of the longest question
        """
        sizes = [size for size in self._sizes if size >= answers]
        size = min(sizes, default=self._sizes[0])
        columns = [count for count in self._columns if count >= longest]
        # the smaller sizes are compiled for the last number of columns only
        return size, columns[0] if size == self._sizes[0] else columns[-1]

    @property
    def size(self) -> int:
        return len(self.occupant)

    def live(self) -> list[int]:
        """The slots that have an answer."""
        return [slot for slot, answer in enumerate(self.occupant) if answer is not None]

    def free(self) -> list[int]:
        return [slot for slot, answer in enumerate(self.occupant) if answer is None]

    def sit(self, slot: int, answer: int, position: int) -> None:
        """The answer begins in this slot; its first token is read at `position`."""
        self.occupant[slot], self.count[slot], self.position[slot] = answer, 0, position

    def until(self, waiting: bool) -> int:
        """With how many live slots the host wants to look.

        waiting   are there answers that wait for a slot? Then a few free ones are worth a look;
                  else the next smaller size is, or the end.
        """
        if waiting:
            return max(self.size - max(self.size // _WAIT, 1), 0)
        live = len(self.live())
        return max((size for size in self._sizes if size < live), default=0)

    def room(self) -> int:
        """Tokens that every live slot can still take in its columns."""
        furthest = max((int(self.position[slot]) for slot in self.live()), default=0)
        return self.columns - furthest

    def advance(self, count: np.ndarray, live: np.ndarray) -> None:
        """count: new tokens of each slot; live: False where the answer has ended, by slot."""
        for slot in self.live():
            self.count[slot] += count[slot]
            self.position[slot] += count[slot]
            if not live[slot]:
                self.occupant[slot] = None

    def grow(self) -> bool:
        """Takes the next number of columns where a live slot has used all; did it?"""
        if self.room() > 0:
            return False
        self.columns = next(count for count in self._columns if count > self.columns)
        return True

    def shrink(self) -> list[int] | None:
        """Moves to fewer slots, if the live ones of each device fit: which slots stay, in order.

        None where nothing changes. A slot stays on its device: device d has the d-th part of them.
        """
        own = self.size // self._devices
        live = collections.Counter(slot // own for slot in self.live())
        most = max(live.values())
        sizes = [size for size in self._sizes if size // self._devices >= most]
        size = min(sizes, default=self.size)
        if size >= self.size:
            return None
        kept = []
        for device in range(self._devices):
            slots = range(device * own, (device + 1) * own)
            live_first = sorted(slots, key=lambda slot: self.occupant[slot] is None)
            kept += live_first[: size // self._devices]
        self.columns = self._columns[-1]
        self.occupant = [self.occupant[slot] for slot in kept]
        self.count, self.position = self.count[kept], self.position[kept]
        return kept
