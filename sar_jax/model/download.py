"""Where a model's files are: a folder here, one in a bucket, or a model of the hub.

The latter two are copied here.
"""

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
from sar_jax.files import is_remote

# config, weights, tokenizers of all kinds
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def locate(path: str) -> str:
    """The local folder of a model.

    path   a folder here; or one in a bucket (gs://...) or the id of a model on the hub, whose files
           are downloaded

    A folder that does not exist is returned as it is. Raises `UserError` where a download fails.
    """
    if is_remote(path):
        return _copy_here(path)
    is_id = path.count("/") == 1 and not path.startswith((".", "/", "~"))
    if pathlib.Path(path).exists() or not is_id:
        return path
    try:
        return huggingface_hub.snapshot_download(path, allow_patterns=_FILES)
    except Exception as error:  # many kinds: no network, no such model, a gated one
        raise UserError(
            f"{path!r} is not a folder, and no model with this id can be fetched from the hub "
            f"({_first_line(error)}). On a machine with a network run `hf download {path} "
            "--local-dir FOLDER`, then give FOLDER."
        ) from None


def _copy_here(url: str) -> str:
    """A bucket's folder, file by file, in the cache of this user.

    Files of the right size are there already.
    """
    folder = pathlib.Path("~/.cache/sar_jax").expanduser() / re.sub(r"\W+", "_", url)
    is_wanted = lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in _FILES)
    try:
        files = [file for file in epath.Path(url).iterdir() if is_wanted(file.name)]
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
        raise UserError(
            f"{url}: cannot be read ({_first_line(error)}); reading gs:// needs `pip install "
            "gcsfs` and an account with access"
        ) from None
    if not files:
        raise UserError(f"{url}: there is no such folder, or there is no model in it")
    return str(folder)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
