"""The weight files of a model folder: which there are, what they name their tensors, parts of them.

    model.safetensors            read where it is there, as `transformers` does
    shards with an index         else
    adapter_model.safetensors    beside either: added to the matrices as they are read (`peft`)

A tensor goes by the name that it has in a model of text alone. The text part of a multimodal model
has longer ones, and a base model without a head has shorter ones.
"""

import math
import pathlib
import re
from collections.abc import Iterable

import numpy as np
from safetensors import SafetensorError, safe_open

from sar_jax.errors import UserError
from sar_jax.model import folder as folder_lib
from sar_jax.model import peft, tensors
from sar_jax.model.parameters import ModelConfig
from sar_jax.model.tensors import Tensor

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHOWN = 20  # tensors that an error names
_ROWS = 2**14  # of two tables that are compared at once
_EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Beginnings of the names of a text part, and what is there instead in a model of text alone. The
# first is how multimodal models are published, the second how transformers 4.52 to 4.57 wrote them,
# the last a base model without a head.
_PREFIXES = (
    ("language_model.", ""),
    ("model.language_model.", "model."),
    ("", "model."),
)
# What a training program left before the names, by the program.
_WRAPPERS = {
    "module.": "torch's DistributedDataParallel, which saved its own wrapper",
    "_orig_mod.": "torch.compile, which saved its own wrapper",
    "_fsdp_wrapped_module.": "torch's FSDP, which saved its own wrapper",
    "base_model.model.": "PEFT: adapters that were not merged",
    "pretrained_model.": "a model with a value head",
    "policy.": "a trainer that keeps several models together",
}
_BUFFER = re.compile(r"(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$")
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|weight_scale|weight_scale_inv|weight_packed|absmax|quant_map"
    r"|quant_state\S*|weight_format)$"
)
_FLOATS = {"F64", "F32", "F16", "BF16"}
_FULL = (
    "give the model in bfloat16 or float32 (quantised ones come from such a one, which the hub has "
    "as a rule)"
)
_CONVERT = (
    "load it with transformers and save it again (AutoModelForCausalLM.from_pretrained(FOLDER)."
    "save_pretrained(NEW))"
)


class Weights:
    """The tensors of a folder.

    file     of each tensor, by its name in a model of text alone
    shape    the same
    stored   the same: the name in the file
    beside   the names in their files of what is no part of the text model, with the files

    A file is open only while it is read, so that its pages do not stay in this process's memory.
    """

    def __init__(self, folder: str | pathlib.Path):
        """Reads the headers. Raises `UserError` for a file that is missing or incomplete."""
        self.folder = pathlib.Path(folder)
        listed = {}
        if not (self.folder / _SINGLE).is_file():
            listed = folder_lib.weight_map(self.folder)
        files = set(listed.values()) or {_SINGLE}
        missing = sorted(f for f in files if not (self.folder / f).is_file())
        if missing:
            raise UserError(
                f"{folder}: missing weight file(s): {', '.join(missing)}{_found(self.folder)}"
            )
        found: dict[str, pathlib.Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._format: dict[str, str] = {}
        for path in sorted(self.folder / name for name in files):
            try:
                with safe_open(path, framework="np") as handle:
                    for name in handle.keys():
                        part = handle.get_slice(name)
                        found[name], self._shapes[name] = path, tuple(part.get_shape())
                        self._format[name] = part.get_dtype()
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: not a complete safetensors file ({error})") from None
        _check_index(self.folder, listed, found)
        self.stored, beside = _named(found)
        self.beside = {name: found[name] for name in beside}
        self.file = {name: found[stored] for name, stored in self.stored.items()}
        self.shape = {name: self._shapes[stored] for name, stored in self.stored.items()}
        self.adapter = peft.read(self.folder) if peft.is_there(self.folder) else None

    def check(self, cfg: ModelConfig) -> None:
        """Raises `UserError` naming each tensor that is missing, unexpected or of another shape."""
        if cfg.tied and HEAD in self.shape and _EMBEDDING not in self.shape:
            for table in (self.file, self.shape, self.stored):  # the one is the other
                table[_EMBEDDING] = table.pop(HEAD)
        expected = {n: stored.shape for n, stored in tensors.stored_tensors(cfg).items()}
        extra = set(self.shape) - set(expected) - ({HEAD} if cfg.tied else set())
        self._check_formats(expected, extra)
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
        if self.adapter:
            self.adapter.check(
                {name: shape for name, shape in self.shape.items() if name in expected}
            )
        if cfg.tied and HEAD in self.shape:
            self._check_heads()

    def _check_formats(self, expected: Iterable[str], extra: Iterable[str]) -> None:
        """Raises `UserError` for quantised weights."""
        for name in [*expected, *sorted(extra)]:
            kind = self._format.get(self.stored.get(name, ""), "F32")
            if kind not in _FLOATS or _QUANTISED.search(name):
                raise UserError(
                    f"{self.file[name]}: the weights are quantised: {name} holds numbers of the "
                    f"format {kind}; {_FULL}"
                )

    def _check_heads(self) -> None:
        """Raises `UserError` where config.json ties a head that is not the embedding."""
        same, rows, some = (
            self.shape[HEAD] == self.shape[_EMBEDDING],
            self.shape[_EMBEDDING][0],
            2**14,
        )
        for start in range(0, rows, some):
            span = (slice(start, min(start + some, rows)),)
            same = same and np.array_equal(self._part(HEAD, span), self._part(_EMBEDDING, span))
            if not same:
                raise UserError(
                    f"{self.folder}/config.json: tie_word_embeddings says that {HEAD} is "
                    f"{_EMBEDDING}, and the weights hold two that differ: transformers computes "
                    "with both; set tie_word_embeddings to false to do so here, or take the head "
                    "out of the file"
                )

    def bytes_beside(self, name: str) -> int:
        """Of a tensor that is no part of the text model."""
        bits = re.search(r"\d+", self._format[name])
        return math.prod(self._shapes[name]) * (int(bits[0]) // 8 if bits else 1)

    def read_beside(self, name: str) -> np.ndarray:
        """A tensor that is no part of the text model, as it is stored."""
        try:
            with safe_open(self.beside[name], framework="np") as handle:
                return handle.get_tensor(name)
        except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{self.beside[name]}: {name} cannot be read ({error})") from None

    def _part(self, name: str, spans: tuple[slice, ...]) -> np.ndarray:
        try:
            with safe_open(self.file[name], framework="np") as handle:
                return handle.get_slice(self.stored[name])[spans]
        except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
            # also a number format that numpy does not have
            raise UserError(f"{self.file[name]}: {name} cannot be read ({error})") from None

    def read(
        self,
        tensor: Tensor,
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
        part = self._part(name, spans)
        if not folder_lib.is_finite(part):
            raise UserError(f"{self.file[name]}: {name} holds NaN or infinity")
        if self.adapter:
            part = self.adapter.added(name, part, spans)
        folded = "".join(folds)
        length = lambda letter: len(leading[letter]) if letter in leading else size[letter]
        part = part.reshape([length(letter) for letter in folded])
        part = part.transpose([folded.index(letter) for letter in tensor.ours])
        rest = lambda letter: slice(None) if letter in leading else sliced[letter]
        return part[tuple(rest(letter) for letter in tensor.ours)]


def _found(folder: pathlib.Path) -> str:
    """What a folder without weights has instead, and what to do with it."""
    has = lambda pattern: next((path.name for path in sorted(folder.glob(pattern))), "")
    if name := has("model-*-of-*.safetensors"):
        return f"; there is {name} without {_INDEX}, which is missing too: fetch it"
    if name := has("*.gguf"):
        return f"; there is {name}, a format of other programs, mostly quantised: {_FULL}"
    if name := has("pytorch_model*.bin") or has("*.bin") or has("*.pt") or has("*.pth"):
        return f"; there is {name}, which can hold code and is not read: {_CONVERT}"
    if name := has("consolidated*.safetensors"):
        return f"; there is {name}, in its maker's own names: fetch the model*.safetensors too"
    if name := has("*.safetensors"):
        return f"; there is {name}: a model's own weights are in {_SINGLE}"
    return ""


def _check_index(
    folder: pathlib.Path, listed: dict[str, str], found: dict[str, pathlib.Path]
) -> None:
    """Raises `UserError` where a tensor is not in the file that the index names."""
    wrong = sorted(n for n, f in listed.items() if found.get(n) != folder / f)
    if wrong:
        more = ""
        if len(wrong) > 1:
            more = f", and {len(wrong) - 1} more tensors are not in the files listed for them"
        raise UserError(f"{folder / _INDEX}: {wrong[0]} is not in {listed[wrong[0]]}{more}")


def _named(found: dict[str, pathlib.Path]) -> tuple[dict[str, str], list[str]]:
    """Names of a model of text alone, each with the stored one; and the stored ones of the rest.

    Buffers that every program computes anew are left out. Raises `UserError` for the names that a
    training program wrapped.
    """
    names = [name for name in found if not _BUFFER.search(name)]
    if _EMBEDDING in found or not names:
        return {name: name for name in names}, []
    for begin, instead in _PREFIXES:
        if begin + _EMBEDDING.removeprefix(instead) in found:
            ours = [name for name in names if name.startswith(begin) and name != HEAD]
            table = {instead + name[len(begin) :]: name for name in ours}
            table |= {HEAD: HEAD} if HEAD in found else {}
            return table, [name for name in names if name not in table.values()]
    for begin, who in _WRAPPERS.items():
        if wrapped := next((name for name in names if name.startswith(begin)), None):
            raise UserError(
                f"{found[wrapped]}: the tensors' names begin with {begin!r} ({wrapped}), which "
                f"comes from {who}; merge or unwrap the model there and save it again, or take "
                f"{begin!r} off the names"
            )
    return {name: name for name in names}, []
