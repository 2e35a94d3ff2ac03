"""Commands of the package as processes that are forked off one that has imported the libraries:
imports take 4 processor seconds, more than most commands take otherwise.

    test --start--> server --fork--> keeper --fork--> command
      ^                                |
      +----- pid, then exit status ----+

The server is `python tests/support/processes.py FD`, one for each test process.

What is forked has an interpreter of its own with its own threads, signals and end; it imports all
of `sar_jax` itself, and JAX's backend begins in it: the server has no threads that matter. Two
things it does share: the seed of hashes (so what must not depend on it is compared with a real
process), and what libraries read of the environment when imported (so those variables may not
differ between commands)."""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import warnings

LIBRARIES = (
    "absl.app",
    "ml_collections.config_flags",
    "jax",
    "jax.experimental.multihost_utils",
    "jax.experimental.pallas.ops.tpu.splash_attention",
    "flax.nnx",
    "optax",
    "orbax.checkpoint",
    "grain",
    "jaxtyping",
    "rich.console",
    "pyarrow.parquet",
    "safetensors.numpy",
    "tensorboardX",
    "transformers.models.auto",
    "transformers.models.auto.tokenization_auto",
)


class Forked:
    """`python -m ARGUMENTS` with the part of `subprocess.Popen` that tests use; stdout and stderr
    are files."""

    _server: tuple[socket.socket, dict[str, str]] | None = None

    def __init__(self, arguments, cwd, env, stdout, stderr):
        server, common = self._started(env)
        read = [
            name
            for name in common.keys() | env.keys()
            if name.startswith(("JAX_", "TRANSFORMERS_", "HF_"))
        ]
        assert all(common.get(name) == env.get(name) for name in read), (
            "libraries have read their variables already"
        )
        self.returncode = None
        self._keeper, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(server, [b"+"], [theirs.fileno(), stdout.fileno(), stderr.fileno()])
        self._keeper.sendall(json.dumps([arguments, str(cwd), dict(env)]).encode() + b"\n")
        self.pid = self._number()

    @classmethod
    def _started(cls, env):
        if cls._server is None:
            ours, theirs = socket.socketpair()
            with theirs:
                subprocess.Popen(
                    [sys.executable, __file__, str(theirs.fileno())],
                    env=env,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            cls._server = ours, dict(env)
        return cls._server

    def _number(self):
        found = self._keeper.recv(4, socket.MSG_WAITALL)
        assert len(found) == 4, "the process that started the command is gone"
        return struct.unpack("i", found)[0]

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = self._number()
            self._keeper.close()
        return self.returncode

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def serve(requests: socket.socket) -> None:
    """Until the tests' process is gone. Returns in a command too, at its end, or raises what it
    raises: then the interpreter ends as it would have without all this."""
    # as where PyTorch is not installed, which commands do not need: it takes a second and makes
    # every fork slower
    sys.modules["torch"] = None
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 3)
        if not message:
            return
        if fork() == 0:
            requests.close()
            return keep(socket.socket(fileno=descriptors[0]), descriptors[1:])
        for descriptor in descriptors:
            os.close(descriptor)


def fork() -> int:
    with warnings.catch_warnings():
        # of threads: those of OpenBLAS and jemalloc, which prepare for forks themselves
        warnings.simplefilter("ignore")
        return os.fork()


def keep(client: socket.socket, outputs: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with client.makefile("r") as file:
        arguments, cwd, env = json.loads(file.readline())
    pid = fork()
    if pid == 0:
        client.close()
        return command(arguments, cwd, env, outputs)
    client.sendall(struct.pack("i", pid))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # a test may kill it and go
        client.sendall(struct.pack("i", status))
    os._exit(0)


def command(arguments: list[str], cwd: str, env: dict[str, str], outputs: list[int]) -> None:
    for descriptor, number in zip(outputs, (1, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # as Python opens them: those of the server know of another file, where it is in it
    sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[0] = cwd  # as with python -m
    sys.argv[:] = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
