"""All processes of a run meet at the coordinator's port before JAX does, to name who is missing.

    process 0    listens until all have come, or the time is up; then it tells each who is missing
    the others   call until process 0 answers

    process 0 -> i    {"nonce": N}
    i -> process 0    {"process": i, "processes": count, "nonce": M, "code": sign(N, i, count)}
    process 0 -> i    {"missing": [...], "code": sign(M, missing)}, or {"refused": why}

Each message is a line of JSON. The codes show both sides that the other one knows the run's token
(`signing`), without the token going over the wire. Who sends anything else, or nothing, is sent
away and holds nobody up.

JAX's own start ends the process with a stack trace that names nobody. The port is free again when
JAX takes it. Only where the coordinator is given; on TPU VMs the processes learn of each other from
the TPU's runtime.
"""

import asyncio
import contextlib
import json
import secrets
import socket
import time
from typing import Any

from sar_jax.errors import UserError
from sar_jax.parallel.signing import TOKEN, is_signed, sign

LOOPBACK = ("127.0.0.1", "localhost")  # what listens there is not for other machines
_LINE = 2**16  # bytes of a message, at most
_PATIENCE = 5.0  # seconds in which a process says who it is
_AGAIN = 0.2  # seconds until the next call


class _Refused(Exception):
    """Process 0 has said why this process is not one of the run."""


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
    try:
        if own == 0:
            missing, turned_away = asyncio.run(_listen(host, int(port), count, timeout))
        else:
            missing = asyncio.run(_call(host, int(port), count, own, timeout))
            turned_away = []
    except _Refused as refused:
        raise UserError(f"process 0 at {coordinator} turned this process away: {refused}") from None
    if missing:
        others = "".join(f"; a caller was turned away: {why}" for why in dict.fromkeys(turned_away))
        raise UserError(
            f"process {', '.join(map(str, missing))} of {count} did not reach {coordinator} within "
            f"{timeout:g} s (--process_timeout): check that the command was started there, with "
            f"the same --coordinator{others}"
        )


class _Meeting:
    """Process 0's side.

    came          who is here, and waits
    all_here      set when all are
    turned_away   why some callers, which seem to be processes of a run, are not of this one
    """

    def __init__(self, count: int):
        self.count = count
        self.came: dict[int, asyncio.StreamWriter] = {}
        self.nonces: dict[int, str] = {}
        self.all_here = asyncio.Event()
        self.turned_away: list[str] = []

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hears out one caller, and keeps it while it waits."""
        process = 0  # not known yet
        try:
            async with asyncio.timeout(_PATIENCE):
                nonce = secrets.token_hex(16)
                await _send(writer, nonce=nonce)
                message = await _receive(reader)
                reason = self._reason_against(message, nonce)
                if reason is not None:
                    self.turned_away.append(reason)
                    await _send(writer, refused=reason)
                    return
            process = message["process"]
            self.came[process], self.nonces[process] = writer, message["nonce"]
            if len(self.came) == self.count - 1:
                self.all_here.set()
            await reader.read(1)  # it has ended, or says more than it should
        except (OSError, ValueError, TimeoutError):
            pass  # nobody, or somebody else
        except asyncio.CancelledError:
            pass  # the meeting is over
        finally:
            waits = self.came.get(process) is writer
            if waits and not self.all_here.is_set():
                del self.came[process]
            if not waits or process not in self.came:
                writer.close()

    def _reason_against(self, message: dict[str, Any], nonce: str) -> str | None:
        """Why this caller is not let in; None where it is. Raises ValueError for a stranger."""
        process, count, theirs = (message.get(n) for n in ("process", "processes", "nonce"))
        if type(process) is not int or type(count) is not int or type(theirs) is not str:
            raise ValueError("not a process of a run")
        if not is_signed(message.get("code"), nonce, process, count):
            return f"its token is not process 0's (the environment variable {TOKEN})"
        if count != self.count:
            return f"its --processes is {count}, that of process 0 is {self.count}"
        if not 1 <= process < self.count:
            return f"its --process is {process}: it must be from 1 to {self.count - 1}"
        if process in self.came:
            return f"another process with --process={process} is here already"
        return None

    async def tell(self, missing: list[int]) -> None:
        """Tells everyone who came; nobody is waited for longer than a moment."""
        for process, writer in self.came.items():
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    code = sign(self.nonces[process], missing)
                    await _send(writer, missing=missing, code=code)
            writer.close()


async def _listen(host: str, port: int, count: int, timeout: float) -> tuple[list[int], list[str]]:
    """The processes that did not come, after telling the others; and who was turned away, why."""
    meeting = _Meeting(count)
    try:
        listener = socket.create_server((host if host in LOOPBACK else "", port))
    except OSError as error:
        raise UserError(
            f"--coordinator: process 0 cannot listen on port {port} ({error.strerror}): choose a "
            "free port"
        ) from None
    server = await asyncio.start_server(meeting.greet, sock=listener, limit=_LINE)
    if count > 1:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(meeting.all_here.wait(), timeout)
    meeting.all_here.set()
    server.close()
    missing = [p for p in range(1, count) if p not in meeting.came]
    await meeting.tell(missing)
    return missing, meeting.turned_away


async def _call(host: str, port: int, count: int, own: int, timeout: float) -> list[int]:
    """The missing processes as process 0 names them; process 0, where it does not answer."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(min(left, _PATIENCE)):
                reader, writer = await asyncio.open_connection(host, port, limit=_LINE)
            with contextlib.closing(writer):
                return await _ask(reader, writer, count, own, timeout)
        except (OSError, ValueError, TimeoutError):
            await asyncio.sleep(min(_AGAIN, left))
    return [0]


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    count: int,
    own: int,
    timeout: float,
) -> list[int]:
    """What process 0 answers. Raises ValueError where it is somebody else."""
    async with asyncio.timeout(_PATIENCE):
        theirs, nonce = (await _receive(reader)).get("nonce"), secrets.token_hex(16)
        if type(theirs) is not str:
            raise ValueError("not process 0")
        code = sign(theirs, own, count)
        await _send(writer, process=own, processes=count, nonce=nonce, code=code)
    # process 0 may have begun to wait later than this process
    async with asyncio.timeout(timeout + _PATIENCE):
        answer = await _receive(reader)
    if "refused" in answer:
        raise _Refused(str(answer["refused"])[:200])
    missing = answer.get("missing")
    if not is_signed(answer.get("code"), nonce, missing) or not isinstance(missing, list):
        raise ValueError("not process 0")
    return missing


async def _send(writer: asyncio.StreamWriter, **fields: Any) -> None:
    writer.write(json.dumps(fields).encode() + b"\n")
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    """One message. Raises ValueError for a line that is too long, ends early or is no object."""
    try:
        message = json.loads(await reader.readline())
    except RecursionError:
        raise ValueError("not a message") from None
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message
