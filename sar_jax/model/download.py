"""Where a model's files are: a folder here, one in a bucket, or the hub's model of an id; the
latter two are copied here."""

import fnmatch
import os
import pathlib
import re
import shutil

import huggingface_hub
import jax
from etils import epath
from tqdm import tqdm

from sar_jax.errors import UserError

_FILES = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.model",
    "*.txt",
)  # config, weights, tokenizers of all kinds


def locate(path: str) -> str:
    """The local folder of a model: `path` itself, or where a bucket's folder (gs://...) or the
    hub's model of that id was downloaded to. Raises `UserError`."""
    if "://" in path:
        return _copy_here(path)
    if pathlib.Path(path).exists() or path.count("/") != 1 or path.startswith((".", "/", "~")):
        return path
    try:
        return huggingface_hub.snapshot_download(path, allow_patterns=_FILES)
    except Exception as error:  # many kinds: no network, no such model, a gated one
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path!r} is no folder here, and the hub's model of that id cannot be fetched ({reason}). Where there is a "
            f"network, `hf download {path} --local-dir FOLDER` fetches it; then give FOLDER."
        ) from None


def _copy_here(url: str) -> str:
    """A bucket's folder, file by file in the cache of this user; files of the right size are there
    already."""
    folder = pathlib.Path("~/.cache/sar_jax").expanduser() / re.sub(r"\W+", "_", url)
    try:
        files = [
            f
            for f in epath.Path(url).iterdir()
            if any(fnmatch.fnmatch(f.name, pattern) for pattern in _FILES)
        ]
        folder.mkdir(parents=True, exist_ok=True)
        quiet = None if jax.process_index() == 0 else True
        for file in tqdm(files, desc="copying", unit="file", leave=False, disable=quiet):
            here = folder / file.name
            if not here.is_file() or here.stat().st_size != file.stat().length:
                partial = folder / f".{file.name}.{os.getpid()}"
                with file.open("rb") as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target, 2**24)
                partial.replace(here)
    except (OSError, ImportError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{url}: cannot be read ({reason}); reading gs:// needs `pip install gcsfs` and an account with "
            "access"
        ) from None
    if not files:
        raise UserError(f"{url}: no such folder, or it holds no model")
    return str(folder)
