"""Verification of many answers at once: right, wrong, or an error of the verifier.

    items --judge, here--> right | wrong    quantities, words, labels: linear in the text's length
              |
              +--> two expressions --queue--> a thread for each worker
                                                |
                                              pipe
                                                |
                                                +--> process: math-verify --> right | wrong
                                                +--> killed at the time-out and replaced --> error

    with Verifier(workers=2, timeout=5) as verifier:
        handle = verifier.submit([Item("... \\\\boxed{72}", "72")])   # returns at once
        ...
        outcomes = handle.result()                                  # in order

Nothing in an answer can stop it. Most answers never reach a process: judging one here takes less
time than the way there and back. A comparison that crashes, hangs (in C code too), raises or runs
out of memory is the ERROR of its own item. The processes are started with a fresh interpreter, see
`worker`. Left out: a second try of an item that failed, which would fail again.
"""

import collections
import contextlib
import dataclasses
import enum
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from typing import Any, NamedTuple

from sar_jax.errors import UserError
from sar_jax.text import plugins
from sar_jax.text.answers import judge
from sar_jax.text.answers.worker import OWN, READY

_MEMORY = 2**30  # bytes of address space of a worker, about 0.1 GB of which it needs
_OWN_MEMORY = 2**35  # of a worker whose function is a user's: large libraries reserve much
_START = 120.0  # seconds in which a worker must have imported its libraries, on a busy machine too
# of one worker; then a fresh one takes over, since caches of computer algebra only grow
_COMPARISONS = 10_000


class Outcome(enum.Enum):
    """Of one answer; ERROR: the verifier could not tell, which counts as wrong and is counted."""

    RIGHT = "right"
    WRONG = "wrong"
    ERROR = "error"


@dataclasses.dataclass(frozen=True)
class Item:
    """An answer and its truth.

    kind      a name in `judge.VERIFIERS`
    choices   how many options a question of the kind "choice" has (0: four)
    row       of the question, as a function of one's own gets it
    """

    text: str
    truth: str
    kind: str = "math"
    choices: int = 0
    row: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Handle:
    """Outcomes that are on their way.

    items     as they were submitted
    reasons   why item i is an ERROR, by i; complete after `result`
    """

    def __init__(self, items: Sequence[Item]):
        self.items = list(items)
        self.reasons: dict[int, str] = {}
        self._outcomes: list[Outcome | None] = [None] * len(self.items)
        self._missing = len(self.items)
        self._failure: Exception | None = None
        self._changed = threading.Condition()

    def result(self) -> list[Outcome]:
        """Waits for all of them, in the order of the items.

        Raises UserError if no worker can be started, and RuntimeError if the verifier was closed
        meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._missing or self._failure)
            if self._failure:
                raise self._failure
            return list(self._outcomes)

    def _set(self, i: int, right: bool | str) -> None:
        """right: is item i right, or the reason why nobody knows?"""
        with self._changed:
            if isinstance(right, str):
                self.reasons[i] = right
                self._outcomes[i] = Outcome.ERROR
            else:
                self._outcomes[i] = Outcome.RIGHT if right else Outcome.WRONG
            self._missing -= 1
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()


class _Process:
    """A worker process as its thread sees it."""

    def __init__(self, timeout: float, equal: str):
        self.timeout, self.equal, self.compared = timeout, equal, 0
        self.subject = f"{equal.removeprefix(OWN).partition('(')[0]} " if equal[:4] == OWN else ""
        self.patience = plugins.IMPORT_SECONDS if equal.startswith(OWN) else _START
        self.connection, theirs = Pipe()
        command = [
            sys.executable,
            "-m",
            "sar_jax.text.answers.worker",
            str(theirs.fileno()),
            str(2 * timeout + 2),
            str(_OWN_MEMORY if equal.startswith(OWN) else _MEMORY),
            equal,
        ]
        # It has to find this package, and `equal`, wherever the trainer found them.
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": path},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self.ready = False

    def _await_start(self) -> None:
        said = None
        with contextlib.suppress(EOFError, OSError):
            said = self.connection.recv() if self.connection.poll(self.patience) else None
        self.ready = said == READY
        if not self.ready:
            self.stop()
            if said is not None:  # what is wrong with a function of one's own
                raise UserError(said)
            if self.equal.startswith(OWN):
                raise UserError(
                    f"config.verification.verifier: {self.equal.removeprefix(OWN)}: its process "
                    f"ended, or was not ready within {self.patience:g} seconds"
                )
            raise UserError(
                "a verification worker did not start; does `python -c 'import math_verify'` work "
                "here?"
            )

    def is_usable(self) -> bool:
        return self.compared < _COMPARISONS and self.process.poll() is None

    def compare(self, arguments: tuple[Any, ...]) -> bool | str:
        """Equal or not, or why nobody knows. arguments: a pair, or those of one's own function.

        After a reason, other than an exception's name, the process is gone.
        """
        if not self.ready:
            self._await_start()
        self.compared += 1
        try:
            self.connection.send((isinstance(arguments, judge.Match), tuple(arguments)))
            if self.connection.poll(self.timeout):
                reply = self.connection.recv()
                if reply == "MemoryError":  # what it still holds would fail the items after it
                    self.stop()
                return reply
        except (EOFError, OSError):
            self.stop()
            of = f"the process of {self.subject}" if self.subject else "its process "
            return f"{of}died (exit status {self.process.returncode})"
        self.stop()
        return f"{self.subject}took over {self.timeout:g} seconds"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Verifier:
    """A pool of processes that compare expressions. Usable by any thread."""

    def __init__(
        self,
        workers: int,
        timeout: float,
        equal: str = "sar_jax.text.answers.algebra:equal",
        kind: str = "",
    ):
        """The processes start when they are first needed.

        workers   how many processes
        timeout   of each comparison, in seconds
        equal     "module:function" that compares two expressions in the workers; or `worker.OWN`
                  and a function of one's own, which then judges every item
        kind      takes the place of every item's; empty for none

        Raises ValueError for a number of workers or seconds that is not positive.
        """
        if workers < 1 or timeout <= 0:
            raise ValueError(
                f"a verifier needs workers and time, not {workers} workers and {timeout} seconds"
            )
        if kind:
            judge.check_kind(kind)
        self._kind, self._is_own = kind, equal.startswith(OWN)
        self._timeout, self._equal, self._closed = timeout, equal, False
        self._lock = threading.Lock()  # nothing is put behind the end of the queue
        self._queue: queue.SimpleQueue[tuple[Handle, int, tuple] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, daemon=True, name=f"verifier-{i}")
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, items: Sequence[Item]) -> Handle:
        """Judges what can be judged at once, and leaves the rest to the workers.

        Raises ValueError for an unknown kind, and RuntimeError once it is closed.
        """
        for item in items:
            judge.check_kind(item.kind)
        handle, tasks = Handle(items), []
        for i, item in enumerate(handle.items):
            judged = self._judged(item)
            if isinstance(judged, tuple):
                tasks.append((handle, i, judged))
            else:
                handle._set(i, judged)
        with self._lock:
            if self._closed:
                raise RuntimeError("the verifier is closed")
            for task in tasks:
                self._queue.put(task)
        return handle

    def _judged(self, item: Item) -> bool | str | tuple[Any, ...]:
        """Right or wrong, why nobody knows, or the arguments of a comparison in a process."""
        if self._is_own:
            return item.text, item.truth, dict(item.row)
        try:
            return judge.judge(item.text, item.truth, self._kind or item.kind, item.choices)
        except Exception as error:  # of this item alone, whatever it is
            return f"{type(error).__name__}: {error}"

    def check(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome an item, in order. Waits for all of them."""
        return self.submit(items).result()

    def close(self) -> None:
        """Ends the processes, once what they are comparing now is done or timed out.

        What waits behind it fails.
        """
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _serve(self) -> None:
        """One worker's thread.

        The first expression starts its process: where answers are numbers none is needed. One that
        is used up or gone is replaced at once, since a start takes a while.
        """
        process = None
        while True:
            if process:
                with contextlib.suppress(Exception):  # the next item tries again, and tells
                    process = self._usable(process)
            if (task := self._queue.get()) is None:
                break
            handle, i, arguments = task
            try:
                if self._closed:
                    raise RuntimeError("the verifier was closed before it came to this answer")
                process = self._usable(process)
                verdict = process.compare(arguments)
            except Exception as error:
                handle._fail(error)
            else:
                handle._set(i, verdict)
        if process:
            process.stop()

    def _usable(self, process: _Process | None) -> _Process:
        if process and process.is_usable():
            return process
        if process:
            process.stop()
        return _Process(self._timeout, self._equal)


class _Failure(NamedTuple):
    reason: str
    item: Item


class ErrorShare:
    """Stops a run whose answers cannot be verified.

    limit   the share of errors that is allowed, 0 to 1
    share   of errors among the last outcomes
    """

    def __init__(self, limit: float, window: int):
        """window: the last outcomes; nothing is said before there are this many."""
        self.limit = limit
        self._recent: collections.deque[_Failure | None] = collections.deque(maxlen=window)

    @property
    def share(self) -> float:
        """0 before the first outcome."""
        return sum(f is not None for f in self._recent) / max(len(self._recent), 1)

    def add(self, handle: Handle) -> None:
        """Counts a handle's outcomes, once they are there.

        Raises UserError, with an example of each of the three most frequent reasons, when the share
        has passed the limit.
        """
        for i, (item, outcome) in enumerate(zip(handle.items, handle.result())):
            is_error = outcome is Outcome.ERROR
            self._recent.append(_Failure(handle.reasons[i], item) if is_error else None)
        if len(self._recent) == self._recent.maxlen and self.share > self.limit:
            failures = [failure for failure in self._recent if failure]
            raise UserError(
                f"{self.share:.1%} of the last {len(self._recent)} answers could not be verified, "
                f"more than the limit of {self.limit:.1%}; for example {_worst(failures)}"
            )


def _worst(failures: Sequence[_Failure]) -> str:
    """One example, the latest, of each of the three most frequent reasons; as one line."""
    latest = {f.reason: f.item for f in failures}
    counts = collections.Counter(f.reason for f in failures)
    return "; ".join(
        f"({count} times) {reason}: answer ending in {latest[reason].text[-200:]!r}, "
        f"truth {latest[reason].truth[:100]!r}"
        for reason, count in counts.most_common(3)
    )
