"""All processes of a run meet at the coordinator's port before JAX does, to name who is missing.

    process 0    listens until all have come, or the time is up; then it tells each who is missing
    the others   call until process 0 answers

JAX's own start ends the process with a stack trace that names nobody. The port is free again when
JAX takes it. Only where the coordinator is given; on TPU VMs the processes learn of each other from
the TPU's runtime.
"""

import json
import socket
import time

from sar_jax.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost")  # what listens there is not for other machines
_LINE = 4096  # bytes of a message, at most


def meet(coordinator: str, count: int, own: int, timeout: float) -> None:
    """Returns when all processes of a run have called it.

    coordinator   HOST:PORT of process 0
    count, own    how many processes there are, and the number of this one
    timeout       seconds to wait for them

    Raises `UserError` that names those that are missing, on all others.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator is {coordinator!r}: write it as HOST:PORT")
    deadline = time.monotonic() + timeout
    if own == 0:
        missing = _listen(host, int(port), count, deadline)
    else:
        missing = _call(host, int(port), own, deadline)
    if missing:
        raise UserError(
            f"process {', '.join(map(str, missing))} of {count} did not reach {coordinator} within "
            f"{timeout:g} s (--process_timeout): check that the command was started there, with "
            "the same --coordinator"
        )


def _listen(host: str, port: int, count: int, deadline: float) -> list[int]:
    """The processes that did not come, after telling the others."""
    came: dict[int, socket.socket] = {}
    try:
        server = socket.create_server((host if host in LOOPBACK else "", port))
    except OSError as error:
        raise UserError(
            f"--coordinator: process 0 cannot listen on port {port} ({error.strerror}): choose a "
            "free port"
        ) from None
    with server:
        while len(came) < count - 1 and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                connection, _ = server.accept()
                connection.settimeout(5)
                process = json.loads(connection.recv(_LINE))["process"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # nobody, or somebody else
            came[process] = connection
        missing = [p for p in range(1, count) if p not in came]
        for connection in came.values():
            with connection:
                connection.sendall(json.dumps(missing).encode())
    return missing


def _call(host: str, port: int, own: int, deadline: float) -> list[int]:
    """The missing processes as process 0 names them; process 0, where it does not answer."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 5)) as connection:
                connection.sendall(json.dumps({"process": own}).encode())
                connection.settimeout(left + 5)  # process 0 may have come later than this one
                return json.loads(connection.recv(_LINE))
        except (OSError, ValueError):
            time.sleep(min(0.2, left))
    return [0]
