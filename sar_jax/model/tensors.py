"""Our parameters <-> the stored tensors: names, and how axes fold.

Hugging Face keeps projections as [out, in] matrices with heads side by side, we keep heads apart;
Phi-3 keeps q, k, v (and gate, up) in one matrix. The names are those of a model of text alone;
`weights` knows what others add to them.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sar_jax.model.parameters import ModelConfig, Params, param_specs


class Tensor(NamedTuple):
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


_ATTENTION, _MLP = "model.layers.{l}.self_attn.", "model.layers.{l}.mlp."
_COMMON: Mapping[str, Tensor] = {
    "embedding": Tensor("model.embed_tokens.weight", "VD", "V", "D"),
    "attn_norm": Tensor("model.layers.{l}.input_layernorm.weight"),
    "q_proj": Tensor(_ATTENTION + "q_proj.weight", "DNH", "NH", "D"),
    "k_proj": Tensor(_ATTENTION + "k_proj.weight", "DKH", "KH", "D"),
    "v_proj": Tensor(_ATTENTION + "v_proj.weight", "DKH", "KH", "D"),
    "q_bias": Tensor(_ATTENTION + "q_proj.bias", "NH", "NH"),
    "k_bias": Tensor(_ATTENTION + "k_proj.bias", "KH", "KH"),
    "v_bias": Tensor(_ATTENTION + "v_proj.bias", "KH", "KH"),
    "q_norm": Tensor(_ATTENTION + "q_norm.weight", "H", "H"),
    "k_norm": Tensor(_ATTENTION + "k_norm.weight", "H", "H"),
    "o_proj": Tensor(_ATTENTION + "o_proj.weight", "NHD", "D", "NH"),
    "o_bias": Tensor(_ATTENTION + "o_proj.bias"),
    "ffw_norm": Tensor("model.layers.{l}.post_attention_layernorm.weight"),
    "gate_proj": Tensor(_MLP + "gate_proj.weight", "DF", "F", "D"),
    "up_proj": Tensor(_MLP + "up_proj.weight", "DF", "F", "D"),
    "down_proj": Tensor(_MLP + "down_proj.weight", "FD", "D", "F"),
    "gate_bias": Tensor(_MLP + "gate_proj.bias", "F", "F"),
    "up_bias": Tensor(_MLP + "up_proj.bias", "F", "F"),
    "down_bias": Tensor(_MLP + "down_proj.bias"),
    "final_norm": Tensor("model.norm.weight"),
    "head": Tensor("lm_head.weight", "VD", "V", "D"),
}


def _renamed(**names: str) -> dict[str, Tensor]:
    stored = lambda ours: _COMMON.get(ours, Tensor(""))
    return {ours: stored(ours)._replace(name=name) for ours, name in names.items()}


_POST_NORMS = _renamed(
    attn_post_norm="model.layers.{l}.post_attention_layernorm.weight",
    ffw_norm="model.layers.{l}.pre_feedforward_layernorm.weight",
    ffw_post_norm="model.layers.{l}.post_feedforward_layernorm.weight",
)
_WHOLE_NORMS = {
    "q_norm": Tensor(_ATTENTION + "q_norm.weight", "NH", "NH"),
    "k_norm": Tensor(_ATTENTION + "k_norm.weight", "KH", "KH"),
}
_OLMO = {
    **_WHOLE_NORMS,
    **_renamed(
        attn_post_norm="model.layers.{l}.post_attention_layernorm.weight",
        ffw_post_norm="model.layers.{l}.post_feedforward_layernorm.weight",
    ),
}
_BY_FAMILY: Mapping[str, dict[str, Tensor]] = {
    "gemma3_text": _POST_NORMS,
    "gemma2": _POST_NORMS,
    "olmo2": _OLMO,
    "olmo3": _OLMO,
    "phi3": _renamed(
        q_proj=_ATTENTION + "qkv_proj.weight",
        k_proj=_ATTENTION + "qkv_proj.weight",
        v_proj=_ATTENTION + "qkv_proj.weight",
        gate_proj=_MLP + "gate_up_proj.weight",
        up_proj=_MLP + "gate_up_proj.weight",
    ),
}


def of(cfg: ModelConfig) -> dict[str, Tensor]:
    """How each parameter of a model is stored, by our name."""
    return {**_COMMON, **_BY_FAMILY.get(cfg.family, {})}


def stored_tensors(cfg: ModelConfig) -> dict[str, Stored]:
    """Every tensor of a checkpoint of this model, layer by layer."""
    table, specs, found = of(cfg), param_specs(cfg), {}

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


def first_rows(cfg: ModelConfig) -> dict[str, int]:
    """Where each parameter begins within its stored tensor, which is the same in every layer."""
    found = {}
    for stored in stored_tensors(cfg).values():
        row = 0
        for ours, _ in stored.parts:
            found[ours] = row
            if len(stored.parts) > 1:
                row += rows_of(cfg, ours)
    return found


def rows_of(cfg: ModelConfig, name: str) -> int:
    """Of the stored matrix, for a parameter of the layers."""
    return _rows(of(cfg)[name], param_specs(cfg)["layers"][name].shape[1:])


def _rows(tensor: Tensor, shape: tuple[int, ...]) -> int:
    """Of the stored matrix, for a parameter of our shape in one layer."""
    return math.prod(dict(zip(tensor.ours, shape))[letter] for letter in tensor.rows)


def to_tensor(params: Params, cfg: ModelConfig, stored: Stored) -> np.ndarray:
    """One stored tensor from the parameters, on the host, in their dtype."""
    table, parts = of(cfg), []
    for ours, layer in stored.parts:
        tensor = table[ours]
        value = np.asarray(params[ours] if layer is None else params["layers"][ours][layer])
        rows, folded = _rows(tensor, value.shape), tensor.rows + tensor.columns
        value = value.transpose([tensor.ours.index(letter) for letter in folded])
        parts.append(value.reshape(rows, *stored.shape[1:]))
    return np.ascontiguousarray(np.concatenate(parts) if len(parts) > 1 else parts[0])
