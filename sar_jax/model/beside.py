"""The files of a model folder beside config.json and weights, which an export takes along as they
are: training changes none of them, and what reads them may be older than what is installed here."""

import fnmatch
import pathlib
import shutil

_TAKEN = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",  # of sentencepiece
    "*.tiktoken",
    "tekken.json",
    "chat_template*",
    "generation_config.json",
    "processor_config.json",
    "*preprocessor_config.json",
    "*.py",  # that config.json or tokenizer_config.json may name; nothing here runs it
    "LICENSE*",
    "NOTICE*",
)
_TEMPLATES = "additional_chat_templates"  # a folder of named ones


def copy(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies them, byte for byte."""
    for path in sorted(source.iterdir()):
        if path.is_file() and any(fnmatch.fnmatch(path.name, pattern) for pattern in _TAKEN):
            shutil.copyfile(path, folder / path.name)
    if (source / _TEMPLATES).is_dir():
        shutil.copytree(source / _TEMPLATES, folder / _TEMPLATES)
