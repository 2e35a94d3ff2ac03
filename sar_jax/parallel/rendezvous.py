"""All processes of a run meet at the coordinator's port before JAX does, so that who is missing can
be named.

    process 0    listens until all have come, or the time is up; tells each who came either "go" or who is missing
    the others   call until process 0 answers

JAX's own start ends the process with a stack trace that names nobody. The port is free again when
JAX takes it. Only where the coordinator is given; on TPU VMs the processes learn of each other from
the TPU's runtime."""

import json
import socket
import time

from sar_jax.errors import UserError

_LINE = 4096


def meet(coordinator: str, count: int, own: int, timeout: float) -> None:
    """Returns when all `count` processes have called it. Raises `UserError`, on all that came,
    after `timeout` seconds."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator is {coordinator!r}: it is written HOST:PORT")
    deadline = time.monotonic() + timeout
    missing = (
        _listen(host, int(port), count, deadline)
        if own == 0
        else _call(host, int(port), own, deadline)
    )
    if missing:
        raise UserError(
            f"process {', '.join(map(str, missing))} of {count} did not come to {coordinator} within "
            f"{timeout:g} s (--process_timeout); see whether the command was started there, and with the same "
            "--coordinator"
        )


def _listen(host: str, port: int, count: int, deadline: float) -> list[int]:
    """The processes that did not come, after telling the others."""
    came: dict[int, socket.socket] = {}
    bound = host if host in ("127.0.0.1", "localhost") else ""  # loopback is not for other machines
    try:
        server = socket.create_server((bound, port))
    except OSError as error:
        raise UserError(
            f"--coordinator: process 0 cannot listen on port {port} ({error.strerror}): give a free "
            "one"
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
    """What process 0 says; itself, where it does not answer."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 5)) as connection:
                connection.sendall(json.dumps({"process": own}).encode())
                connection.settimeout(left + 5)  # process 0 may have come later than this one
                return json.loads(connection.recv(_LINE))
        except (OSError, ValueError):
            time.sleep(min(0.2, left))
    return [0]
