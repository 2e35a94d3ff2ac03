"""Digests of what a checkpoint holds, so that what is read is what was written.

    arrays   two sums of each array, made where the array is: they do not depend on how it is spread
             over devices and processes, and cost one pass over its memory
    files    size of each file; of small ones, a hash
    values   SHA-256 of a JSON value

No digest of a file would do for the arrays: it would have to be read again, from a bucket too, and
a model that is loaded for other devices reads other pieces of it.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import xxhash
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32

FILES = "files.json"
_SMALL = 2**16  # bytes of a file that is hashed whole: descriptions and indices, not arrays


def of_value(value: Any) -> str:
    """Of anything that JSON can hold; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_arrays(tree: Any) -> dict[str, str]:
    """Of each array by its path; dtype and shape are part of it.

    tree   of arrays, on one mesh; in several processes, the same call on each
    """
    named = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name: _of_array(leaf) for name, leaf in named.items()}


def _of_array(x: Array) -> str:
    # One after the other: many programs at once, each with sums over devices, can wait for each
    # other for ever on CPUs that have fewer threads than a mesh has devices.
    first, second = jax.device_get(_dispatched(x))
    return f"{x.dtype}{list(x.shape)} {first:08x}{second:08x}"


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _dispatched(x: Array) -> UInt32[Array, "2"]:
    """The sums, on every device, so that each process can read them."""
    if not isinstance(x.sharding, NamedSharding):
        return jax.jit(sums)(x)
    mesh = x.sharding.mesh
    with jax.set_mesh(mesh):  # in every caller's surroundings the same program
        return _jitted(NamedSharding(mesh, PartitionSpec()))(x)


@functools.cache
def _jitted(place: NamedSharding) -> Any:
    return jax.jit(sums, out_shardings=place)


def sums(x: Array) -> UInt32[Array, "2"]:
    """Two sums modulo 2**32 of an array's bits, each word weighted by an odd number of its place.

    An odd weight makes every change of a single word change the sum. Other changes go unseen with
    a probability of about 2**-32 for the first sum, whose weights look random.
    """
    words = _words(x)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    weighted = (words * (_mixed(place) | 1), words * (2 * place + 1))
    zero = jnp.uint32(0)
    # one pass for both: XLA's CPU code for it is some thirty times faster than for two sums
    add = lambda a, b: (a[0] + b[0], a[1] + b[1])
    return jnp.stack(jax.lax.reduce(weighted, (zero, zero), add, tuple(range(words.ndim))))


def _words(x: Array) -> UInt32[Array, "..."]:
    """The bits of each number; those of 8 bytes as two words."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    size = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, size).astype(jnp.uint32)


def _mixed(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection that spreads every bit over the word: the finalizer of MurmurHash3."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def differing(there: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names whose digests are not the same in both."""
    return sorted(name for name in {*there, *now} if there.get(name) != now.get(name))


def write_files(folder: epath.Path) -> None:
    """Lists all files of a step's parts, in the step's folder.

    Orbax's own notes beside the parts change when the step is moved into place.
    """
    parts = {name: file for name, file in files_below(folder).items() if "/" in name}
    found = {name: _of_file(file) for name, file in parts.items()}
    text = json.dumps({"files": found, "digest": of_value(found)}, indent=1) + "\n"
    (folder / FILES).write_text(text)


def damaged_file(folder: epath.Path) -> str | None:
    """The first file that is not what `write_files` found, and how it differs; None for none.

    A folder without a list, of an earlier version, has none.
    """
    path = folder / FILES
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text())
        if of_value(kept["files"]) != kept["digest"]:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        return f"{path} is damaged"
    there = files_below(folder)
    for name, old in kept["files"].items():
        if name not in there:
            return f"{folder / name} is missing"
        new = _of_file(there[name])
        if new["bytes"] != old["bytes"]:
            return f"{folder / name} has {new['bytes']} bytes, and had {old['bytes']}"
        if new != old:
            return f"{folder / name} has changed since it was written"
    return None


def _of_file(file: epath.Path) -> dict[str, Any]:
    size = file.stat().length
    if size > _SMALL:
        return {"bytes": size}
    return {"bytes": size, "xxh3": xxhash.xxh3_64_hexdigest(file.read_bytes())}


def files_below(folder: epath.Path, prefix: str = "") -> dict[str, epath.Path]:
    """All files below a folder, here or in a bucket, by their path within it."""
    found: dict[str, epath.Path] = {}
    for path in folder.iterdir():
        name = f"{prefix}{path.name}"
        found |= files_below(path, f"{name}/") if path.is_dir() else {name: path}
    return found
