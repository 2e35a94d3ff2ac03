"""TensorBoard's events of a run.

They are written at once, not by tensorboardX's thread: that dies on a full disk, and training would
hang. To a bucket nothing can be appended: there they go to a local file that is copied every
`_COPY_EVERY` writes and at the end.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import histogram, scalar

from sar_jax.files import is_remote

_COPY_EVERY = 10


class Board:
    """tensorboard/ of a workdir."""

    def __init__(
        self,
        workdir: epath.Path,
        resumed_step: int | None,
        persistently: Callable[[Callable[[], Any]], None],
    ):
        """persistently: calls a function that writes, again where a disk is full for a while."""
        self.folder, self.remote, self.unsaved = workdir / "tensorboard", is_remote(workdir), 0
        self.persistently = persistently
        self.folder.mkdir(exist_ok=True)
        self.local = tempfile.mkdtemp() if self.remote else str(self.folder)
        self.events = EventsWriter(f"{self.local}/events")
        # tells TensorBoard to forget what it has from this step on
        start = SessionLog(status=SessionLog.START)
        first = (resumed_step or -1) + 1
        self.events.write_event(Event(step=first, session_log=start, wall_time=time.time()))

    def write(self, step: int, values: Mapping[str, float], lengths: Sequence[int] = ()) -> None:
        """A step's metrics. lengths: of its answers, as a histogram."""
        found = [scalar(name, value) for name, value in values.items()]
        if lengths:
            found.append(histogram("completions/length", np.array(lengths), bins="auto"))
        for summary in found:
            self.events.write_event(Event(step=step, summary=summary, wall_time=time.time()))
        self.persistently(self.events.flush)
        self.unsaved += 1
        if self.unsaved == _COPY_EVERY:
            self._copy()

    def _copy(self) -> None:
        if self.remote:
            for file in epath.Path(self.local).iterdir():
                (self.folder / file.name).write_bytes(file.read_bytes())
        self.unsaved = 0

    def close(self) -> None:
        self.events.close()
        self._copy()
        if self.remote:
            epath.Path(self.local).rmtree()
