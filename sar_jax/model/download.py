"""Where a model's files are: a folder here, one in a bucket, or a model of the hub.

The latter two are copied here.
"""

import contextlib
import difflib
import fnmatch
import hashlib
import json
import os
import pathlib
import re
from typing import Any

import fsspec
import huggingface_hub

from sar_jax.errors import UserError
from sar_jax.files import is_remote, write_atomically
from sar_jax.model import known
from sar_jax.model.folder import read_object
from sar_jax.parallel import progress

_VERSIONS = ".versions.json"  # of the objects that a folder of the cache was copied from
# config, weights, tokenizers of all kinds, and what an export takes along
_FILES = (
    "*.json",
    "sar_jax_examples.jsonl",
    "*.safetensors",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "*.py",
    "LICENSE*",
    "NOTICE*",
)
_NOT_READ = ("original/*", "consolidated*.safetensors")  # the same weights in other formats
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"


def locate(path: str, revision: str | None = None) -> str:
    """The local folder of a model.

    path       a folder here; or one in a bucket (gs://...) or the id of a model on the hub, whose
               files are downloaded
    revision   the commit of a model on the hub; by default the newest

    A folder of adapters (PEFT) becomes one of links to its base's files and its own. A folder that
    does not exist is returned as it is. Raises `UserError` where a download fails.
    """
    folder = _locate(path, revision)
    found = pathlib.Path(folder)
    if (found / _ADAPTER).is_file() and not (found / _CONFIG).is_file():
        return str(_with_base(found))
    return folder


def _locate(path: str, revision: str | None) -> str:
    if is_remote(path):
        return _copy_here(path)
    path = os.path.expanduser(path)
    is_id = path.count("/") == 1 and not path.startswith((".", "/"))
    if pathlib.Path(path).exists():
        return path
    near = _near(path)
    if not is_id:
        if near:
            raise UserError(f"{path}: no such folder: did you mean {near!r}?")
        return path
    try:
        return huggingface_hub.snapshot_download(
            path, revision=revision, allow_patterns=_FILES, ignore_patterns=_NOT_READ
        )
    except Exception as error:  # many kinds: no network, no such model, a gated one
        at = f" at the revision {revision} with which the run began" if revision else ""
        raise UserError(
            f"{path!r} is not a folder, and no model with this id can be fetched from the hub{at} "
            f"({_first_line(error)}). {f'Did you mean {near!r}? ' if near else ''}On a machine "
            f"with a network run `hf download {path} --local-dir FOLDER`, then give FOLDER."
        ) from None


def _near(path: str) -> str | None:
    """What a model that is not there may mean: a folder beside it, or an id of `known.IDS`."""
    wanted = pathlib.Path(path)
    with contextlib.suppress(OSError):
        beside = [entry.name for entry in os.scandir(wanted.parent) if entry.is_dir()]
        if found := difflib.get_close_matches(wanted.name, beside, n=1, cutoff=0.8):
            return str(wanted.with_name(found[0]))
    # another size is another model, which may well be on the hub
    numbers = lambda name: "".join(re.findall(r"\d", name))
    ids = {id.lower(): id for id in known.IDS}
    if "/" not in path:  # without the owner
        ids = {id.partition("/")[2]: ids[id] for id in ids}
    same = [id for id in ids if numbers(id) == numbers(path)]
    found = difflib.get_close_matches(path.lower(), same, n=1, cutoff=0.85)
    return ids[found[0]] if found and ids[found[0]] != path else None


def _with_base(adapter: pathlib.Path) -> pathlib.Path:
    """A folder of links: the files of the adapter's base, and the adapter's own over them.

    The weights are added together when they are read (`sar_jax.model.peft`).
    """
    base = read_object(adapter, _ADAPTER).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UserError(f"{adapter / _ADAPTER}: it names no base_model_name_or_path")
    try:
        folder = pathlib.Path(_locate(base, None))
    except UserError as error:
        raise UserError(
            f"{adapter / _ADAPTER}: its base, base_model_name_or_path: {error}"
        ) from None
    if not (folder / _CONFIG).is_file():
        raise UserError(
            f"{adapter / _ADAPTER}: base_model_name_or_path is {base!r}, where there is no model; "
            "write there the folder of the base, or its id on the hub"
        )
    files = {path.name: path.resolve() for part in (folder, adapter) for path in _read_from(part)}
    name = hashlib.sha256(f"{adapter.resolve()}\n{folder.resolve()}".encode()).hexdigest()[:16]
    made = pathlib.Path("~/.cache/sar_jax").expanduser() / f"{adapter.resolve().name}-{name}"
    made.mkdir(parents=True, exist_ok=True)
    for path in made.iterdir():
        if path.name not in files:
            path.unlink()
    for name, path in files.items():
        partial = made / f".{name}.{os.getpid()}"
        partial.symlink_to(path)
        partial.replace(made / name)  # other processes may do the same
    return made


def _read_from(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a model that may be read."""
    is_wanted = lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in _FILES)
    return [path for path in folder.iterdir() if path.is_file() and is_wanted(path.name)]


def revision_of(folder: str) -> str | None:
    """The commit of a model in the hub's cache; None for any other folder."""
    path = pathlib.Path(folder)
    is_commit = re.fullmatch("[0-9a-f]{40}", path.name) is not None
    return path.name if is_commit and path.parent.name == "snapshots" else None


def _copy_here(url: str) -> str:
    """A bucket's folder, file by file, in the cache of this user.

    A file is there already if the object has not changed since; which version of it is there is
    written beside it. What is no longer in the bucket is taken out of the cache.
    """
    name = f"{re.sub(r'[^A-Za-z0-9]+', '_', url)}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    folder = pathlib.Path("~/.cache/sar_jax").expanduser() / name
    is_wanted = lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in _FILES)
    try:
        system, root = fsspec.url_to_fs(url)
        system.invalidate_cache(root)
        found = {pathlib.PurePosixPath(o["name"]).name: o for o in system.ls(root, detail=True)}
        files = {name: o for name, o in found.items() if o["type"] == "file" and is_wanted(name)}
        if files:
            _update(system, folder, files)
    except (OSError, ImportError, ValueError) as error:
        raise UserError(
            f"{url}: cannot be read ({_first_line(error)}); reading gs:// needs `pip install "
            "gcsfs` and an account with access"
        ) from None
    if not files:
        raise UserError(f"{url}: there is no such folder, or there is no model in it")
    return str(folder)


def _update(
    system: fsspec.AbstractFileSystem, folder: pathlib.Path, files: dict[str, dict[str, Any]]
) -> None:
    """Makes a folder of the cache what the bucket holds. files: its objects by name."""
    folder.mkdir(parents=True, exist_ok=True)
    noted = folder / _VERSIONS
    try:
        there = json.loads(noted.read_text())
    except (OSError, ValueError):
        there = {}
    for name in set(there) - set(files):
        (folder / name).unlink(missing_ok=True)
        del there[name]
    with progress.bar("copying", "files", len(files)) as bar:
        for name, found in files.items():
            here, version = folder / name, _version(found)
            if not here.is_file() or there.get(name) != version:
                partial = folder / f".{name}.{os.getpid()}"
                system.get_file(found["name"], str(partial))
                partial.replace(here)
                there[name] = version
                write_atomically(noted, json.dumps(there, indent=1) + "\n")
            bar.advance()


def _version(found: dict[str, Any]) -> str:
    """What tells an object from another of the same name: its generation, or else a checksum."""
    for key in ("generation", "md5Hash", "crc32c", "etag", "ETag", "mtime", "updated", "created"):
        if found.get(key) is not None:
            return f"{key} {found[key]}, {found.get('size')} bytes"
    return f"{found.get('size')} bytes"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
