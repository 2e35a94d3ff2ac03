"""Texts that end an answer: it ends with the token with which one of them is complete. No JAX.

The decoder works on ids. A token that holds a whole text ends the answer at once (`ids`). A text of
several tokens is found when an answer is complete, and what comes behind it is cut off (`length`):
it was drawn for nothing.
"""

import bisect
import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from sar_jax.errors import UserError


class Stopping:
    """texts: that end an answer; maybe none."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: str):
        """config: the value of prompt.stop. Raises `UserError` where it is no text and no list."""
        self._tokenizer, self.texts = tokenizer, _texts(config)

    @property
    def ids(self) -> list[int]:
        """The tokens whose own text holds one of the texts."""
        if not self.texts:
            return []
        ids = range(len(self._tokenizer))
        own = self._tokenizer.batch_decode([[i] for i in ids])
        return [i for i, text in zip(ids, own) if self._is_in(text)]

    def length(self, answer: Sequence[int]) -> int | None:
        """The tokens of an answer up to the one that completes a text; None where none does."""
        ended = lambda count: self._is_in(self._tokenizer.decode(answer[:count]))
        if not self.texts or not ended(len(answer)):
            return None
        return bisect.bisect_left(range(len(answer)), True, lo=1, key=ended)

    def _is_in(self, text: str) -> bool:
        return any(stop in text for stop in self.texts)


def _texts(config: str) -> list[str]:
    if not config.startswith("["):
        return [config] if config else []
    try:
        found = json.loads(config)
    except ValueError:
        return [config]
    if not isinstance(found, list) or not all(isinstance(x, str) and x for x in found):
        raise UserError(
            f"config.prompt.stop is {config!r:.60}: it must be a text, or a JSON list of texts"
        )
    return found
