"""Several processes as one run: how they find each other, exchange values, and end together.

    initialize()      before JAX is first used; on TPU VMs and GKE no option is needed
    gather(value)     every process's value, on every process, as JSON; through the coordinator's
                      key-value store, so it involves no device and can say who is missing
    first(function)   process 0 runs it, all get its result or its error
    fetch(arrays)     global device arrays as host arrays, equal on every process

Every process runs the same program in the same order; what is decided on a host is the same
everywhere, or is gathered.
"""

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import flags
from jax.experimental import multihost_utils

from sar_jax.errors import UserError
from sar_jax.parallel import backend, messages, rendezvous, watch

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0. Needed where processes cannot find each other; on TPU VMs, GKE and "
    "Slurm they can.",
)
_PROCESSES = flags.DEFINE_integer(
    "processes",
    None,
    "How many processes the run has. Required with --coordinator; otherwise compared with the "
    "number that started.",
)
_PROCESS = flags.DEFINE_integer(
    "process", None, "The number of this process, from 0; required with --coordinator."
)
_TIMEOUT = flags.DEFINE_integer(
    "process_timeout",
    300,
    "Seconds to wait for a process to start before the run ends.",
    lower_bound=1,
)
_HEARTBEAT = flags.DEFINE_integer(
    "heartbeat_timeout",
    100,
    "Seconds to wait for a sign of life from a process before the run ends.",
    lower_bound=10,
)
_ANSWER = 8.0  # seconds in which a living process answers; heartbeats must not end this one before
# JAX sees a process that is gone too, and then aborts this one: `watch` is to be quicker
_LATER = 30
_round = 0  # of `gather`; the same on every process
_watch: watch.Watch | None = None  # where there are several processes
_missing: int | None = None  # the process that has ended, once this one knows


def initialize() -> None:
    """Joins the processes of a run, if there are several.

    Raises `UserError` that names the processes which did not start.
    """
    global _watch
    if _COORDINATOR.value:
        _meet(_COORDINATOR.value)
    elif _on_tpu():
        _connect()
    if jax.distributed.is_initialized():
        from jax._src import distributed  # before the backend, which waits for the others, begins

        run = distributed.global_state
        if run.num_processes > 1:
            _watch = watch.Watch(run.num_processes, run.process_id, _HEARTBEAT.value)
            _watch.start()
            sys.excepthook = _crash
    backend.open_backend()
    if _PROCESSES.value not in (None, jax.process_count()):
        raise UserError(
            f"--processes is {_PROCESSES.value}, but {jax.process_count()} started: start the "
            "command on every worker of the slice (launch/tpu_vm.sh run does)"
        )


def _meet(coordinator: str) -> None:
    count, own = _PROCESSES.value, _PROCESS.value
    if count is None or own is None or not 0 <= own < count:
        raise UserError("--coordinator needs --processes=N and --process=I, with I from 0 to N - 1")
    rendezvous.meet(coordinator, count, own, _TIMEOUT.value)
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # the loopback address is not for other machines to see
    is_loopback = coordinator.rpartition(":")[0] in rendezvous.LOOPBACK
    _connect(
        coordinator_address=coordinator,
        num_processes=count,
        process_id=own,
        coordinator_bind_address=coordinator if is_loopback else None,
        local_device_ids=None,
        cluster_detection_method="deactivate",
    )


def _connect(**options: Any) -> None:
    """`jax.distributed.initialize`, with the time-outs that were asked for."""
    options["initialization_timeout"] = _TIMEOUT.value
    options["heartbeat_timeout_seconds"] = _HEARTBEAT.value + _LATER
    try:
        jax.distributed.initialize(**options)
    except Exception as error:  # the runtime's own kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the processes of the run did not find each other within {_TIMEOUT.value} s "
            f"(--process_timeout): {lines[0][:300]}"
        ) from None


def _on_tpu() -> bool:
    wanted = os.environ.get("JAX_PLATFORMS", "tpu").split(",")
    if not backend.tpu_chips() or "tpu" not in wanted:
        return False
    return importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
    return jax.process_index() == 0


def gather(value: Any, timeout: float | None = None) -> list[Any]:
    """Every process's value, in their order.

    value     what `messages.encode` takes: None, bool, int, float, str, lists and dicts of them
    timeout   seconds to wait for each; by default --heartbeat_timeout plus --process_timeout

    Raises `UserError` that names the process which did not send its own in time; TypeError for a
    value that is no JSON.
    """
    global _round, _missing
    count, own = jax.process_count(), jax.process_index()
    if count == 1:
        return [messages.decode(messages.encode(value))]
    _round += 1
    wait = timeout or _HEARTBEAT.value + _TIMEOUT.value
    found, process = [], 0  # which holds the store
    try:
        messages.leave(f"sar_jax/{_round}/{own}", value)
        for process in range(count):
            found.append(messages.read(f"sar_jax/{_round}/{process}", wait))
    except (messages.Absent, jax.errors.JaxRuntimeError) as error:
        _missing = process
        reason = str(error).splitlines()[0].partition(" [type.")[0][:200]
        raise UserError(
            f"process {process} of {count} has ended, or has not answered process {own} for "
            f"{wait:g} s ({reason}); {watch.RESUME}"
        ) from None
    if _round > 2:  # everyone who is in this round has read what was sent two rounds ago
        messages.remove(f"sar_jax/{_round - 2}/{own}")
    return found


def first(function: Callable[[], Any]) -> Any:
    """Process 0's result of `function`, on every process; its `UserError` is everyone's.

    The result is JSON (`messages.encode`).
    """
    result: list[Any] = [None, None]
    if is_first():
        try:
            result[0] = function()
        except UserError as error:
            result[1] = str(error)
    value, error = gather(result)[0]
    if error is not None:
        raise UserError(error)
    return value


def same(value: Any, what: str) -> None:
    """Raises `UserError`, on every process, where one of them has another value.

    what   the values are, in the plural
    """
    found = gather(value)
    others = [str(process) for process, other in enumerate(found) if other != found[0]]
    if others:
        raise UserError(
            f"{what} differ between process 0 and process {', '.join(others)}: start every process "
            "with the same ones"
        )


def blame(error: Exception) -> None:
    """After an error, say between devices: raises `UserError` naming a process that has ended."""
    global _missing
    if _watch is not None and not isinstance(error, UserError):
        _missing = _watch.missing(_ANSWER)
        if _missing is not None:
            lines = str(error).splitlines() or [""]
            raise UserError(_watch.gone(_missing, lines[0][:200])) from error


def leave(status: int) -> None:
    """Ends this process as it should be, with all others; with one process it returns.

    At once: a thread that waits for the store would not survive the end of the interpreter.
    """
    if _watch is None:
        return
    _watch.claim()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        jax.distributed.shutdown()  # waits for the others
    _exit(status)


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def end(status: int, line: str) -> None:
    """Prints why this process ends; where others may wait for it, ends it at once.

    status   of the exit; `watch.GONE` where another process has ended
    line     for stderr

    Unless all end together, the others print the line too.
    """
    if _watch is not None and not _watch.claim():
        time.sleep(_ANSWER)  # another thread says why, and ends this process
    print(line, file=sys.stderr)
    if _watch is None:
        return
    from jax._src import distributed

    together = False
    if _missing is not None:
        status = watch.GONE
    else:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            distributed.global_state.client.wait_at_barrier("sar_jax/end", int(1000 * _ANSWER))
            together = True
            # an error of all, so all say farewell: a process that still listens to process 0 when
            # that leaves would abort
            jax.distributed.shutdown()
    if not together and _missing != 0:
        message = line.removeprefix("error: ")
        own = f"process {jax.process_index()} of {jax.process_count()} has ended: "
        _watch.notify(message if _missing else own + message, status)
        time.sleep(1)  # in which the others read it; process 0 takes the store along
    _exit(status)


def _crash(kind: type, error: Exception, trace: Any) -> None:
    """After an exception that nobody caught, which is a fault of the program."""
    try:
        blame(error)
    except UserError as gone:
        end(watch.GONE, f"error: {gone}")
    sys.__excepthook__(kind, error, trace)
    lines = str(error).splitlines() or [""]
    end(1, f"error: {kind.__name__}: {lines[0][:300]}")


def fetch(tree: Any) -> Any:
    """Device arrays as numpy arrays; those that are spread over processes, whole on each."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
