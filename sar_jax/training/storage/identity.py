"""Whose checkpoint it is: the run, its model and its questions.

A resumed run goes on with the same ones, or not at all.
"""

import hashlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from etils import epath

from sar_jax.errors import UserError
from sar_jax.model.folder import read_object
from sar_jax.training.storage import digests

# What programs write into these files about themselves; no number depends on it.
_ASIDE = ("_name_or_path", "name_or_path", "transformers_version", "tokenizer_file", "vocab_file")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_TOKENIZER_JSON = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# Of each weight file, evenly spaced: 4 MiB tell two trained models apart.
_PIECES, _PIECE = 64, 2**16


class Identity(NamedTuple):
    """run: a name that a run has from its beginning; model: digests of what its folder holds, by
    part; questions: fingerprint of the training data."""

    run: str
    model: dict[str, str]
    questions: str

    def foreign(self, meta: Mapping[str, Any]) -> str | None:
        """What says that a checkpoint is another run's; None for this one's."""
        there = meta.get("run")
        if there is None or there == self.run:  # older checkpoints do not say
            return None
        return f"it is that of another run ({there}; this one is {self.run})"

    def check(self, meta: Mapping[str, Any], workdir: epath.Path) -> None:
        """Raises `UserError` where a checkpoint of this run has another model or other questions.

        It names the parts of the model that differ.
        """
        _check_model(meta, self.model, workdir)
        if meta["questions"] != self.questions:
            raise UserError(
                f"{workdir} was trained on different questions: the data of config.data.train has "
                "changed since then; restore it, or choose another --workdir"
            )


def _check_model(meta: Mapping[str, Any], model: Mapping[str, str], workdir: epath.Path) -> None:
    changed = digests.differing(meta["model"], model) if meta.get("model") else []
    if changed:
        raise UserError(
            f"{workdir} was trained on another model: since then there has been a change in "
            f"{', '.join(changed)} of config.model.path; put back what was there, or choose "
            "another --workdir"
        )


def check_model(meta: Mapping[str, Any], folder: str, workdir: epath.Path) -> None:
    """Raises `UserError`, naming the parts that differ, where a folder does not hold the model of a
    checkpoint."""
    if meta.get("model"):  # older checkpoints do not say
        _check_model(meta, of_model(folder), workdir)


def of_model(folder: str) -> dict[str, str]:
    """Digests of a model's files by part, the same wherever the folder is.

    Its parts are config.json, generation_config.json, tokenizer, chat template and weights.
    """
    path = pathlib.Path(folder)
    tokenizer = [digests.of_value(_stripped(path / name)) for name in _TOKENIZER_JSON]
    tokenizer += [_bytes(path / name) for name in _TOKENIZER]
    templates = [path / "chat_template.jinja", path / "chat_template.json"]
    templates += sorted((path / "additional_chat_templates").glob("*.jinja"))
    inline = read_object(path, "tokenizer_config.json", default={}).get("chat_template")
    weights = [(file.name, of_weights(epath.Path(file))) for file in path.glob("*.safetensors")]
    if adapter := adapter_settings(path):
        weights.append(("adapter_config.json", digests.of_value(adapter)))
    return {
        "config.json": digests.of_value(_stripped(path / "config.json")),
        "generation_config.json": digests.of_value(_stripped(path / "generation_config.json")),
        "the tokenizer": digests.of_value(tokenizer),
        "the chat template": digests.of_value([inline, *map(_bytes, templates)]),
        "the weights": digests.of_value(sorted(weights)),
    }


def adapter_settings(folder: pathlib.Path) -> dict[str, Any]:
    """How adapters are added to their base, without where that is; empty of another folder."""
    found = read_object(folder, "adapter_config.json", default={})
    return {name: value for name, value in found.items() if name != "base_model_name_or_path"}


def of_weights(file: epath.Path) -> str:
    """Of a weight file's size and of samples of its bytes."""
    digest = hashlib.sha256(f"{file.stat().length}\n".encode())
    for piece in pieces(file):
        digest.update(piece)
    return digest.hexdigest()


def pieces(file: epath.Path) -> Iterator[bytes]:
    """Samples of a file's bytes, evenly spaced; of a small file, all of them."""
    size = file.stat().length
    with file.open("rb") as stream:
        for i in range(_PIECES):
            stream.seek(max(size - _PIECE, 0) * i // (_PIECES - 1))
            yield stream.read(_PIECE)


def _bytes(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _stripped(path: pathlib.Path) -> dict[str, Any]:
    """A JSON file without what does not matter, and without the template, a part of its own."""
    found = read_object(path.parent, path.name, default={})
    return {name: value for name, value in found.items() if name not in (*_ASIDE, "chat_template")}
