"""Compiled programs are kept for the next run, by JAX's persistent compilation cache.

    keep(None)          in JAX_COMPILATION_CACHE_DIR, else in the user's cache folder
    keep("gs://...")    in a bucket, or in any other folder
    keep("off")         nowhere

Nothing that happens to the folder ends a run: what cannot be read is compiled, what cannot be
written is not kept, and one line says so. A program for CPUs holds instructions of the CPU that it
was compiled on, so each kind has a folder of its own. Nobody else should be able to write to the
folder: JAX runs what is there.
"""

import contextlib
import hashlib
import math
import os
import pathlib
import platform
import re
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from sar_jax import files
from sar_jax.parallel import multihost

OPTION = (
    "Folder or bucket where compiled programs are kept for the next run, or off. Default: "
    "JAX_COMPILATION_CACHE_DIR, else sar_jax/compiled in the user's cache folder."
)
LIMIT = 4 * 2**30  # bytes that the user's cache folder may hold at the beginning of a run
_ENTRIES = "*-cache"  # as JAX names them: PROGRAM-HASH-cache
_OFF = ("off", "none", "no", "false", "0")
_HINT = "(--compilation_cache=FOLDER says where)"
_OWN = "JAX_COMPILATION_CACHE_DIR"
_LEAST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
# what JAX says of one that it cannot read or write
_TROUBLE = re.compile(
    r"Error (?P<what>reading|writing) persistent compilation cache entry for '(?P<name>[^']*)': "
    r"(?P<why>.*)",
    re.DOTALL,
)
# of /proc/cpuinfo: what a compiler may look at
_CPU = re.compile(
    r"(vendor_id|cpu family|model|flags|Features|isa|CPU (?:implementer|part|variant))\s*:"
)


def keep(given: str | None) -> None:
    """Says where compiled programs are kept, in one line, and has JAX keep them there.

    given   "off", a folder or a bucket; None for the default

    To be called by every process, when JAX's backend is open.
    """
    print(f"compiled programs: {_choose(given)}", flush=True)


def _choose(given: str | None) -> str:
    """Where they are kept, in words."""
    folder, words = _named(given)
    is_local = multihost.gather(folder is not None)
    if folder is None:
        return words
    if not all(is_local):
        return "not kept: the processes were not started with the same options"
    return _keep_in(folder, own=not given)


def _named(given: str | None) -> tuple[pathlib.Path | None, str]:
    """The folder of this machine that is to be tried; else None, and where they are kept."""
    if given and given.lower() in _OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return None, f"not kept (--compilation_cache={given})"
    if not jax.config.jax_enable_compilation_cache:
        return None, "not kept (JAX_ENABLE_COMPILATION_CACHE)"
    if not given and (own := jax.config.jax_compilation_cache_dir):
        _watch(own)
        return None, f"kept in {own} ({_OWN})"
    if given and files.is_remote(given):
        jax.config.update("jax_compilation_cache_dir", given)
        _watch(given)
        return None, f"kept in {given}"
    try:
        return pathlib.Path(given).expanduser().absolute() if given else _of_the_user(), ""
    except RuntimeError:
        return None, f"not kept: this user has no home {_HINT}"


def root(given: str | None) -> pathlib.Path | epath.Path | None:
    """Where other results may be kept beside them; None where nothing is. given: as of `keep`."""
    if (given and given.lower() in _OFF) or not jax.config.jax_enable_compilation_cache:
        return None
    named = given or jax.config.jax_compilation_cache_dir
    if named and files.is_remote(named):
        return epath.Path(named)
    try:
        return pathlib.Path(named).expanduser().absolute() if named else _of_the_user()
    except RuntimeError:  # this user has no home
        return None


def _of_the_user() -> pathlib.Path:
    """Raises `RuntimeError` where the user has no home."""
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # as its specification says
        caches = pathlib.Path.home() / ".cache"
    return caches / "sar_jax" / "compiled"


def _keep_in(root: pathlib.Path, own: bool) -> str:
    """Has JAX keep them in a folder of this machine; in words. own: nothing else is in it."""
    folder = root / f"cpu-{_cpu()}" if jax.default_backend() == "cpu" else root
    problem = next(filter(None, multihost.gather(_try(folder))), "")
    is_read_only = bool(problem) and all(multihost.gather(_count(folder) > 0))
    if problem and not is_read_only:
        return f"not kept: {problem} {_HINT}"
    if jax.process_count() > 1 and not _is_shared(folder):
        return f"not kept: {folder} is not the same folder for all processes {_HINT}"
    if own and multihost.is_first() and jax.config.jax_compilation_cache_max_size == -1:
        prune(root, LIMIT)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if _LEAST not in os.environ:  # small programs are many, and a file of this machine is read soon
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # XLA's own caches, of GPUs, are in the folder too: its name would be a part of each program's
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    if is_read_only:
        _write_no_more()
    _watch(str(folder))
    return f"kept in {folder} ({_count(folder)} there{', read-only' if is_read_only else ''})"


def _try(folder: pathlib.Path) -> str:
    """Why nothing can be written to a folder; empty where something can."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
    except FileExistsError:
        return f"{folder} is no folder"
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    return ""


def _count(folder: pathlib.Path) -> int:
    """How many programs are in it."""
    try:
        return sum(1 for _ in folder.glob(_ENTRIES))
    except OSError:
        return 0


def _is_shared(folder: pathlib.Path) -> bool:
    """Do all processes see the same folder?

    JAX keeps programs of the first one alone. Where the others do not see them, it would have to
    wait while they compile.
    """
    mark = folder / multihost.gather(f".{uuid.uuid4()}")[0]
    if multihost.is_first():
        with contextlib.suppress(OSError):
            mark.touch()
    multihost.gather(None)  # now it is there
    is_seen = all(multihost.gather(mark.exists()))
    if multihost.is_first():
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)
    return is_seen


def prune(root: pathlib.Path, limit: int) -> None:
    """Removes what was not used for longest, until no more than `limit` bytes are left."""
    found = []
    with contextlib.suppress(OSError):
        for path in root.rglob(_ENTRIES):
            with contextlib.suppress(OSError):  # of another run, which removes some too
                about = path.stat()
                found.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    size = sum(size for _, size, _ in found)
    for _, one, path in sorted(found):
        if size <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            size -= one


def _cpu() -> str:
    """A name for the kind of this machine's CPU."""
    about = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        about += sorted({" ".join(line.split()) for line in file if _CPU.match(line)})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:8]


def _write_no_more() -> None:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf)


def _watch(folder: str) -> None:
    """Has what JAX warns of mended, and said once."""
    before, said = warnings.showwarning, set()

    def show(message: Warning | str, *others: Any, **named: Any) -> None:
        trouble = _TROUBLE.match(str(message))
        if trouble is None:
            return before(message, *others, **named)
        _drop(folder, trouble["name"])
        words = "a kept program cannot be read, and is compiled again"
        if trouble["what"] == "writing":
            _write_no_more()
            words = "from here on no compiled program is kept"
        if words not in said:
            said.add(words)
            why = " ".join(trouble["why"].split())[:200]
            print(f"warning: {folder}: {words} ({why})", file=sys.stderr, flush=True)

    warnings.showwarning = show


def _drop(folder: str, program: str) -> None:
    """Removes a program's entries: JAX writes none where there is one, however damaged."""
    if files.is_remote(folder):
        return
    with contextlib.suppress(OSError):
        for path in _entries(pathlib.Path(folder), program):
            path.unlink(missing_ok=True)


def _entries(folder: pathlib.Path, program: str) -> Iterator[pathlib.Path]:
    name = re.compile(re.escape(program) + r"-[0-9a-f]{64}-cache")
    return (path for path in folder.iterdir() if name.fullmatch(path.name))
