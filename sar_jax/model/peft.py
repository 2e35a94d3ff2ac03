"""Adapter folders of PEFT: read with the base's weights, and written of a LoRA run.

    adapter_config.json         rank, alpha, matrices
    adapter_model.safetensors   for each matrix W [out, in] of the base: A [rank, in], B [out, rank]

    W + s B A,   s = alpha / rank, or alpha / sqrt(rank) with use_rslora

Left out: DoRA, biases, embeddings and whole modules that were saved beside the adapters.
"""

import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sar_jax.errors import UserError
from sar_jax.model import folder as folder_lib
from sar_jax.model import tensors
from sar_jax.model.parameters import ModelConfig, Params

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_NAME = re.compile(r"^base_model\.model\.(.*)\.lora_([AB])\.(?:default\.)?weight$")
# Of the text part of a multimodal model, as in `weights`.
_TEXT_PART = re.compile(r"^(?:model\.language_model|language_model\.model)\.")
# Fields of adapter_config.json that mean another function, with the values that do not.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "alora_invocation_tokens": (None, []),
}


_MERGE = "merge the adapter into its base with peft (merge_and_unload), and give the folder of that"


class _Pair(NamedTuple):
    """The two thin matrices of a stored matrix, and the factor on their product."""

    a: np.ndarray
    b: np.ndarray
    scale: float


class Adapter:
    """What a folder's adapters add to the base's matrices."""

    def __init__(self, folder: pathlib.Path, pairs: Mapping[str, _Pair]):
        self.folder, self.pairs = folder, pairs

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises `UserError` for adapters that do not fit the base; shapes: of its tensors."""
        for name, (a, b, _) in self.pairs.items():
            made = (b.shape[0], a.shape[1])
            if shapes.get(name) != made:
                raise UserError(
                    f"{self.folder / WEIGHTS}: the adapters of {name} make a matrix of {made}, and "
                    f"the base has {shapes.get(name) or 'no such tensor'}"
                )

    def added(self, name: str, part: np.ndarray, spans: tuple[slice, ...]) -> np.ndarray:
        """A part of the base's tensor with what the adapters add to it, in float32."""
        if name not in self.pairs:
            return part
        a, b, scale = self.pairs[name]
        return part.astype(np.float32) + scale * (b[spans[0]] @ a[:, spans[1]])


def is_there(folder: pathlib.Path) -> bool:
    return (folder / CONFIG).is_file()


def read(folder: pathlib.Path) -> Adapter:
    """The adapters of a folder. Raises `UserError` for what is not supported, by name."""
    config, path = folder_lib.read_object(folder, CONFIG), folder / WEIGHTS
    wrong = [
        f"{k} = {config[k]!r:.60}" for k, ok in _FIXED.items() if config.get(k, ok[0]) not in ok
    ]
    if wrong:
        raise UserError(f"{folder / CONFIG}: not supported: {', '.join(wrong)}; {_MERGE}")
    try:
        stored = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{folder}: the adapter has no {WEIGHTS}") from None
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a complete safetensors file ({error})") from None
    halves: dict[str, dict[str, np.ndarray]] = {}
    for name, value in stored.items():
        match = _NAME.match(name)
        if not match or value.ndim != 2:
            raise UserError(f"{path}: {name} is no adapter of a matrix; {_MERGE}")
        if not folder_lib.is_finite(value):
            raise UserError(f"{path}: {name} holds NaN or infinity")
        halves.setdefault(match[1], {})[match[2]] = value.astype(np.float32)
    pairs = {}
    for module, half in halves.items():
        if half.keys() != {"A", "B"} or half["A"].shape[0] != half["B"].shape[1]:
            raise UserError(f"{path}: {module} lacks its lora_A or lora_B, or they do not fit")
        scale = _scale(folder, config, module, half["A"].shape[0])
        name = _TEXT_PART.sub("model.", module) + ".weight"
        pairs[name] = _Pair(half["A"], half["B"], scale)
    return Adapter(folder, pairs)


def _scale(folder: pathlib.Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor of one module; its alpha is that of the first pattern that its name ends with."""
    alpha = config.get("lora_alpha", 8)
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = other
            break
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
        raise UserError(f"{folder / CONFIG}: lora_alpha is {alpha!r:.60}: it must be a number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def write(folder: pathlib.Path, cfg: ModelConfig, adapters: Params, base: str, prefix: str) -> None:
    """Writes the adapters of a run as PEFT keeps them, in float32.

    cfg        the model with its adapters
    adapters   their parameters, as `lora.specs` describes them
    base       the model's hub id or folder
    prefix     what its tensors' names have for "model."

    A stored matrix that is several of ours (Phi-3's qkv_proj) gets their adapters side by side, and
    so a rank and an alpha of that many times theirs.
    """
    found, ranks, alphas, modules = {}, {}, {}, []
    rank, alpha = cfg.adapter.rank, cfg.adapter.scale * cfg.adapter.rank
    for name, stored in tensors.stored_tensors(cfg).items():
        own = [(ours, layer) for ours, layer in stored.parts if f"{ours}_a" in adapters["layers"]]
        if not own:
            continue
        a, b = _side_by_side(cfg, adapters, stored, rank)
        module = prefix + name.removeprefix("model.").removesuffix(".weight")
        found[f"{_PREFIX}{module}.lora_A.weight"] = a
        found[f"{_PREFIX}{module}.lora_B.weight"] = b
        last = module.rpartition(".")[2]
        if last not in modules:
            modules.append(last)
        if len(own) > 1:
            ranks[last], alphas[last] = rank * len(own), alpha * len(own)
    save_file(found, folder / WEIGHTS, {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": _targets(modules, prefix),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _targets(modules: list[str], prefix: str) -> list[str] | str:
    """As PEFT takes them: the last parts of names, or a pattern that leaves images' layers out."""
    if prefix == "model.":
        return modules
    return rf".*{re.escape(prefix)}layers\..*\.({'|'.join(modules)})"


def _side_by_side(
    cfg: ModelConfig, adapters: Params, stored: tensors.Stored, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """A [n rank, in] and B [out, n rank] of a stored matrix of which n parts have adapters."""
    table, downs, ups, row = tensors.of(cfg), [], [], 0
    layers = adapters["layers"]
    count = sum(f"{ours}_a" in layers for ours, _ in stored.parts)
    for ours, layer in stored.parts:
        tensor = table[ours]
        rows = tensors.rows_of(cfg, ours)
        if f"{ours}_a" in layers:
            a, b = (np.asarray(layers[f"{ours}_{part}"][layer], np.float32) for part in "ab")
            inputs = [letter for letter in tensor.ours if letter in tensor.columns]
            a = a.transpose([*(inputs.index(l) for l in tensor.columns), a.ndim - 1])
            outputs = [letter for letter in tensor.ours if letter in tensor.rows]
            b = b.transpose([0, *(1 + outputs.index(l) for l in tensor.rows)])
            up = np.zeros((stored.shape[0], rank), np.float32)
            up[row : row + rows] = b.reshape(rank, rows).T
            downs.append(a.reshape(-1, rank).T)
            ups.append(up)
        row += rows
    assert len(downs) == count
    return np.ascontiguousarray(np.concatenate(downs)), np.ascontiguousarray(np.hstack(ups))
