"""The decoder: questions -> sampled answers with the logprobs that they were sampled from.

    questions --prefill, several in packed rows--> keys and values
              --insert, once a sample--> slots --decode--> answers

A fixed number of slots decode together. When enough answers have ended, their slots take the next
ones; when none wait any more, the last answers move to fewer slots (`seats`). The host looks
between calls of `slots.decode`, not at every token, and decides from what is equal on every
process. All shapes that may occur (`shapes`) are compiled at the first call.

Reproducible: the random bits of a token depend on (key, answer's number, place in the answer)
alone, so the same row draws the same answer whatever is decoded with it, however many slots there
are, and on however many devices.

Letters: Q questions, P prompt width, M samples a question, A answer limit.
"""

import collections
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Int

from sar_jax.model.network import Network
from sar_jax.model.parameters import Params
from sar_jax.parallel import sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout import slots as slots_lib
from sar_jax.rollout import texts
from sar_jax.rollout.seats import Seats
from sar_jax.structs import Rollouts, Sampling


class Stats(NamedTuple):
    """Of one call.

    tokens            sampled
    slot_steps        tokens that the slots could have made meanwhile
    seconds           of all of it; prefill: of reading the questions; decode: of decoding
    """

    tokens: int
    slot_steps: int
    seconds: float
    prefill: float
    decode: float

    @property
    def metrics(self) -> dict[str, float]:
        return {
            "rollout/tokens_per_second": self.tokens / self.seconds,
            "rollout/occupancy": self.tokens / self.slot_steps,
            "time/prefill": self.prefill,
            "time/decode": self.decode,
        }


class Sample:
    """`sample(params, tokens, lengths, rows, key)` answers questions; `stats`: of the last call."""

    def __init__(
        self,
        network: Network,
        stop_ids: Sequence[int],
        samples: int,
        max_answer_tokens: int,
        greedy: bool = False,
        *,
        slots: int = 16,
        sampling: Sampling | None = None,
        cache_dtype: str = "",
        ended: texts.Ended | None = None,
    ):
        """A decoder.

        stop_ids            tokens that end an answer
        samples             M, answers a question
        max_answer_tokens   A, the answer limit
        greedy              the most probable token instead of a draw
        slots               answers decoded at once
        sampling            the distribution that tokens are drawn from; the policy's by default
        cache_dtype         of cached keys and values; "" is the compute dtype
        ended               where an answer ends before a token of stop_ids or the limit
        """
        self.network, self.stop_ids = network, tuple(stop_ids)
        self.samples, self.limit, self.greedy = samples, max_answer_tokens, greedy
        self.slots, self.sampling = slots, sampling or Sampling()
        self.cache_dtype, self.ended = cache_dtype or network.dtype, ended
        self.stats = Stats(0, 1, 1.0, 0.0, 0.0)
        self._compiled: set[tuple] = set()

    def __call__(
        self,
        params: Params,
        tokens: Int[np.ndarray, "Q P"],
        lengths: Int[np.ndarray, " Q"],
        rows: Int[np.ndarray, " Q"],
        key: jax.Array,
        limits: Int[np.ndarray, " B"] | None = None,
    ) -> Rollouts:
        """M answers to each question, on the host.

        tokens    the questions, padded on the right
        lengths   of the questions; those of length 0 are padding and have no answers
        rows      the questions' numbers: answer m of the question numbered r draws from
                  fold_in(key, r * M + m)
        limits    [Q * M] tokens, at least 1, that each answer may have at most; A by default
        """
        placed = params["embedding"].sharding
        if isinstance(placed, NamedSharding):
            mesh = placed.mesh
        else:
            mesh = sharding.make_mesh(1, 1, 1, list(placed.device_set))
        key_data = np.asarray(jax.random.key_data(key))
        with jax.set_mesh(mesh):
            call = _Call(self, mesh, params, np.asarray(tokens), np.asarray(lengths), key_data)
            if (mesh, call.shapes) not in self._compiled:
                call.compile()
                self._compiled.add((mesh, call.shapes))
            start = time.perf_counter()
            if limits is None:
                limits = np.full(len(lengths) * self.samples, self.limit)
            rollouts = call.answer(np.asarray(rows), np.minimum(limits, self.limit))
        seconds = time.perf_counter() - start
        sampled = int(rollouts.lengths.sum())
        self.stats = Stats(sampled, max(call.slot_steps, 1), seconds, *call.seconds)
        return texts.cut(rollouts, self.ended) if self.ended else rollouts


class _Place(NamedTuple):
    """Where a question is among the packed rows: row, first column."""

    question: int
    row: int
    start: int


class _Answer(NamedTuple):
    """b: which of the Q * M answers; place: of its question."""

    b: int
    place: _Place


class _Call:
    """One call of a decoder: what is on the devices; who decodes in which slot is `seats`."""

    def __init__(
        self,
        made: Sample,
        mesh: Mesh,
        params: Params,
        tokens: np.ndarray,
        lengths: np.ndarray,
        key_data: np.ndarray,
    ):
        self.made, self.mesh, self.params = made, mesh, params
        self.tokens, self.lengths = tokens, lengths
        devices = sharding.batch_devices(mesh)
        self.shapes = shapes_lib.plan_shapes(
            made.network, made.slots, tokens.shape[1], made.limit, devices
        )
        self.seats = Seats(self.shapes.sizes, self.shapes.columns, devices)
        self.key = self.on_device(key_data)
        self.slot_steps, self.seconds = 0, [0.0, 0.0]  # prefill, decode

    def compile(self) -> None:
        """Compiles every shape, by calls with nothing to do.

        Every function is called on what each of the others returns, since arrays that are placed in
        another way would compile again.
        """
        shapes, packed, self.state = self.shapes, self.prefill([])[1], None

        def exercise() -> None:
            for _ in range(2):
                self.insert([], *packed)
                self.insert([], *packed)
                self.decode(0)
            self.decode(0)

        for i, size in enumerate(shapes.sizes):
            columns = shapes.columns if i == 0 else shapes.columns[-1:]
            for j, count in enumerate(columns):
                before = self.state = None  # no two caches but while one becomes the other
                self.create(size, count)
                exercise()
                before = self.state
                following = [(size, c) for c in columns[j + 1 : j + 2]]
                following += [(s, shapes.columns[-1]) for s in shapes.sizes[i + 1 :]]
                for smaller, more in following:
                    self.state = before
                    self.resize(range(smaller), more)
                    self.decode(0)
                    exercise()
        before = self.state = None
        self.slot_steps, self.seconds = 0, [0.0, 0.0]

    def answer(self, rows: np.ndarray, limits: np.ndarray) -> Rollouts:
        """All answers, on the host."""
        M, A = self.made.samples, self.made.limit
        B = len(rows) * M
        self.numbers, self.limits = (rows[:, None] * M + np.arange(M)).reshape(-1), limits
        found = Rollouts(
            tokens=np.zeros((B, A), np.int32),
            lengths=np.zeros(B, np.int32),
            sampling_logps=np.zeros((B, A), np.float32),
            stopped=np.zeros(B, bool),
            logps=np.zeros((B, A), np.float32),
        )
        wanted = sum(M for n in self.lengths if n)
        self.create(*self.seats.fitting(wanted, int(self.lengths.max(initial=1))))
        waiting, more = collections.deque(), self.questions()
        while True:
            waiting = self.refill(waiting, more)
            if not self.seats.live():
                return found
            if not waiting and (kept := self.seats.shrink()) is not None:
                self.resize(kept, self.seats.columns)
            if self.seats.grow():
                self.resize(range(self.seats.size), self.seats.columns)
            self.harvest(found, self.decode(self.seats.until(bool(waiting))))

    def questions(self) -> Iterator[tuple[list[_Answer], tuple[Any, Any]]]:
        """The answers to as many questions as the packed rows hold, until all came.

        With them the questions' keys and values.
        """
        todo = [q for q, n in enumerate(self.lengths) if n]
        M = self.made.samples
        while todo:
            placed, packed = self.prefill(todo)
            todo = todo[len(placed) :]
            yield [_Answer(p.question * M + m, p) for p in placed for m in range(M)], packed

    def refill(self, waiting: collections.deque, more: Iterator) -> collections.deque:
        """Begins answers in the free slots; returns those that still wait.

        At least one waits if there is one.
        """
        free = collections.deque(self.seats.free())
        while True:
            if not waiting:
                self.packed = None  # not in memory together with the next ones
                answers, self.packed = next(more, ([], None))
                waiting = collections.deque(answers)
            if not waiting or not free:
                return waiting
            count = min(len(free), len(waiting), slots_lib.ENTRIES)
            part = [(free.popleft(), waiting.popleft()) for _ in range(count)]
            self.insert(part, *self.packed)

    def harvest(self, found: Rollouts, report: slots_lib.Report) -> None:
        """Takes the new tokens, and frees the slots whose answers have ended."""
        seats = self.seats
        self.slot_steps += int(report.steps) * seats.size
        for slot in seats.live():
            b, before, n = seats.occupant[slot], int(seats.count[slot]), int(report.count[slot])
            here = (b, slice(before, before + n))
            found.tokens[here] = report.tokens[slot, :n]
            found.sampling_logps[here] = report.sampling_logps[slot, :n]
            found.logps[here] = report.logps[slot, :n]
            found.lengths[b], found.stopped[b] = before + n, report.stopped[slot]
        seats.advance(report.count, report.live)

    # Each of the following calls one jitted function.

    def on_device(self, tree: Any) -> Any:
        """Small host arrays; one process needs no care."""
        if jax.process_count() == 1:
            return tree
        return sharding.place(tree, sharding.replicated(self.mesh))

    def create(self, size: int, columns: int) -> None:
        self.state = slots_lib.create(self.made.network, size, columns, self.made.cache_dtype)
        self.seats.open(size, columns)

    def prefill(self, todo: Sequence[int]) -> tuple[list[_Place], tuple[Any, Any]]:
        """Packs the first questions of `todo` that fit: their places, their keys and values.

        The last token is left out: decoding begins with it.
        """
        rows, width = self.shapes.rows, self.shapes.width
        tokens, positions, segments = np.zeros((3, rows, width), np.int32)
        filled, placed = [0] * rows, []
        for i, q in enumerate(todo):
            n = int(self.lengths[q]) - 1
            row = next((r for r in range(rows) if filled[r] + n <= width), None)
            if row is None:
                break
            here = (row, slice(filled[row], filled[row] + n))
            tokens[here] = self.tokens[q, :n]
            positions[here] = np.arange(n)
            segments[here] = i + 1
            placed.append(_Place(q, row, filled[row]))
            filled[row] += n
        by_rows = sharding.by_rows(self.mesh)
        arguments = sharding.place((tokens, positions, segments), by_rows)
        start = time.perf_counter()
        packed = slots_lib.prefill(self.made.network, self.params, *arguments)
        packed = jax.block_until_ready(packed)
        self.seconds[0] += time.perf_counter() - start
        return placed, packed

    def insert(self, part: Sequence[tuple[int, _Answer]], keys: Any, values: Any) -> None:
        """Begins answers: (slot, answer) of each."""
        entries = np.zeros((7, slots_lib.ENTRIES), np.int32)
        for i, (slot, answer) in enumerate(part):
            q, row, start = answer.place
            n = int(self.lengths[q])
            entries[:4, i] = slot, row, start, n - 1
            entries[4:, i] = self.tokens[q, n - 1], self.numbers[answer.b], self.limits[answer.b]
            self.seats.sit(slot, answer.b, n - 1)
        begin = slots_lib.Begin(slots_lib.Entries(*entries[:4]), *entries[4:])
        begin, count = self.on_device((begin, np.int32(len(part))))
        self.state = slots_lib.insert(
            self.made.network, self.state, keys, values, begin, count, self.key
        )

    def decode(self, until: int) -> slots_lib.Report:
        steps = min(slots_lib.STEPS, self.seats.room())
        arguments = (np.int32(steps), np.int32(until), np.bool_(self.made.greedy))
        arguments = self.on_device(arguments)
        start = time.perf_counter()  # inserting and moving slots, which run before it, count too
        self.state, report = slots_lib.decode(
            self.made.network,
            self.params,
            self.state,
            *arguments,
            stop_ids=self.made.stop_ids,
            sampling=self.made.sampling,
        )
        report = jax.device_get(report)
        self.seconds[1] += time.perf_counter() - start
        return report

    def resize(self, kept: Sequence[int], columns: int) -> None:
        """The kept slots alone, in this order, with room for `columns`."""
        slots = self.on_device(np.asarray(kept, np.int32))
        self.state = slots_lib.resize(self.made.network, self.state, slots, columns)
