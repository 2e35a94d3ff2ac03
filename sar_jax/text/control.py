"""Text is data: what spells a control token in a question or an answer is encoded as text. No JAX.

    "What does <|im_end|> do?"  ->  the text's own tokens, never the token that ends a turn

Control tokens are the tokenizer's special tokens and, in prompts, other added tokens that the chat
template itself writes (Qwen3's <think>). In answers these others stay tokens, since a model's own
answers hold them; and so does white space that is an added token (Gemma's), which is text.

A text without any is encoded as it always was. For another, a copy of the tokenizer knows the
control tokens under private names, which the template's own are then given: the text is encoded in
one piece, so its merges are those of ordinary text.
"""

import functools
import json
import re
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from sar_jax.errors import UserError

_PRIVATE = [chr(code) for code in range(0x10FF00, 0x10FFFE)]  # a plane that no text uses


class Encoder:
    """Encodes texts for one tokenizer.

    names   the control tokens, as text
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str = ""):
        """template: of chats; its own tokens are control tokens too."""
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        is_written = lambda token: token.content in template and not token.content.isspace()
        self.names = tuple(t.content for t in added if t.special or is_written(t))
        longest_first = sorted(filter(None, self.names), key=len, reverse=True)
        # a tokenizer may fold case before it looks for them
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)", re.IGNORECASE)
        self._renamed = functools.cache(self._make_renamed)

    def text(self, text: str) -> list[int]:
        """Token ids of a text, without tokens before or behind it."""
        if not self._pattern.search(text):
            return self.tokenizer.encode(text, add_special_tokens=False)
        opening, _ = _unused([text])
        return self._renamed(opening)(text)

    def chat(self, contents: Sequence[str], render: Callable[..., str]) -> list[int]:
        """Token ids of render(*contents): a template's text around contents."""
        if not any(self._pattern.search(content) for content in contents):
            return self.tokenizer.encode(render(*contents), add_special_tokens=False)
        # A mark within each name in the contents tells it from the template's own.
        opening, mark = _unused([*contents, render(*contents)])
        marked = lambda match: match.group()[:1] + mark + match.group()[1:]
        broken = []
        for content in contents:
            while self._pattern.search(content):  # again, since names may overlap
                content = self._pattern.sub(marked, content)
            broken.append(content)
        name = lambda match: self._private(opening).get(match.group(), match.group())
        text = self._pattern.sub(name, render(*broken)).replace(mark, "")
        return self._renamed(opening)(text)

    def _private(self, opening: str) -> dict[str, str]:
        """The control tokens' private names."""
        return {name: f"{opening}{i}{opening}" for i, name in enumerate(self.names)}

    def _make_renamed(self, opening: str) -> Callable[[str], list[int]]:
        """Encodes with a copy of the tokenizer that knows control tokens by private names alone."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise UserError(
                f"a text spells one of the control tokens {', '.join(self.names)}, and a "
                f"{type(self.tokenizer).__name__} cannot encode that as text: remove it"
            )
        described, private = json.loads(backend.to_str()), self._private(opening)
        old = {}
        for token in described["added_tokens"]:
            token["content"] = private.get(token["content"], token["content"])
            old[token["content"]] = token["id"]
        described |= {"post_processor": None, "truncation": None, "padding": None}
        copy = Tokenizer.from_str(json.dumps(described))
        # a name that the vocabulary has not gets a new id
        ids = {copy.token_to_id(name): id for name, id in old.items()}
        return lambda text: [ids.get(i, i) for i in copy.encode(text).ids]


def _unused(texts: Sequence[str]) -> list[str]:
    """Two characters that no text holds."""
    used = set().union(*texts)
    return [char for char in _PRIVATE if char not in used][:2]
