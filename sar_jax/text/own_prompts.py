"""Prompts of one's own, `prompt.function`: f(row) -> chat messages (docs/plugins.md). No JAX.

    def messages(row):
        return [{"role": "system", "content": "You solve puzzles."},
                {"role": "user", "content": f"{row['question']}\\nHint: {row['hint']}"}]

It takes the place of the config's system message, instruction and worked examples. The row has no
answer. The last message is the user's; those before it are the same for all rows, since the
standalone context is these with an empty last one.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text import plugins
from sar_jax.text.control import Chat

WHERE = "config.prompt.function"
_SECONDS = 60.0  # that a call may take
_ROLES = ("system", "user", "assistant")


class OwnPrompts:
    """The function that makes prompts."""

    def __init__(self, text: str):
        """text: FILE.py:NAME. It is loaded when it is first called: an export needs none."""
        self.spec = plugins.parse(text, WHERE)
        self.first: Chat | None = None  # and its question
        self.asked: Any = None

    @functools.cached_property
    def plugin(self) -> plugins.Plugin:
        """Raises `UserError` where it cannot be loaded."""
        return plugins.load(self.spec, WHERE)

    def chat(self, row: Mapping[str, Any]) -> Chat:
        """The messages of a row. Raises `UserError` where there is something wrong with them."""
        found = self.plugin.call((dict(row),), _SECONDS, WHERE)
        chat = self._read(found, row)
        if self.first is None:
            again = self._read(self.plugin.call((dict(row),), _SECONDS, WHERE), row)
            if again != chat:
                raise self._fault("makes other messages of the same row each time", row)
            self.first, self.asked = chat, row.get("question")
        if chat == self.first and row.get("question") != self.asked:
            raise self._fault("makes the same messages of two questions", row)
        return chat

    def check_before(self, chat: Chat, row: Mapping[str, Any]) -> None:
        """Raises `UserError` where more than the last message differs between rows."""
        if chat.before != (self.first or chat).before:
            raise self._fault(
                "makes messages before the last one that differ between rows, so there is no one "
                "context without a question; put what differs into the last message, or set "
                "prompt.standalone_context=bos",
                row,
            )

    def _read(self, found: Any, row: Mapping[str, Any]) -> Chat:
        if isinstance(found, str) or not isinstance(found, Sequence) or not found:
            what = f"returned {found!r:.60}: it must return a list of messages"
            raise self._fault(what, row)
        chat = []
        for message in found:
            role = message.get("role") if isinstance(message, Mapping) else None
            content = message.get("content") if isinstance(message, Mapping) else None
            if role not in _ROLES or not isinstance(content, str):
                form = '{"role": "user", "content": TEXT}'
                raise self._fault(f"made the message {message!r:.80}: it must be {form}", row)
            chat.append((role, content))
        roles, contents = zip(*chat)
        if roles[-1] != "user" or "system" in roles[1:]:
            what = f"made messages of {', '.join(roles)}: a system message may come first, and the "
            raise self._fault(f"{what}last one is the user's", row)
        return Chat(roles, contents)

    def _fault(self, what: str, row: Mapping[str, Any]) -> UserError:
        question = str(row.get("question", ""))
        return UserError(f"{WHERE}: {self.plugin.spec.text} {what} (question {question!r:.60})")
