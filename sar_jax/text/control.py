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
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from sar_jax.errors import UserError

_PRIVATE = [chr(code) for code in range(0x10FF00, 0x10FFFE)]  # a plane that no text uses
_AT_ONCE = 1024  # texts that the tokenizer encodes in one call


class Chat(NamedTuple):
    """Messages, the last of which is the user's."""

    roles: tuple[str, ...]
    contents: tuple[str, ...]

    @classmethod
    def of(cls, *contents: str) -> "Chat":
        """The user's messages, with an assistant's between them, maybe behind a system message."""
        turns = ("user", "assistant") * len(contents)
        first = ("system",) if len(contents) % 2 == 0 else ()
        return cls((*first, *turns)[: len(contents)], contents)

    @property
    def before(self) -> "Chat":
        """All but the last one."""
        return Chat(self.roles[:-1], self.contents[:-1])


# A template's text around each of several chats. It is never asked for none.
Render = Callable[[Sequence[Chat]], list[str]]


class Encoder:
    """Encodes texts for one tokenizer, many in one call.

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
        self._cuts = _cuts(tokenizer, template)
        self._renamed = functools.cache(self._make_renamed)

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without tokens before or behind it."""
        plain = [i for i, text in enumerate(texts) if not self._pattern.search(text)]
        found = dict(zip(plain, self._encoded([texts[i] for i in plain])))
        for i in set(range(len(texts))) - found.keys():
            opening, _ = _unused([texts[i]])
            found[i] = self._renamed(opening)(texts[i])
        return [found[i] for i in range(len(texts))]

    def chats(
        self,
        chats: Sequence[Chat],
        render: Render,
        is_short: Callable[[str], bool] = lambda text: False,
    ) -> list[list[int] | None]:
        """Token ids of each chat; None where `is_short` says of its text that it need not be
        encoded."""
        spells = [any(map(self._pattern.search, chat.contents)) for chat in chats]
        plain = [i for i, spelt in enumerate(spells) if not spelt]
        texts = render([chats[i] for i in plain]) if plain else []
        wanted = {i: text for i, text in zip(plain, texts) if not is_short(text)}
        found: list[list[int] | None] = [None] * len(chats)
        for i, ids in zip(wanted, self._encoded(list(wanted.values()))):
            found[i] = ids
        for i, spelt in enumerate(spells):
            if spelt:
                found[i] = self._spelt(chats[i], render)
        return found

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts without control tokens, or with those that are meant.

        What lies between two control tokens is encoded on its own by the tokenizer too. Prompts
        have most of it in common, and each such part is encoded once.
        """
        if self._cuts is None or len(texts) < 2:
            return self._whole(texts)
        parts = [_parts(text, self._cuts) for text in texts]
        needed = list(dict.fromkeys(itertools.chain.from_iterable(parts)))
        known = dict(zip(needed, self._whole(needed)))
        joined = itertools.chain.from_iterable
        found = [list(joined(map(known.__getitem__, own))) for own in parts]
        if found[0] != self._whole(texts[:1])[0]:  # a tokenizer that looks across them
            return self._whole(texts)
        return found

    def _whole(self, texts: list[str]) -> list[list[int]]:
        """By the tokenizer alone."""
        found: list[list[int]] = []
        for start in range(0, len(texts), _AT_ONCE):
            part = self.tokenizer(
                texts[start : start + _AT_ONCE],
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            found += part["input_ids"]
        return found

    def _spelt(self, chat: Chat, render: Render) -> list[int]:
        """Of a chat that spells a control token."""
        # A mark within each name in the contents tells it from the template's own.
        opening, mark = _unused([*chat.contents, *render([chat])])
        marked = lambda match: match.group()[:1] + mark + match.group()[1:]
        broken = []
        for content in chat.contents:
            while self._pattern.search(content):  # again, since names may overlap
                content = self._pattern.sub(marked, content)
            broken.append(content)
        name = lambda match: self._private(opening).get(match.group(), match.group())
        (text,) = render([chat._replace(contents=tuple(broken))])
        return self._renamed(opening)(self._pattern.sub(name, text).replace(mark, ""))

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


def _cuts(tokenizer: PreTrainedTokenizerBase, template: str) -> re.Pattern[str] | None:
    """The template's special tokens, before each of which a text can be cut and encoded in parts.

    None where a token may take some of what is before it, or the tokenizer is no fast one.
    """
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content]
    names = [t.content for t in added if t.special and not t.normalized and t.content in template]
    is_backed = isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer)
    if not names or not is_backed or getattr(tokenizer, "split_special_tokens", False):
        return None
    first = {name[0] for name in names}
    contents = [token.content for token in added]
    ends = [text[i:] for text in contents for i in range(1, len(text)) if text[i] in first]
    meets = any(name.startswith(end) or end.startswith(name) for name in names for end in ends)
    if meets or any(token.lstrip or token.single_word for token in added):
        return None  # another token may begin before one of them, and hold a part of it
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))


def _parts(text: str, cuts: re.Pattern[str]) -> list[str]:
    """The text cut before each special token."""
    starts = [match.start() for match in cuts.finditer(text)]
    pairs = zip([0, *starts], [*starts, len(text)])
    return [text[start:end] for start, end in pairs if start < end]


def _unused(texts: Sequence[str]) -> list[str]:
    """Two characters that no text holds."""
    used = set().union(*texts)
    return [char for char in _PRIVATE if char not in used][:2]
