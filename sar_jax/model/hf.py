"""Hugging Face folder or hub id <-> parameters.

    config.json        -> ModelConfig          sar_jax.model.families
    *.safetensors      -> params               each device reads its own part of each tensor, nothing else
    params             -> *.safetensors        in shards, with an index, under the names that they came with

`_tensors` says, for each of our parameters, the stored tensor's name and how its axes fold: Hugging
Face keeps projections as [out, in] matrices with heads side by side, we keep heads apart; Phi-3
keeps q, k, v (and gate, up) in one matrix. Left out: a copy of a tied head. It is accepted, not
read, and not written again, as `transformers` does."""

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
from sar_jax.model.parameters import ModelConfig, Params, ParamSpec, param_specs


class _Tensor(NamedTuple):
    """name: with {l} for the layer; ours: letters of our axes (of one layer); rows, columns: the
    same letters as they are folded into the stored matrix. Only the first letter of each may be
    sharded."""

    name: str
    ours: str = "D"
    rows: str = "D"
    columns: str = ""


class Stored(NamedTuple):
    """A tensor of the checkpoint: its shape, and the parameters that it holds, one below the other:
    (our name, layer)."""

    shape: tuple[int, ...]
    parts: tuple[tuple[str, int | None], ...]


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
    return {
        ours: _COMMON.get(ours, _Tensor(""))._replace(name=name) for ours, name in names.items()
    }


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


def read_json(folder: str | pathlib.Path, name: str, default: Any = None) -> Any:
    """A JSON file of a model folder; `default` where it is missing, if one is given. Raises
    `UserError`."""
    path = pathlib.Path(folder) / name
    if not path.is_file():
        if default is not None:
            return default
        what = "no such folder" if not path.parent.is_dir() else f"the folder has no {name}"
        raise UserError(
            f"{folder}: {what}; a Hugging Face model folder with config.json, *.safetensors and a "
            "tokenizer is expected"
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise UserError(f"{path}: not JSON ({error})") from None


def load_config(folder: str | pathlib.Path, max_length: int) -> ModelConfig:
    """The model of the folder's config.json, for sequences of at most `max_length` tokens. Raises
    `UserError`."""
    raw = read_json(folder, "config.json")
    if not isinstance(raw, dict):
        raise UserError(f"{folder}/config.json: a JSON object is expected")
    try:
        return families.parse(raw, max_length)
    except UserError as error:
        raise UserError(f"{folder}/config.json: {error}") from None


def stored_tensors(cfg: ModelConfig) -> dict[str, Stored]:
    """Every tensor of a checkpoint of this model, layer by layer."""
    table, specs, found = _tensors(cfg), param_specs(cfg), {}

    def add(ours: str, shape: tuple[int, ...], layer: int | None) -> None:
        name, letters, rows, columns = table[ours]
        name, size = name.format(l=layer), dict(zip(letters, shape))
        before = found.get(name, Stored((0,), ()))
        rows_before = before.shape[0]
        folded = (rows_before + math.prod(size[r] for r in rows),)
        found[name] = Stored(
            folded + ((math.prod(size[c] for c in columns),) if columns else ()),
            (*before.parts, (ours, layer)),
        )

    add("embedding", specs["embedding"].shape, None)
    for layer in range(cfg.num_layers):
        for ours in (
            name for name in table if name in specs["layers"]
        ):  # the table's order: q, k, v; gate, up
            add(ours, specs["layers"][ours].shape[1:], layer)
    for ours in ("final_norm", "head"):
        if ours in specs:
            add(ours, specs[ours].shape, None)
    return found


class Weights:
    """The tensors of a folder: one model.safetensors, or shards with an index. A file is open only
    while it is read, so that its pages do not stay in this process's memory."""

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)
        index = self.folder / "model.safetensors.index.json"
        listed = read_json(self.folder, index.name).get("weight_map") if index.is_file() else {}
        if not isinstance(listed, dict) or (index.is_file() and not listed):
            raise UserError(f"{index}: it has no weight_map")
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
                        self.file[name], self.shape[name] = (
                            path,
                            tuple(handle.get_slice(name).get_shape()),
                        )
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: not a complete safetensors file ({error})") from None
        wrong = sorted(n for n, f in listed.items() if self.file.get(n) != self.folder / f)
        if wrong:
            raise UserError(
                f"{index}: {wrong[0]} is not in {listed[wrong[0]]}"
                + (f", and {len(wrong) - 1} more are not where it says" if len(wrong) > 1 else "")
            )

    def check(self, cfg: ModelConfig) -> None:
        """Raises `UserError` that names every tensor that is missing, unexpected or of another
        shape."""
        expected = {name: stored.shape for name, stored in stored_tensors(cfg).items()}
        extra = set(self.shape) - set(expected) - ({"lm_head.weight"} if cfg.tied else set())
        problems = [f"missing {n}" for n in sorted(set(expected) - set(self.shape))]
        problems += [f"unexpected {n}" for n in sorted(extra)]
        problems += [
            f"{n} has shape {self.shape[n]}, expected {shape}"
            for n, shape in expected.items()
            if n in self.shape and self.shape[n] != shape
        ]
        if problems:
            raise UserError(
                f"{self.folder}: the tensors do not fit config.json: {'; '.join(problems[:20])}"
                + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
            )

    def read(
        self,
        tensor: _Tensor,
        shape: tuple[int, ...],
        index: tuple[slice, ...],
        layer: int | None,
        first_row: int = 0,
    ) -> np.ndarray:
        """The part `index` of one layer's parameter of our `shape`, whose rows begin at `first_row`
        of the stored tensor."""
        size = dict(zip(tensor.ours, shape))
        wanted = {
            letter: range(*part.indices(size[letter])) for letter, part in zip(tensor.ours, index)
        }
        folds = [f for f in (tensor.rows, tensor.columns) if f]

        def span(fold: str, offset: int) -> slice:
            block = math.prod(size[letter] for letter in fold[1:])
            return slice(
                offset + wanted[fold[0]].start * block, offset + wanted[fold[0]].stop * block
            )

        name = tensor.name.format(l=layer)
        with safe_open(self.file[name], framework="np") as handle:
            part = handle.get_slice(name)[
                tuple(span(f, first_row if i == 0 else 0) for i, f in enumerate(folds))
            ]
        part = part.reshape(
            [len(wanted[f[0]]) if letter == f[0] else size[letter] for f in folds for letter in f]
        )
        part = part.transpose([("".join(folds)).index(letter) for letter in tensor.ours])
        leading = {f[0] for f in folds}
        return part[
            tuple(slice(None) if letter in leading else i for letter, i in zip(tensor.ours, index))
        ]


def load_params(
    folder: str | pathlib.Path, cfg: ModelConfig, shardings: Any, dtype: str = "float32"
) -> Params:
    """Parameters as device arrays of `dtype`, sharded as asked; each process reads only what its
    devices hold."""
    weights, table = Weights(folder), _tensors(cfg)
    weights.check(cfg)
    first_row: dict[str, int] = {}  # of each part within its tensor, the same in every layer
    for stored in stored_tensors(cfg).values():
        row = 0
        for ours, _ in stored.parts:
            first_row[ours] = row
            row += (
                _rows(table[ours], param_specs(cfg)["layers"][ours].shape[1:])
                if len(stored.parts) > 1
                else 0
            )
    total = sum(math.prod(w) for w in weights.shape.values())
    bar = tqdm(
        total=total,
        unit="param",
        unit_scale=True,
        desc="loading",
        leave=False,
        disable=None if jax.process_index() == 0 else True,
    )

    def load(path, spec: ParamSpec, sharding) -> jax.Array:
        name = path[-1].key
        read = lambda shape, index, l: weights.read(
            table[name], shape, index, l, first_row[name]
        ).astype(dtype, copy=False)

        def part(index):
            if spec.axes[0] != "layers":
                return read(spec.shape, index, None)
            layers = range(*index[0].indices(spec.shape[0]))
            out = np.empty(
                (
                    len(layers),
                    *(len(range(*i.indices(n))) for i, n in zip(index[1:], spec.shape[1:])),
                ),
                dtype,
            )
            for i, l in enumerate(layers):
                out[i] = read(spec.shape[1:], index[1:], l)
            return out

        array = jax.make_array_from_callback(spec.shape, sharding, part)
        bar.update(math.prod(spec.shape))
        return array

    with bar:
        return jax.tree_util.tree_map_with_path(
            load, param_specs(cfg), shardings, is_leaf=lambda s: isinstance(s, ParamSpec)
        )


def _rows(tensor: _Tensor, shape: tuple[int, ...]) -> int:
    return math.prod(dict(zip(tensor.ours, shape))[letter] for letter in tensor.rows)


def read_stop_ids(folder: str | pathlib.Path) -> list[int]:
    """The EOS ids that generation_config.json names, else config.json; maybe none."""
    for name in ("generation_config.json", "config.json"):
        ids = read_json(folder, name, default={}).get("eos_token_id")
        if ids is not None:
            return ids if isinstance(ids, list) else [ids]
    return []


def to_tensor(params: Params, cfg: ModelConfig, stored: Stored) -> np.ndarray:
    """One stored tensor from the parameters, on the host, in their dtype."""
    table, parts = _tensors(cfg), []
    for ours, layer in stored.parts:
        tensor, value = (
            table[ours],
            np.asarray(params[ours] if layer is None else params["layers"][ours][layer]),
        )
        rows = _rows(tensor, value.shape)
        value = value.transpose(
            [tensor.ours.index(letter) for letter in tensor.rows + tensor.columns]
        )
        parts.append(value.reshape(rows, *stored.shape[1:]))
    return np.ascontiguousarray(np.concatenate(parts) if len(parts) > 1 else parts[0])


def plan_shards(
    cfg: ModelConfig, dtype: Any, max_shard_size: int | str
) -> huggingface_hub.StateDictSplit:
    """Which tensor goes into which file. max_shard_size: bytes, or like "5GB". Raises `UserError`
    where it is no size."""
    try:
        return huggingface_hub.split_state_dict_into_shards_factory(
            stored_tensors(cfg),
            get_storage_size=lambda s: jnp.dtype(dtype).itemsize * math.prod(s.shape),
            max_shard_size=max_shard_size,
            filename_pattern="model{suffix}.safetensors",
        )
    except ValueError:
        raise UserError(
            f"--max-shard-size is {max_shard_size!r}: a size like 5GB or 500MB is expected"
        ) from None


def save_weights(
    params: Params, cfg: ModelConfig, folder: pathlib.Path, max_shard_size: int | str = "5GB"
) -> None:
    """Writes model.safetensors, or several shards with their index; the host holds one shard at a
    time."""
    plan, split = stored_tensors(cfg), plan_shards(cfg, params["embedding"].dtype, max_shard_size)
    for file, names in split.filename_to_tensors.items():
        save_file(
            {name: to_tensor(params, cfg, plan[name]) for name in names},
            folder / file,
            {"format": "pt"},
        )  # transformers refuses files without it
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
