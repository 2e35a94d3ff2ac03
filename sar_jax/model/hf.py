"""Hugging Face folder or hub id <-> parameters.

    config.json     -> ModelConfig      sar_jax.model.families
    *.safetensors   -> params           each device reads its own part of each tensor, nothing else
    params          -> *.safetensors    in shards, with an index, under the names they came with

`_tensors` says, for each of our parameters, the stored tensor's name and how its axes fold: Hugging
Face keeps projections as [out, in] matrices with heads side by side, we keep heads apart; Phi-3
keeps q, k, v (and gate, up) in one matrix. Left out: a copy of a tied head. It is accepted, not
read, and not written again, as `transformers` does.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from sar_jax.errors import UserError
from sar_jax.model import families
from sar_jax.model import folder as folder_lib
from sar_jax.model.folder import read_json as read_json
from sar_jax.model.folder import read_object
from sar_jax.model.folder import read_stop_ids as read_stop_ids
from sar_jax.model.parameters import ModelConfig, Params, ParamSpec, param_specs


class _Tensor(NamedTuple):
    """How a parameter is stored.

    name            of the stored tensor, with {l} for the layer
    ours            letters of our axes (of one layer)
    rows, columns   the same letters as they are folded into the stored matrix; only the first one
                    of each may be sharded
    """

    name: str
    ours: str = "D"
    rows: str = "D"
    columns: str = ""


class Stored(NamedTuple):
    """A tensor of the checkpoint.

    shape   as it is stored
    parts   the parameters that it holds, one below the other: our name, and the layer or None
    """

    shape: tuple[int, ...]
    parts: tuple[tuple[str, int | None], ...]


_SHOWN = 20  # tensors that an error names
_METADATA = {"format": "pt"}  # transformers refuses files without it
_ATTENTION, _MLP = "model.layers.{l}.self_attn.", "model.layers.{l}.mlp."
_COMMON: Mapping[str, _Tensor] = {
    "embedding": _Tensor("model.embed_tokens.weight", "VD", "V", "D"),
    "attn_norm": _Tensor("model.layers.{l}.input_layernorm.weight"),
    "q_proj": _Tensor(_ATTENTION + "q_proj.weight", "DNH", "NH", "D"),
    "k_proj": _Tensor(_ATTENTION + "k_proj.weight", "DKH", "KH", "D"),
    "v_proj": _Tensor(_ATTENTION + "v_proj.weight", "DKH", "KH", "D"),
    "q_bias": _Tensor(_ATTENTION + "q_proj.bias", "NH", "NH"),
    "k_bias": _Tensor(_ATTENTION + "k_proj.bias", "KH", "KH"),
    "v_bias": _Tensor(_ATTENTION + "v_proj.bias", "KH", "KH"),
    "q_norm": _Tensor(_ATTENTION + "q_norm.weight", "H", "H"),
    "k_norm": _Tensor(_ATTENTION + "k_norm.weight", "H", "H"),
    "o_proj": _Tensor(_ATTENTION + "o_proj.weight", "NHD", "D", "NH"),
    "ffw_norm": _Tensor("model.layers.{l}.post_attention_layernorm.weight"),
    "gate_proj": _Tensor(_MLP + "gate_proj.weight", "DF", "F", "D"),
    "up_proj": _Tensor(_MLP + "up_proj.weight", "DF", "F", "D"),
    "down_proj": _Tensor(_MLP + "down_proj.weight", "FD", "D", "F"),
    "final_norm": _Tensor("model.norm.weight"),
    "head": _Tensor("lm_head.weight", "VD", "V", "D"),
}


def _renamed(**names: str) -> dict[str, _Tensor]:
    stored = lambda ours: _COMMON.get(ours, _Tensor(""))
    return {ours: stored(ours)._replace(name=name) for ours, name in names.items()}


_POST_NORMS = _renamed(
    attn_post_norm="model.layers.{l}.post_attention_layernorm.weight",
    ffw_norm="model.layers.{l}.pre_feedforward_layernorm.weight",
    ffw_post_norm="model.layers.{l}.post_feedforward_layernorm.weight",
)
_BY_FAMILY: Mapping[str, dict[str, _Tensor]] = {
    "gemma3_text": _POST_NORMS,
    "gemma2": _POST_NORMS,
    "phi3": _renamed(
        q_proj=_ATTENTION + "qkv_proj.weight",
        k_proj=_ATTENTION + "qkv_proj.weight",
        v_proj=_ATTENTION + "qkv_proj.weight",
        gate_proj=_MLP + "gate_up_proj.weight",
        up_proj=_MLP + "gate_up_proj.weight",
    ),
}


def _tensors(cfg: ModelConfig) -> dict[str, _Tensor]:
    return {**_COMMON, **_BY_FAMILY.get(cfg.family, {})}


def load_config(folder: str | pathlib.Path, max_length: int) -> ModelConfig:
    """The model of the folder's config.json.

    max_length   the longest sequence that will be computed, in tokens

    Raises `UserError` for a missing file, and for what is not supported.
    """
    raw = read_object(folder, "config.json")
    try:
        return families.parse(raw, max_length)
    except UserError as error:
        raise UserError(f"{folder}/config.json: {error}") from None


def stored_tensors(cfg: ModelConfig) -> dict[str, Stored]:
    """Every tensor of a checkpoint of this model, layer by layer."""
    table, specs, found = _tensors(cfg), param_specs(cfg), {}

    def add(ours: str, shape: tuple[int, ...], layer: int | None) -> None:
        tensor = table[ours]
        name, size = tensor.name.format(l=layer), dict(zip(tensor.ours, shape))
        folded = lambda letters: math.prod(size[letter] for letter in letters)
        before = found.get(name, Stored((0,), ()))
        rows = before.shape[0] + folded(tensor.rows)
        whole = (rows, folded(tensor.columns)) if tensor.columns else (rows,)
        found[name] = Stored(whole, (*before.parts, (ours, layer)))

    add("embedding", specs["embedding"].shape, None)
    # in the table's order: q, k, v; gate, up
    in_layers = [name for name in table if name in specs["layers"]]
    for layer in range(cfg.num_layers):
        for ours in in_layers:
            add(ours, specs["layers"][ours].shape[1:], layer)
    for ours in ("final_norm", "head"):
        if ours in specs:
            add(ours, specs[ours].shape, None)
    return found


class Weights:
    """The tensors of a folder: one model.safetensors, or shards with an index.

    file    of each tensor, by name
    shape   of each tensor, by name

    A file is open only while it is read, so that its pages do not stay in this process's memory.
    """

    def __init__(self, folder: str | pathlib.Path):
        """Reads the headers. Raises `UserError` for a file that is missing or incomplete."""
        self.folder = pathlib.Path(folder)
        listed = folder_lib.weight_map(self.folder)
        files = set(listed.values()) or {"model.safetensors"}
        missing = sorted(f for f in files if not (self.folder / f).is_file())
        if missing:
            raise UserError(f"{folder}: missing weight file(s): {', '.join(missing)}")
        self.file: dict[str, pathlib.Path] = {}
        self.shape: dict[str, tuple[int, ...]] = {}
        for path in sorted(self.folder / name for name in files):
            try:
                with safe_open(path, framework="np") as handle:
                    for name in handle.keys():
                        self.file[name] = path
                        self.shape[name] = tuple(handle.get_slice(name).get_shape())
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: not a complete safetensors file ({error})") from None
        wrong = sorted(n for n, f in listed.items() if self.file.get(n) != self.folder / f)
        if wrong:
            more = ""
            if len(wrong) > 1:
                more = f", and {len(wrong) - 1} more tensors are not in the files listed for them"
            index = self.folder / "model.safetensors.index.json"
            raise UserError(f"{index}: {wrong[0]} is not in {listed[wrong[0]]}{more}")

    def check(self, cfg: ModelConfig) -> None:
        """Raises `UserError` naming each tensor that is missing, unexpected or of another shape."""
        expected = {name: stored.shape for name, stored in stored_tensors(cfg).items()}
        extra = set(self.shape) - set(expected) - ({"lm_head.weight"} if cfg.tied else set())
        problems = [f"missing {n}" for n in sorted(set(expected) - set(self.shape))]
        problems += [f"unexpected {n}" for n in sorted(extra)]
        problems += [
            f"{n} has shape {self.shape[n]}, expected {shape}"
            for n, shape in expected.items()
            if n in self.shape and self.shape[n] != shape
        ]
        if len(problems) > _SHOWN:
            problems = [*problems[:_SHOWN], f"and {len(problems) - _SHOWN} more"]
        if problems:
            raise UserError(
                f"{self.folder}: the tensors do not fit config.json: {'; '.join(problems)}"
            )

    def read(
        self,
        tensor: _Tensor,
        shape: tuple[int, ...],
        index: tuple[slice, ...],
        layer: int | None,
        first_row: int = 0,
    ) -> np.ndarray:
        """A part of one layer's parameter.

        shape       of our parameter, in one layer
        index       the part, a slice of each of our axes
        layer       None for what is in no layer
        first_row   of the parameter within the stored tensor

        Only the rows and columns that hold the part are read: the first letter of each is sliced in
        the file, the others in memory.
        """
        size = dict(zip(tensor.ours, shape))
        sliced = dict(zip(tensor.ours, index))
        folds = [fold for fold in (tensor.rows, tensor.columns) if fold]
        leading = {fold[0]: range(*sliced[fold[0]].indices(size[fold[0]])) for fold in folds}

        def span(fold: str, offset: int) -> slice:
            block = math.prod(size[letter] for letter in fold[1:])
            wanted = leading[fold[0]]
            return slice(offset + wanted.start * block, offset + wanted.stop * block)

        spans = tuple(span(fold, offset) for fold, offset in zip(folds, (first_row, 0)))
        name = tensor.name.format(l=layer)
        try:
            with safe_open(self.file[name], framework="np") as handle:
                part = handle.get_slice(name)[spans]
        except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
            # also a number format that numpy does not have
            raise UserError(f"{self.file[name]}: {name} cannot be read ({error})") from None
        if not folder_lib.is_finite(part):
            raise UserError(f"{self.file[name]}: {name} holds NaN or infinity")
        folded = "".join(folds)
        length = lambda letter: len(leading[letter]) if letter in leading else size[letter]
        part = part.reshape([length(letter) for letter in folded])
        part = part.transpose([folded.index(letter) for letter in tensor.ours])
        rest = lambda letter: slice(None) if letter in leading else sliced[letter]
        return part[tuple(rest(letter) for letter in tensor.ours)]


def load_params(
    folder: str | pathlib.Path, cfg: ModelConfig, shardings: Any, dtype: str = "float32"
) -> Params:
    """Parameters as device arrays; each process reads only what its devices hold.

    shardings   a tree like `param_specs`
    dtype       of the arrays

    Raises `UserError` where the files are missing or do not fit the model.
    """
    weights, table = Weights(folder), _tensors(cfg)
    weights.check(cfg)
    first_row = _first_rows(cfg)
    total = sum(math.prod(w) for w in weights.shape.values())
    bar = tqdm(
        total=total,
        unit="param",
        unit_scale=True,
        desc="loading",
        leave=False,
        disable=None if jax.process_index() == 0 else True,
    )

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
        bar.update(math.prod(spec.shape))
        return array

    with bar:
        return jax.tree_util.tree_map_with_path(
            load, param_specs(cfg), shardings, is_leaf=lambda s: isinstance(s, ParamSpec)
        )


def _first_rows(cfg: ModelConfig) -> dict[str, int]:
    """Where each parameter begins within its stored tensor, which is the same in every layer."""
    table, layers = _tensors(cfg), param_specs(cfg)["layers"]
    found = {}
    for stored in stored_tensors(cfg).values():
        row = 0
        for ours, _ in stored.parts:
            found[ours] = row
            if len(stored.parts) > 1:
                row += _rows(table[ours], layers[ours].shape[1:])
    return found


def _rows(tensor: _Tensor, shape: tuple[int, ...]) -> int:
    """Of the stored matrix, for a parameter of our shape in one layer."""
    return math.prod(dict(zip(tensor.ours, shape))[letter] for letter in tensor.rows)


def to_tensor(params: Params, cfg: ModelConfig, stored: Stored) -> np.ndarray:
    """One stored tensor from the parameters, on the host, in their dtype."""
    table, parts = _tensors(cfg), []
    for ours, layer in stored.parts:
        tensor = table[ours]
        value = np.asarray(params[ours] if layer is None else params["layers"][ours][layer])
        rows, folded = _rows(tensor, value.shape), tensor.rows + tensor.columns
        value = value.transpose([tensor.ours.index(letter) for letter in folded])
        parts.append(value.reshape(rows, *stored.shape[1:]))
    return np.ascontiguousarray(np.concatenate(parts) if len(parts) > 1 else parts[0])


def plan_shards(
    cfg: ModelConfig, dtype: Any, max_shard_size: int | str
) -> huggingface_hub.StateDictSplit:
    """Which tensor goes into which file.

    dtype            of the stored weights
    max_shard_size   of a file: bytes, or text such as "5GB"

    Raises `UserError` where that is no size.
    """
    try:
        return huggingface_hub.split_state_dict_into_shards_factory(
            stored_tensors(cfg),
            get_storage_size=lambda s: jnp.dtype(dtype).itemsize * math.prod(s.shape),
            max_shard_size=max_shard_size,
            filename_pattern="model{suffix}.safetensors",
        )
    except ValueError:
        raise UserError(
            f"--max-shard-size is {max_shard_size!r}: give a size such as 5GB or 500MB"
        ) from None


def save_weights(
    params: Params, cfg: ModelConfig, folder: pathlib.Path, max_shard_size: int | str = "5GB"
) -> None:
    """Writes model.safetensors, or several shards with their index.

    The host holds one shard at a time. max_shard_size: see `plan_shards`.
    """
    plan, split = stored_tensors(cfg), plan_shards(cfg, params["embedding"].dtype, max_shard_size)
    for file, names in split.filename_to_tensors.items():
        tensors = {name: to_tensor(params, cfg, plan[name]) for name in names}
        save_file(tensors, folder / file, _METADATA)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
