"""Text -> token ids: the chat template, and the context for the standalone perplexity. No JAX.

    conditional   [system] [question + instruction] [assistant header]  a   ppl(a|q)
    standalone    [system] [                      ] [assistant header]  a   ppl(a), "empty_question"
                  [one BOS or EOS token]                                a   ppl(a), "bos"

The empty-question context is the same template with nothing in the user's turn (as in the trainer
that the paper's authors published; the formula alone reads like "bos"). Both end right before a_1,
so the answer's token ids are reused as they are. A tokenizer without a chat template gets plain
"System: / User: / Assistant:" text. Where a template has no system role, the system prompt comes
first in the user's turn (Gemma's own template does the same).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jinja2
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.text.tasks.example import Example


@dataclasses.dataclass(frozen=True)
class Question:
    """An example of a task, with its prompt's token ids."""

    example: Example
    prompt: Sequence[int]

    def to_json(self) -> list[Any]:
        return [dataclasses.asdict(self.example), list(self.prompt)]

    @classmethod
    def from_json(cls, value: list[Any]) -> "Question":
        """The question that `to_json` was called of."""
        example, prompt = value
        return cls(Example(**example), prompt)


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder. Raises `UserError` where there is none."""
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds here
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder}: no tokenizer can be loaded from this folder ({reason})"
        ) from None


class Prompter:
    """Renders questions for one tokenizer.

    standalone   token ids of the context that replaces the question in ppl(a)
    end          the id that ends an answer: the one that the template puts after the assistant's
                 turn, or EOS
    stops        every id that ends an answer: `end`, EOS, and those in the model's own files
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: Prompt, named: Sequence[int] = ()
    ):
        """named: the ids in the model's own files that end an answer.

        Raises `UserError` where the tokenizer cannot do what `config` asks.
        """
        self.tokenizer, self.config = tokenizer, config
        template = tokenizer.chat_template or ""
        if config.format == "chat" and not template:
            raise UserError(
                "config.prompt.format is 'chat', but the tokenizer has no chat template: use "
                "'plain', or put the template into the model's folder (chat_template.jinja)"
            )
        self.chat = bool(template) and config.format != "plain"
        can_switch = self.chat and "enable_thinking" in template
        if config.thinking != "default" and not can_switch:
            raise UserError(
                f"config.prompt.thinking is {config.thinking!r}, but this tokenizer's template has "
                "no such switch: use 'default'"
            )
        self.system_role = bool(config.system) and self.chat and self._has_system_role()
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no EOS token: nothing would end an answer")
        self.end = self._turn_end() if self.chat else tokenizer.eos_token_id
        self.stops = tuple(sorted({*named, tokenizer.eos_token_id, self.end}))
        if config.standalone_context == "bos":
            bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
            self.standalone: list[int] = [eos if bos is None else bos]
        else:
            self.standalone = self._render("")

    def prompt(self, question: str) -> list[int]:
        """Token ids of the question's prompt, up to where the answer begins."""
        return self._render(f"{question} {self.config.instruction}".rstrip())

    def _render(self, user: str) -> list[int]:
        system = self.config.system
        if not self.chat:
            before = f"System: {system}\n" if system else ""
            return self.tokenizer.encode(f"{before}User: {user}\nAssistant:")
        if system and not self.system_role:
            user = f"{system}\n\n{user}"
        messages = [_message("system", system)] if self.system_role else []
        text = self._template([*messages, _message("user", user)])
        # the template writes its own special tokens
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _template(self, messages: list[dict[str, str]]) -> str:
        options = {}
        if self.config.thinking != "default":
            options["enable_thinking"] = self.config.thinking == "on"
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **options
        )

    def _has_system_role(self) -> bool:
        """False where the template refuses a system message, or drops it."""
        messages = [_message("system", self.config.system), _message("user", "?")]
        try:
            text = self._template(messages)
        except jinja2.TemplateError:
            return False
        return self.config.system.strip() in text

    def _turn_end(self) -> int:
        """The special token that the template puts after an assistant's message, else EOS.

        A chat model ends with that token (<|im_end|>, <|end|>, <end_of_turn>, ...), whichever its
        files call EOS.
        """
        message = "The answer is 1."
        messages = [_message("user", "?"), _message("assistant", message)]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except jinja2.TemplateError:
            return self.tokenizer.eos_token_id
        after = self.tokenizer.encode(text.rpartition(message)[2], add_special_tokens=False)[:1]
        added = self.tokenizer.added_tokens_decoder.get(after[0]) if after else None
        return after[0] if added is not None and added.special else self.tokenizer.eos_token_id

    def answer(self, text: str) -> list[int]:
        """Token ids of a given answer, ended as the model would."""
        return [*self.tokenizer.encode(text, add_special_tokens=False), self.end]


def _message(role: str, content: str) -> dict[str, str]:
    """As chat templates take them."""
    return {"role": role, "content": content}
