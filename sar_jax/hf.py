"""Hugging Face folder <-> parameters.

    config.json        -> ModelConfig          every field is used, known to be without effect, or refused by name
    *.safetensors      -> params               each device reads its own slice of each tensor, nothing else
    params             -> *.safetensors        sharded, with an index, under the names that they came with

One table (`_TENSORS`) says, for each of our parameters, the tensor's name and how its axes fold:
Hugging Face stores projections as [out, in] matrices, we keep heads apart.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sar_jax.errors import UserError
from sar_jax.model import ModelConfig, Params, ParamSpec, param_specs

_USED = {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
         "intermediate_size", "vocab_size", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings",
         "rope_theta", "rope_parameters", "rope_scaling", "model_type"}
# Without effect on the function that we compute.
_IGNORED = {"architectures", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
            "torch_dtype", "dtype", "transformers_version", "use_cache", "max_window_layers", "_name_or_path",
            "return_dict", "output_hidden_states", "output_attentions", "chunk_size_feed_forward", "is_encoder_decoder",
            "id2label", "label2id", "problem_type"}
# Supported with these values only.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",), "attention_bias": (False,), "use_sliding_window": (False,), "quantization_config": (None,),
}
MODEL_TYPES = ("qwen3",)


class _Tensor(NamedTuple):
    """name: with {l} for the layer; row_axis: our axis (of one layer) that is, or leads, the tensor's rows;
    perm: the tensor's axes, heads unfolded, in our order."""
    name: str
    row_axis: int = 0
    perm: tuple[int, ...] = (0,)


_TENSORS: Mapping[str, _Tensor] = {
    "embedding": _Tensor("model.embed_tokens.weight", 0, (0, 1)),
    "head": _Tensor("lm_head.weight", 0, (0, 1)),
    "final_norm": _Tensor("model.norm.weight"),
    "attn_norm": _Tensor("model.layers.{l}.input_layernorm.weight"),
    "q_proj": _Tensor("model.layers.{l}.self_attn.q_proj.weight", 1, (2, 0, 1)),
    "k_proj": _Tensor("model.layers.{l}.self_attn.k_proj.weight", 1, (2, 0, 1)),
    "v_proj": _Tensor("model.layers.{l}.self_attn.v_proj.weight", 1, (2, 0, 1)),
    "o_proj": _Tensor("model.layers.{l}.self_attn.o_proj.weight", 2, (1, 2, 0)),
    "q_norm": _Tensor("model.layers.{l}.self_attn.q_norm.weight"),
    "k_norm": _Tensor("model.layers.{l}.self_attn.k_norm.weight"),
    "ffw_norm": _Tensor("model.layers.{l}.post_attention_layernorm.weight"),
    "gate_proj": _Tensor("model.layers.{l}.mlp.gate_proj.weight", 1, (1, 0)),
    "up_proj": _Tensor("model.layers.{l}.mlp.up_proj.weight", 1, (1, 0)),
    "down_proj": _Tensor("model.layers.{l}.mlp.down_proj.weight", 1, (1, 0)),
}


def read_json(folder: str | pathlib.Path, name: str, default: Any = None) -> Any:
    """A JSON file of a model folder; `default` where it is missing, if one is given. Raises `UserError`."""
    path = pathlib.Path(folder) / name
    if not path.is_file():
        if default is not None:
            return default
        what = "no such folder" if not path.parent.is_dir() else f"the folder has no {name}"
        raise UserError(f"{folder}: {what}; a Hugging Face model folder with config.json, *.safetensors and a "
                        "tokenizer is expected")
    try:
        return json.loads(path.read_text())
    except ValueError as error:   # JSONDecodeError, UnicodeDecodeError
        raise UserError(f"{path}: not JSON ({error})") from None


def load_config(folder: str | pathlib.Path) -> ModelConfig:
    """The folder's config.json. Raises `UserError` that names each field or value that is not supported."""
    raw = read_json(folder, "config.json")
    if not isinstance(raw, dict):
        raise UserError(f"{folder}/config.json: a JSON object is expected")
    if raw.get("model_type") not in MODEL_TYPES:
        raise UserError(f"{folder}: model_type {raw.get('model_type')!r} is not supported "
                        f"(supported: {', '.join(MODEL_TYPES)})")
    rope = raw.get("rope_parameters") or {"rope_theta": raw.get("rope_theta"), **(raw.get("rope_scaling") or {})}
    layer_types = raw.get("layer_types") or []
    bad = [f"{k} = {raw[k]!r}" for k in raw if k in _FIXED and raw[k] not in _FIXED[k]]
    bad += [f"{k} (unknown)" for k in raw if k not in _USED | _IGNORED | set(_FIXED) | {"layer_types", "sliding_window"}]
    bad += [f"layer_types contains {t!r}" for t in sorted(set(layer_types) - {"full_attention"})]
    bad += [f"rope {k} = {v!r}" for k, v in rope.items()
            if k != "rope_theta" and not (k in ("rope_type", "type") and v == "default")]
    missing = sorted(k for k in ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
                                 "vocab_size", "rms_norm_eps", "max_position_embeddings") if k not in raw)
    bad += [f"{k} is missing" for k in missing] + (["rope_theta is missing"] if not rope.get("rope_theta") else [])
    if bad:
        raise UserError(f"{folder}/config.json is not supported: {'; '.join(bad)}")
    return ModelConfig(
        num_layers=raw["num_hidden_layers"], embed_dim=raw["hidden_size"], num_heads=raw["num_attention_heads"],
        num_kv_heads=raw.get("num_key_value_heads", raw["num_attention_heads"]),
        head_dim=raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"],
        ffw_dim=raw["intermediate_size"], vocab_size=raw["vocab_size"], rope_theta=float(rope["rope_theta"]),
        norm_eps=raw["rms_norm_eps"], tied=raw.get("tie_word_embeddings", False),
        max_positions=raw["max_position_embeddings"])


def config_json(cfg: ModelConfig) -> dict[str, Any]:
    """A config.json for a model that was made here from scratch."""
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": cfg.embed_dim,
        "num_hidden_layers": cfg.num_layers, "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads, "head_dim": cfg.head_dim, "intermediate_size": cfg.ffw_dim,
        "vocab_size": cfg.vocab_size, "max_position_embeddings": cfg.max_positions, "rope_theta": cfg.rope_theta,
        "rms_norm_eps": cfg.norm_eps, "tie_word_embeddings": cfg.tied, "hidden_act": "silu", "attention_bias": False,
        "dtype": "float32",
    }


def _named_specs(cfg: ModelConfig) -> dict[str, tuple[ParamSpec, bool]]:
    """Our parameter's name -> (spec, is it stacked over layers?)."""
    specs = param_specs(cfg)
    flat = {name: (spec, False) for name, spec in specs.items() if isinstance(spec, ParamSpec)}
    return flat | {name: (spec, True) for name, spec in specs["layers"].items()}


def _tensor_shape(name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(the tensor's shape with heads unfolded, its stored shape) of one layer's parameter of our `shape`."""
    perm = _TENSORS[name].perm
    inverse = np.argsort(perm)
    unfolded = tuple(shape[i] for i in inverse)
    if len(unfolded) < 3:
        return unfolded, unfolded
    fold_rows = name != "o_proj"   # q, k, v: [N, H, D] -> [N*H, D];  o: [D, N, H] -> [D, N*H]
    stored = (unfolded[0] * unfolded[1], unfolded[2]) if fold_rows else (unfolded[0], unfolded[1] * unfolded[2])
    return unfolded, stored


class Weights:
    """The tensors of a folder: one model.safetensors, or shards with an index. Reads slices, never whole files."""

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            files = set(read_json(self.folder, index.name)["weight_map"].values())
        else:
            files = {"model.safetensors"}
        missing = sorted(f for f in files if not (self.folder / f).is_file())
        if missing:
            raise UserError(f"{folder}: missing weight file(s): {', '.join(missing)}")
        self.where: dict[str, Any] = {}
        for name in sorted(files):
            try:
                handle = safe_open(self.folder / name, framework="np")
            except SafetensorError as error:
                raise UserError(f"{self.folder / name}: not a complete safetensors file ({error})") from None
            self.where.update(dict.fromkeys(handle.keys(), handle))

    def check(self, cfg: ModelConfig) -> None:
        """Raises `UserError` that names every tensor that is missing, unexpected or of another shape."""
        expected = {}
        for name, (spec, stacked) in _named_specs(cfg).items():
            shape = _tensor_shape(name, spec.shape[1:] if stacked else spec.shape)[1]
            for l in range(cfg.num_layers if stacked else 1):
                expected[_TENSORS[name].name.format(l=l)] = shape
        extra = set(self.where) - set(expected) - ({"lm_head.weight"} if cfg.tied else set())
        problems = [f"missing {n}" for n in sorted(set(expected) - set(self.where))]
        problems += [f"unexpected {n}" for n in sorted(extra)]
        problems += [f"{n} has shape {tuple(self.where[n].get_slice(n).get_shape())}, expected {shape}"
                     for n, shape in expected.items()
                     if n in self.where and tuple(self.where[n].get_slice(n).get_shape()) != shape]
        if problems:
            raise UserError(f"{self.folder}: the tensors do not fit config.json: {'; '.join(problems[:20])}"
                            + (f"; and {len(problems) - 20} more" if len(problems) > 20 else ""))

    def read(self, ours: str, shape: tuple[int, ...], index: tuple[slice, ...], layer: int | None) -> np.ndarray:
        """The part `index` of one layer's parameter of our `shape`; reads only the rows that it needs."""
        tensor = _TENSORS[ours]
        name = tensor.name.format(l=layer)
        unfolded, stored = _tensor_shape(ours, shape)
        start, stop, _ = index[tensor.row_axis].indices(shape[tensor.row_axis])
        block = stored[0] // unfolded[0]
        rows = self.where[name].get_slice(name)[start * block:stop * block]
        ours_part = rows.reshape(stop - start, *unfolded[1:]).transpose(tensor.perm)
        rest = tuple(slice(None) if axis == tensor.row_axis else s for axis, s in enumerate(index))
        return ours_part[rest]


def load_params(folder: str | pathlib.Path, cfg: ModelConfig, shardings: Any, dtype: str = "float32") -> Params:
    """Parameters as device arrays of `dtype`, sharded as asked; each process reads only what its devices hold."""
    weights = Weights(folder)
    weights.check(cfg)

    def load(path, spec: ParamSpec, sharding) -> jax.Array:
        name = path[-1].key
        stacked = spec.axes[0] == "layers"

        def part(index):
            if not stacked:
                return weights.read(name, spec.shape, index, None).astype(dtype)
            layers = range(*index[0].indices(spec.shape[0]))
            return np.stack([weights.read(name, spec.shape[1:], index[1:], l).astype(dtype) for l in layers])

        return jax.make_array_from_callback(spec.shape, sharding, part)

    return jax.tree_util.tree_map_with_path(load, param_specs(cfg), shardings,
                                            is_leaf=lambda s: isinstance(s, ParamSpec))


def read_stop_ids(folder: str | pathlib.Path) -> list[int]:
    """The EOS ids that generation_config.json names, else config.json; maybe none."""
    for name in ("generation_config.json", "config.json"):
        ids = read_json(folder, name, default={}).get("eos_token_id")
        if ids is not None:
            return ids if isinstance(ids, list) else [ids]
    return []


def to_tensors(params: Params, cfg: ModelConfig) -> dict[str, np.ndarray]:
    """Parameters as the tensors that Hugging Face stores, by name, on the host, in their own dtype."""
    flat = {**{k: v for k, v in params.items() if k != "layers"}, **params["layers"]}
    tensors = {}
    for name, (spec, stacked) in _named_specs(cfg).items():
        value = np.asarray(flat[name])
        shape = spec.shape[1:] if stacked else spec.shape
        for l in range(cfg.num_layers if stacked else 1):
            one = (value[l] if stacked else value).transpose(np.argsort(_TENSORS[name].perm))
            tensors[_TENSORS[name].name.format(l=l)] = np.ascontiguousarray(one.reshape(_tensor_shape(name, shape)[1]))
    return tensors


def save_weights(tensors: dict[str, np.ndarray], folder: pathlib.Path, max_shard_bytes: int = 5 * 10**9) -> None:
    """Writes model.safetensors, or shards of at most `max_shard_bytes` with their index."""
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > max_shard_bytes:
            shards.append({})
        shards[-1][name] = tensor
    metadata = {"format": "pt"}   # transformers refuses files without it
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", metadata)
        return
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards):
        save_file(shard, folder / name, metadata)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
             "weight_map": {tensor: name for name, shard in zip(names, shards) for tensor in shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
