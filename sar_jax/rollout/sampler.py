"""The decoder: questions -> sampled answers with the logprobs that they were sampled from.

    questions --prefill, several in packed rows--> keys and values --insert, once a sample--> slots
    --decode--> answers

A fixed number of slots decode together. When enough answers have ended, their slots take the next
ones; when none wait any more, the last answers move to fewer slots. The host looks between calls of
`slots.decode`, not at every token, and decides from what is equal on every process. All shapes that
may occur (`sar_jax.rollout.shapes`) are compiled at the first call.

Reproducible: the random bits of a token depend on (key, answer's number, place in the answer)
alone, so the same row draws the same answer whatever stands beside it, however many slots there
are, and on however many devices."""

import collections
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from sar_jax.model import network as network_lib
from sar_jax.parallel import sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout import slots as slots_lib
from sar_jax.structs import Rollouts, Sampling

_WAIT = 32  # slots / _WAIT free ones are worth a look of the host


class Stats(NamedTuple):
    """Of one call. tokens: sampled; slot_steps: tokens that the slots could have made meanwhile;
    seconds: of all of it, of reading the questions, of decoding."""

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


def make_sample(
    graphdef: network_lib.GraphDef,
    stop_ids: tuple[int, ...],
    samples: int,
    max_answer_tokens: int,
    greedy: bool = False,
    *,
    slots: int = 16,
    sampling: Sampling | None = None,
    cache_dtype: str = "",
) -> "Sample":
    """`sample(params, tokens [Q, P], lengths [Q], rows [Q], key) -> Rollouts` of `samples` answers
    a question, on the host.

    slots: answers decoded at once; cache_dtype: "" = the compute dtype; greedy: the most probable
    token instead."""
    return Sample(
        graphdef,
        tuple(stop_ids),
        samples,
        max_answer_tokens,
        greedy,
        slots,
        sampling or Sampling(),
        cache_dtype,
    )


class Sample:
    """See `make_sample`. `stats` is of the last call."""

    def __init__(
        self, graphdef, stop_ids, samples, max_answer_tokens, greedy, slots, sampling, cache_dtype
    ):
        self.graphdef, self.stop_ids, self.samples, self.limit = (
            graphdef,
            stop_ids,
            samples,
            max_answer_tokens,
        )
        self.greedy, self.slots, self.sampling, self.cache_dtype = (
            greedy,
            slots,
            sampling,
            cache_dtype,
        )
        self.stats = Stats(0, 1, 1.0, 0.0, 0.0)
        self._compiled: set[tuple] = set()

    def __call__(
        self,
        params: Any,
        tokens: np.ndarray,
        lengths: np.ndarray,
        rows: np.ndarray,
        key: jax.Array,
        limits: np.ndarray | None = None,
    ) -> Rollouts:
        """`rows` are the questions' numbers: answer m of the question numbered r draws from
        fold_in(key, r * samples + m). Questions of length 0 are padding: they have no answers.
        limits [Q * samples]: tokens, at least 1, that each answer may have at most."""
        placed = params["embedding"].sharding
        key_data = np.asarray(jax.random.key_data(key))
        mesh = (
            placed.mesh
            if isinstance(placed, NamedSharding)
            else sharding.make_mesh(1, 1, 1, list(placed.device_set))
        )
        with jax.set_mesh(mesh):
            run = _Run(
                self,
                mesh,
                params,
                np.asarray(tokens),
                np.asarray(lengths),
                key_data,
                tokens.shape[1],
            )
            if (mesh, run.shapes) not in self._compiled:
                run.compile()
                self._compiled.add((mesh, run.shapes))
            start = time.perf_counter()
            if limits is None:
                limits = np.full(len(lengths) * self.samples, self.limit)
            rollouts = run.answer(np.asarray(rows), np.minimum(limits, self.limit))
        self.stats = Stats(
            int(rollouts.lengths.sum()),
            max(run.slot_steps, 1),
            time.perf_counter() - start,
            *run.seconds,
        )
        return rollouts


class _Answer(NamedTuple):
    """b: which of the Q * M answers; where its question stands among the packed rows."""

    b: int
    row: int
    start: int


class _Run:
    """One call: what is on the device, and who decodes in which slot."""

    def __init__(
        self,
        made: Sample,
        mesh: Mesh,
        params: Any,
        tokens: np.ndarray,
        lengths: np.ndarray,
        key: np.ndarray,
        width: int,
    ):
        self.made, self.mesh, self.params, self.tokens, self.lengths = (
            made,
            mesh,
            params,
            tokens,
            lengths,
        )
        self.cfg, dtype, self.kernel = network_lib.settings(made.graphdef, params)
        self.dtype, self.devices = made.cache_dtype or dtype, sharding.batch_devices(mesh)
        self.shapes = shapes_lib.plan_shapes(
            self.kernel, made.slots, width, made.limit, self.devices
        )
        self.key = self.on_device(key)
        self.slot_steps, self.seconds = 0, [0.0, 0.0]  # prefill, decode

    def compile(self) -> None:
        """Every shape once, with nothing to do; and every function on what each of the others
        returns, since arrays that are placed in another way would compile anew."""
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
                    self.state = self._resized(np.arange(smaller), more)
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
            np.zeros((B, A), np.int32),
            np.zeros(B, np.int32),
            np.zeros((B, A), np.float32),
            np.zeros(B, bool),
            np.zeros((B, A), np.float32),
        )
        longest = int(self.lengths.max(initial=1))
        wanted = sum(M for n in self.lengths if n)
        size = min((s for s in self.shapes.sizes if s >= wanted), default=self.shapes.sizes[0])
        fitting = [c for c in self.shapes.columns if c >= longest]
        self.create(size, fitting[0] if size == self.shapes.sizes[0] else fitting[-1])
        waiting, more = collections.deque(), self.questions()
        while True:
            waiting = self.refill(waiting, more)
            live = [s for s, b in enumerate(self.occupant) if b is not None]
            if not live:
                return found
            if not waiting:
                self.shrink(live)
            self.grow()
            self.harvest(found, self.decode(self.until(bool(waiting))))

    def questions(self) -> Iterator[tuple[list[_Answer], tuple[Any, Any]]]:
        """The answers to as many questions as the packed rows hold, with the questions' keys and
        values, until all came."""
        todo = [q for q, n in enumerate(self.lengths) if n]
        while todo:
            placed, packed = self.prefill(todo)
            todo = todo[len(placed) :]
            M = self.made.samples
            yield [_Answer(q * M + m, *place) for q, place in placed for m in range(M)], packed

    def refill(self, waiting, more) -> Any:
        """Begins answers in the free slots; returns those that still wait, at least one if there is
        one."""
        free = collections.deque(s for s, b in enumerate(self.occupant) if b is None)
        while True:
            if not waiting:
                self.packed = None  # not beside the next ones
                answers, self.packed = next(more, ([], None))
                waiting = collections.deque(answers)
            if not waiting or not free:
                return waiting
            part = [
                (free.popleft(), waiting.popleft())
                for _ in range(min(len(free), len(waiting), slots_lib.ENTRIES))
            ]
            self.insert(part, *self.packed)

    def until(self, waiting: bool) -> int:
        """With how many live slots the host wants to look."""
        live = sum(b is not None for b in self.occupant)
        if waiting:
            return max(len(self.occupant) - max(len(self.occupant) // _WAIT, 1), 0)
        smaller = max((s for s in self.shapes.sizes if s < live), default=0)
        return min(smaller, live - 1)

    # Each of the following calls one jitted function.

    def on_device(self, tree: Any) -> Any:
        """Small host arrays; one process needs no care."""
        return (
            tree
            if jax.process_count() == 1
            else sharding.place(tree, sharding.replicated(self.mesh))
        )

    def create(self, size: int, columns: int) -> None:
        self.state = slots_lib.create(self.cfg, self.kernel, size, columns, self.dtype)
        self.columns, self.occupant = columns, [None] * size
        self.count, self.position = np.zeros(size, int), np.zeros(size, int)

    def prefill(
        self, todo: Sequence[int]
    ) -> tuple[list[tuple[int, tuple[int, int]]], tuple[Any, Any]]:
        """Packs the first questions of `todo` that fit: (question, (row, first column)) of each;
        their keys and values. The last token is left out: decoding begins with it."""
        rows, width = self.shapes.rows, self.shapes.width
        tokens, positions, segments = np.zeros((3, rows, width), np.int32)
        filled, placed = [0] * rows, []
        for i, q in enumerate(todo):
            n = self.lengths[q] - 1
            row = next((r for r in range(rows) if filled[r] + n <= width), None)
            if row is None:
                break
            here = slice(filled[row], filled[row] + n)
            tokens[row, here], positions[row, here], segments[row, here] = (
                self.tokens[q, :n],
                np.arange(n),
                i + 1,
            )
            placed.append((q, (row, filled[row])))
            filled[row] += n
        arguments, start = (
            sharding.place((tokens, positions, segments), sharding.by_rows(self.mesh)),
            time.perf_counter(),
        )
        packed = jax.block_until_ready(
            slots_lib.prefill(self.made.graphdef, self.params, *arguments)
        )
        self.seconds[0] += time.perf_counter() - start
        return placed, packed

    def insert(self, part: Sequence[tuple[int, _Answer]], keys: Any, values: Any) -> None:
        columns = np.zeros((7, slots_lib.ENTRIES), np.int32)
        for i, (slot, answer) in enumerate(part):
            q = answer.b // self.made.samples
            n = int(self.lengths[q])
            columns[:, i] = (
                slot,
                answer.row,
                answer.start,
                n - 1,
                self.tokens[q, n - 1],
                self.numbers[answer.b],
                self.limits[answer.b],
            )
            self.occupant[slot], self.count[slot], self.position[slot] = answer.b, 0, n - 1
        begin = slots_lib.Begin(slots_lib.Entries(*columns[:4]), *columns[4:])
        begin, count = self.on_device((begin, np.int32(len(part))))
        self.state = slots_lib.insert(
            self.cfg, self.kernel, self.state, keys, values, begin, count, self.key
        )

    def decode(self, until: int) -> slots_lib.Report:
        live = [s for s, b in enumerate(self.occupant) if b is not None]
        room = self.columns - max((self.position[s] for s in live), default=0)
        arguments = self.on_device(
            (np.int32(min(slots_lib.STEPS, room)), np.int32(until), np.bool_(self.made.greedy))
        )
        start = time.perf_counter()  # inserting and moving slots, which run before it, count too
        self.state, report = slots_lib.decode(
            self.made.graphdef,
            self.params,
            self.state,
            *arguments,
            stop_ids=self.made.stop_ids,
            sampling=self.made.sampling,
        )
        report = jax.device_get(report)
        self.seconds[1] += time.perf_counter() - start
        return report

    def harvest(self, found: Rollouts, report: slots_lib.Report) -> None:
        """Takes the new tokens, and frees the slots whose answers have ended."""
        self.slot_steps += int(report.steps) * len(self.occupant)
        for s, b in enumerate(self.occupant):
            if b is None:
                continue
            n, before = int(report.count[s]), int(self.count[s])
            for array, new in (
                (found.tokens, report.tokens),
                (found.logps, report.logps),
                (found.policy_logps, report.policy_logps),
            ):
                array[b, before : before + n] = new[s, :n]
            self.count[s] += n
            self.position[s] += n
            found.lengths[b], found.stopped[b] = self.count[s], report.stopped[s]
            if not report.live[s]:
                self.occupant[s] = None

    def grow(self) -> None:
        """More columns, where a live slot has used all."""
        if (
            max(self.position[s] for s, b in enumerate(self.occupant) if b is not None)
            >= self.columns
        ):
            self.columns = next(c for c in self.shapes.columns if c > self.columns)
            self.state = self._resized(np.arange(len(self.occupant)), self.columns)

    def shrink(self, live: Sequence[int]) -> None:
        """Fewer slots, if the live ones of each device fit."""
        own = len(self.occupant) // self.devices
        most = max(collections.Counter(s // own for s in live).values())
        size = min(
            (s for s in self.shapes.sizes if s // self.devices >= most), default=len(self.occupant)
        )
        if size >= len(self.occupant):
            return
        kept = []
        for device in range(self.devices):
            order = sorted(
                range(device * own, (device + 1) * own), key=lambda s: self.occupant[s] is None
            )
            kept += order[: size // self.devices]
        self.columns = self.shapes.columns[-1]
        self.state = self._resized(np.array(kept), self.columns)
        self.occupant = [self.occupant[s] for s in kept]
        self.count, self.position = self.count[kept], self.position[kept]

    def _resized(self, kept: np.ndarray, columns: int) -> slots_lib.State:
        return slots_lib.resize(
            self.cfg, self.kernel, self.state, self.on_device(np.asarray(kept, np.int32)), columns
        )
