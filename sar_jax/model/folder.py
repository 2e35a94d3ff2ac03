"""Files of a model folder that are read as they come: JSON, the index of weight files, raw tensors.

Whatever is in them is a value or a `UserError` that names the file: a folder is made by others. A
symbolic link in it is followed, as the hub's own cache is made of them; a name in the index cannot
lead out of it.
"""

import json
import pathlib
from typing import Any

import numpy as np

from sar_jax.errors import UserError

_INDEX = "model.safetensors.index.json"
# as bits; those of NaN are larger
_INFINITY = {"bfloat16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000}


def read_json(folder: str | pathlib.Path, name: str, default: Any = None) -> Any:
    """A JSON file of a model folder; `default` where it is missing, if one is given.

    Raises `UserError` for a missing file and for what is not JSON.
    """
    path = pathlib.Path(folder) / name
    if not path.is_file():
        if default is not None:
            return default
        what = "no such folder" if not path.parent.is_dir() else f"the folder has no {name}"
        raise UserError(
            f"{folder}: {what}; give a Hugging Face model folder with config.json, *.safetensors "
            "and a tokenizer"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError
        raise UserError(f"{path}: not JSON ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_object(folder: str | pathlib.Path, name: str, default: Any = None) -> dict[str, Any]:
    """As `read_json`, of a file that holds a JSON object."""
    found = read_json(folder, name, default)
    if not isinstance(found, dict):
        raise UserError(f"{pathlib.Path(folder) / name}: expected a JSON object")
    return found


def read_stop_ids(folder: str | pathlib.Path) -> list[int]:
    """The EOS ids that generation_config.json names, else config.json; maybe none.

    Raises `UserError` where they are no token ids.
    """
    for name in ("generation_config.json", "config.json"):
        ids = read_object(folder, name, default={}).get("eos_token_id")
        if ids is None:
            continue
        listed = ids if isinstance(ids, list) else [ids]
        is_id = lambda i: isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**31
        if not all(map(is_id, listed)):
            raise UserError(
                f"{pathlib.Path(folder) / name}: eos_token_id is {ids!r:.60}: it must be a token "
                "id, a whole number, or a list of them"
            )
        return listed
    return []


def weight_map(folder: pathlib.Path) -> dict[str, str]:
    """The file of each tensor, by the index; empty where there is no index.

    Raises `UserError` for an index that names anything but safetensors files beside it.
    """
    path = folder / _INDEX
    if not path.is_file():
        return {}
    listed = read_object(folder, _INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{path}: it has no weight_map")
    for tensor, name in listed.items():
        is_plain = isinstance(name, str) and pathlib.PurePath(name).name == name
        if not is_plain or not name.endswith(".safetensors") or "\\" in name or "\0" in name:
            raise UserError(
                f"{path}: the file of {tensor} is {name!r:.80}: it must be the name of a "
                ".safetensors file in this folder"
            )
    return listed


def is_finite(values: np.ndarray) -> bool:
    """Is no value NaN or infinite? By the bits of the exponent, at the speed of memory."""
    known = _INFINITY.get(values.dtype.name)
    if known is None:
        # integers have neither; numpy knows the rest of its own types
        return values.dtype.kind in "iub" or bool(np.isfinite(values.astype(np.float64)).all())
    # NaN and infinity are the largest of the positive bits, and of the negative ones
    values, size = np.ascontiguousarray(values), values.dtype.itemsize
    signed, unsigned = values.view(f"i{size}"), values.view(f"u{size}")
    sign = 1 << (8 * size - 1)
    return not values.size or bool(signed.max() < known and unsigned.max() < known + sign)
