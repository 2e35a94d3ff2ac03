"""Several processes as one run: how they find each other, exchange values, and end together.

    initialize()      before JAX is first used; on TPU VMs and GKE no option is needed
    gather(value)     every process's value, on every process; through the coordinator's key-value
                      store, so it involves no device and can say who is missing
    first(function)   process 0 runs it, all get its result or its error
    fetch(arrays)     global device arrays as host arrays, equal on every process

Every process runs the same program in the same order; what is decided on a host is the same
everywhere, or is gathered.
"""

import contextlib
import importlib.util
import os
import pathlib
import pickle
import socket
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import flags
from jax.experimental import multihost_utils

from sar_jax.errors import UserError
from sar_jax.parallel import rendezvous

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
_PART = 2**20  # bytes of a value in the store
_ANSWER = 8.0  # seconds in which a living process answers; heartbeats must not end this one before
_round = 0  # of `gather`; the same on every process


def initialize() -> None:
    """Joins the processes of a run, if there are several.

    Raises `UserError` that names the processes which did not start.
    """
    if _COORDINATOR.value:
        _meet(_COORDINATOR.value)
    elif _on_tpu():
        _connect()
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
    options["heartbeat_timeout_seconds"] = _HEARTBEAT.value
    try:
        jax.distributed.initialize(**options)
    except Exception as error:  # the runtime's own kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the processes of the run did not find each other within {_TIMEOUT.value} s "
            f"(--process_timeout): {lines[0][:300]}"
        ) from None


def _on_tpu() -> bool:
    devices = [*pathlib.Path("/dev").glob("accel*"), *pathlib.Path("/dev/vfio").glob("[0-9]*")]
    wanted = os.environ.get("JAX_PLATFORMS", "tpu").split(",")
    if not devices or "tpu" not in wanted:
        return False
    return importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
    return jax.process_index() == 0


def gather(value: Any, timeout: float | None = None) -> list[Any]:
    """Every process's value, in their order.

    value     anything that can be pickled
    timeout   seconds to wait for each; by default --heartbeat_timeout plus --process_timeout

    Raises `UserError` that names the process which did not send its own in time.
    """
    global _round
    count, own = jax.process_count(), jax.process_index()
    if count == 1:
        return [value]
    _round += 1
    from jax._src import distributed  # JAX has no public name for the store; Orbax uses the same

    store = distributed.global_state.client
    data = pickle.dumps((socket.gethostname(), value))
    parts = [data[i : i + _PART] for i in range(0, len(data), _PART)]
    for i, part in enumerate(parts):
        store.key_value_set_bytes(f"sar_jax/{_round}/{own}/{i}", part)
    store.key_value_set(f"sar_jax/{_round}/{own}/parts", str(len(parts)))
    wait = int(1000 * (timeout or _HEARTBEAT.value + _TIMEOUT.value))
    found = []
    for process in range(count):
        sent = f"sar_jax/{_round}/{process}"
        try:
            number = int(store.blocking_key_value_get(f"{sent}/parts", wait))
            read = [store.blocking_key_value_get_bytes(f"{sent}/{i}", wait) for i in range(number)]
        except jax.errors.JaxRuntimeError as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"process {process} of {count} has ended, or has not answered process {own} for "
                f"{wait / 1000:.0f} s ({reason}); the run cannot continue without it: start the "
                "same command again on all of them to resume"
            ) from None
        found.append(pickle.loads(b"".join(read))[1])
    if _round > 2:  # everyone who is in this round has read what was sent two rounds ago
        store.key_value_delete(f"sar_jax/{_round - 2}/{own}/")
    return found


def first(function: Callable[[], Any]) -> Any:
    """Process 0's result of `function`, on every process; its `UserError` is everyone's."""
    result = None
    if is_first():
        try:
            result = (function(), None)
        except UserError as error:
            result = (None, str(error))
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
    """After an error between devices: raises `UserError` naming a process that has ended."""
    if jax.process_count() > 1:
        try:
            gather(None, _ANSWER)  # whoever lives has met the same error
        except UserError as gone:
            raise gone from error


def end(status: int) -> None:
    """Ends this process at once where others may wait for it; else it returns.

    The others notice, and need not wait for its farewell.
    """
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        from jax._src import distributed

        with contextlib.suppress(jax.errors.JaxRuntimeError):
            distributed.global_state.client.wait_at_barrier("sar_jax/end", int(1000 * _ANSWER))
            # an error of all, so all say farewell: a process that still listens to process 0 when
            # that leaves would abort
            jax.distributed.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def fetch(tree: Any) -> Any:
    """Device arrays as numpy arrays; those that are spread over processes, whole on each."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
