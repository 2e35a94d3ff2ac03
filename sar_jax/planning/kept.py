"""What the compiler has said of a program is kept for later plans: a small JSON file for each.

They are beside the compiled programs of runs (`parallel.compiled`), in the folder `plans`, and the
same option moves them or turns them off. Nothing that happens to the folder ends a plan: what
cannot be read, or is not what was written, is made again; what cannot be written is not kept.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

from etils import epath

from sar_jax import files
from sar_jax.parallel import compiled

_FOLDER = "plans"


class Kept:
    """The records in one folder. Each is a dict that JSON can hold, and has a key of hex digits."""

    def __init__(self, folder: pathlib.Path | epath.Path):
        self.folder = folder
        self._said: set[str] = set()

    @staticmethod
    def at(given: str | None = None) -> "Kept | None":
        """Those that a command with this `--compilation_cache` has; None where nothing is kept."""
        root = compiled.root(given)
        return None if root is None else Kept(root / _FOLDER)

    def read(self, key: str) -> dict[str, Any] | None:
        """The record; None where there is none, or a damaged one, of which a line says so."""
        path = self._path(key)
        try:
            held = path.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            return self._warn(f"{path} cannot be read, and is made again", error)
        try:
            found = json.loads(held)
            record, digest = found["record"], found["digest"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return self._warn(f"{path} is damaged, and is made again", error)
        if digest != _digest(key, record):
            return self._warn(f"{path} is damaged, and is made again", "another digest")
        return record

    def write(self, key: str, record: dict[str, Any]) -> None:
        """Keeps a record; whoever reads meanwhile finds the old one or the new one, whole."""
        path = self._path(key)
        text = json.dumps({"record": record, "digest": _digest(key, record)}, indent=1) + "\n"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if files.is_remote(path):
                path.write_text(text)  # whole or not there
            else:
                _replace(path, text)
        except OSError as error:
            self._warn(f"{self.folder}: what is compiled now is not kept", error)

    def _path(self, key: str) -> pathlib.Path | epath.Path:
        return self.folder / f"{key}.json"

    def _warn(self, words: str, why: object) -> None:
        """Once."""
        if words not in self._said:
            self._said.add(words)
            reason = getattr(why, "strerror", None) or why
            print(f"warning: {words} ({reason})", file=sys.stderr, flush=True)


def _digest(key: str, record: Any) -> str:
    return hashlib.sha256(json.dumps([key, record], sort_keys=True).encode()).hexdigest()


def _replace(path: pathlib.Path, text: str) -> None:
    """By a file with a name that no other process has: several plans may write the same one."""
    number, partial = tempfile.mkstemp(prefix=f".{path.stem[:16]}.", dir=path.parent)
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
