"""How many tokens a text has at most, told without encoding it. No JAX.

Each token of a byte-level or a sentencepiece vocabulary stands for a byte at least, so a text has
at most as many tokens as bytes. That is known of BPE whose normaliser and splits are those below.
"""

import json
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase

_NFC = 3  # times as many bytes as before, at most (unicode.org's FAQ on normalisation)
_SPLITS = {"Split", "Digits", "Punctuation", "WhitespaceSplit", "Whitespace", "BertPreTokenizer"}


def bound(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], int] | None:
    """What gives the most tokens that a text can have, special tokens around it left out.

    None where nothing is known of a tokenizer of this kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer) or not isinstance(backend.model, models.BPE):
        return None
    steps = _steps(backend.normalizer, "normalizers")
    splits = _steps(backend.pre_tokenizer, "pretokenizers")
    is_known = lambda text: all(backend.token_to_id(char) is not None for char in text)
    added = 0  # characters that come before each part between added tokens
    for step in steps:
        if step["type"] == "Prepend" and is_known(step["prepend"]):
            added += len(step["prepend"])
        elif step["type"] == "Replace" and is_known(step["content"]):
            if len(step["content"]) > len(step["pattern"].get("String", "")):
                return None
        elif step["type"] != "NFC":
            return None
    for step in splits:
        if step["type"] == "Metaspace" and len(splits) == 1 and is_known(step["replacement"]):
            added += 1
        elif step["type"] == "ByteLevel":
            if step["add_prefix_space"] or backend.model.byte_fallback:
                return None
        elif step["type"] not in _SPLITS:
            return None
    # The next part begins behind an added token, which is one for all its characters.
    names = [token.content for token in tokenizer.added_tokens_decoder.values()]
    if added and any(0 < len(name) <= added for name in names):
        return None
    grows = _NFC if any(step["type"] == "NFC" for step in steps) else 1
    return lambda text: len(text.encode()) * (1 if text.isascii() else grows) + added


def _steps(part: Any, name: str) -> list[dict[str, Any]]:
    """What a normaliser or pre-tokeniser does, step by step."""
    if part is None:
        return []
    described = json.loads(part.__getstate__())
    nested = lambda step: (
        [inner for one in step[name] for inner in nested(one)]
        if step["type"] == "Sequence"
        else [step]
    )
    return nested(described)
