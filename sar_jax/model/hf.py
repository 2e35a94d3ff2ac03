"""Hugging Face folder or hub id <-> parameters.

    config.json     -> ModelConfig      sar_jax.model.families
    *.safetensors   -> params           each device reads its own part of each tensor, nothing else
    params          -> *.safetensors    in shards, with an index, under the names they came with

`tensors` says how each of our parameters is stored, and `weights` which files there are and what
they name their tensors. Left out: a copy of a tied head. It is accepted, not read, and not written
again, as `transformers` does.
"""

import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from sar_jax.errors import UserError
from sar_jax.model import families, tensors
from sar_jax.model.folder import read_json as read_json
from sar_jax.model.folder import read_object
from sar_jax.model.folder import read_stop_ids as read_stop_ids
from sar_jax.model.parameters import ModelConfig, Params, ParamSpec, param_specs
from sar_jax.model.weights import Weights as Weights
from sar_jax.parallel import progress

_METADATA = {"format": "pt"}  # transformers refuses files without it


def load_config(folder: str | pathlib.Path, max_length: int) -> ModelConfig:
    """The model of the folder's config.json.

    max_length   the longest sequence that will be computed, in tokens

    Raises `UserError` for a missing file, and for what is not supported.
    """
    raw = read_object(folder, "config.json")
    try:
        cfg = families.parse(raw, max_length)
        _tell_without_effect(str(folder), tuple(families.without_effect(raw)))
        return cfg
    except UserError as error:
        raise UserError(f"{folder}/config.json: {error}") from None


@functools.cache
def _tell_without_effect(folder: str, names: tuple[str, ...]) -> None:
    """Once for a folder."""
    if names:
        print(f"{folder}/config.json: without effect here: {', '.join(names)}", flush=True)


def load_params(
    folder: str | pathlib.Path, cfg: ModelConfig, shardings: Any, dtype: str = "float32"
) -> Params:
    """Parameters as device arrays; each process reads only what its devices hold.

    shardings   a tree like `param_specs`
    dtype       of the arrays

    Raises `UserError` where the files are missing or do not fit the model.
    """
    weights, table = Weights(folder), tensors.of(cfg)
    weights.check(cfg)
    first_row = tensors.first_rows(cfg)
    total = sum(math.prod(w) for w in weights.shape.values())

    def load(path: tuple, spec: ParamSpec, sharding: jax.sharding.Sharding) -> jax.Array:
        name = path[-1].key

        def read(shape: tuple[int, ...], index: tuple[slice, ...], layer: int | None) -> np.ndarray:
            found = weights.read(table[name], shape, index, layer, first_row[name])
            return found.astype(dtype, copy=False)

        def part(index: tuple[slice, ...]) -> np.ndarray:
            if spec.axes[0] != "layers":
                return read(spec.shape, index, None)
            ranges = [range(*i.indices(size)) for i, size in zip(index, spec.shape)]
            out = np.empty([len(wanted) for wanted in ranges], dtype)
            for i, layer in enumerate(ranges[0]):
                out[i] = read(spec.shape[1:], index[1:], layer)
            return out

        array = jax.make_array_from_callback(spec.shape, sharding, part)
        bar.advance(math.prod(spec.shape))
        return array

    with progress.bar("loading", "parameters", total) as bar:
        return jax.tree_util.tree_map_with_path(
            load, param_specs(cfg), shardings, is_leaf=lambda s: isinstance(s, ParamSpec)
        )


class _Entry(NamedTuple):
    """A tensor to write: its size in bytes, and what makes it."""

    size: int
    make: Callable[[], np.ndarray]


def check_shard_size(max_shard_size: int | str) -> None:
    """Raises `UserError` where that is no size of a file: bytes, or text such as "5GB"."""
    _split({}, max_shard_size)


def _split(
    entries: Mapping[str, _Entry], max_shard_size: int | str
) -> huggingface_hub.StateDictSplit:
    """Which tensor goes into which file."""
    try:
        return huggingface_hub.split_state_dict_into_shards_factory(
            entries,
            get_storage_size=lambda entry: entry.size,
            max_shard_size=max_shard_size,
            filename_pattern="model{suffix}.safetensors",
        )
    except ValueError:
        raise UserError(
            f"--max-shard-size is {max_shard_size!r}: give a size such as 5GB or 500MB"
        ) from None


def save_weights(
    params: Params,
    cfg: ModelConfig,
    folder: pathlib.Path,
    max_shard_size: int | str = "5GB",
    source: str | pathlib.Path | None = None,
) -> None:
    """Writes model.safetensors, or several shards with their index.

    source   the folder that the model came from: where it is multimodal, what is not text comes
             along as it is, and the text part has the names that it had

    The host holds one shard at a time. max_shard_size: see `check_shard_size`.
    """
    base = Weights(source) if source is not None else None
    entries = _entries(params, cfg, base if base and base.beside else None)
    split = _split(entries, max_shard_size)
    with progress.bar("writing", "B", sum(entry.size for entry in entries.values())) as bar:

        def make(name: str) -> np.ndarray:
            bar.advance(entries[name].size)
            return entries[name].make()

        for file, names in split.filename_to_tensors.items():
            save_file({name: make(name) for name in names}, folder / file, _METADATA)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _entries(params: Params, cfg: ModelConfig, base: Weights | None) -> dict[str, _Entry]:
    """Every tensor of a checkpoint. base: of a multimodal model, what it came from."""
    itemsize = jnp.dtype(params["embedding"].dtype).itemsize
    found = {}
    for name, stored in tensors.stored_tensors(cfg).items():
        make = functools.partial(tensors.to_tensor, params, cfg, stored)
        outside = base.stored[name] if base else name
        found[outside] = _Entry(itemsize * math.prod(stored.shape), make)
    for name in base.beside if base else ():
        found[name] = _Entry(base.bytes_beside(name), functools.partial(base.read_beside, name))
    return found
