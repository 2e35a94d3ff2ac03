"""Text -> token ids: the chat template, and the context for the standalone perplexity. No JAX.

    conditional   [system] [question + instruction] [assistant header]  a   ppl(a|q)
    standalone    [system] [                      ] [assistant header]  a   ppl(a), "empty_question"
                  [one BOS or EOS token]                                a   ppl(a), "bos"

The empty-question context is the same template with nothing in the user's turn (as in the trainer
that the paper's authors published; the formula alone reads like "bos"). Both end right before a_1,
so the answer's token ids are reused as they are. A tokenizer without a chat template gets plain
"System: / User: / Assistant:" text. Where a template has no system role, the system prompt comes
first in the user's turn (Gemma's own template does the same).

Worked examples are earlier turns, and a prefix of the assistant comes behind its header, in both
contexts. `probes` tries all of it on two questions when a `Prompter` is made. A function of one's
own (`own_prompts`) may make the messages of a row instead.
"""

import datetime
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.text import control, lengths, own_prompts, probes, shots, templates
from sar_jax.text.control import Chat
from sar_jax.text.question import Question as Question
from sar_jax.text.question import Unasked as Unasked
from sar_jax.text.stopping import Stopping

_TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "chat_template.jinja",
    "chat_template.json",
)
_PROBE = "What is 2 + 3?"


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder. Raises `UserError` where there is none.

    No code that comes with a model is run, and nothing is fetched.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        tokenizer.encode("text")  # some kinds of damage show here first
        if not tokenizer.chat_template:
            tokenizer.chat_template = _template_of_the_processor(pathlib.Path(folder))
        return tokenizer
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # many kinds; of the Rust library's not even an Exception
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        file = _damaged(pathlib.Path(folder))
        where = f"{file} cannot be read" if file else "no tokenizer can be loaded from this folder"
        raise UserError(f"{folder}: {where} ({reason})") from None


def _template_of_the_processor(folder: pathlib.Path) -> Any:
    """What chat_template.json holds, which the processors of multimodal models read; None without.

    Raises `ValueError` where it is none.
    """
    path = folder / "chat_template.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found.get("chat_template") if isinstance(found, dict) else None


def _damaged(folder: pathlib.Path) -> str:
    """The name of a tokenizer's file that is none; empty where each alone can be read."""
    for name in _TOKENIZER_FILES:
        file = folder / name
        if not file.exists():
            continue
        if not file.is_file():  # a pipe, whose end would never come
            return name
        try:
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".json":
                json.loads(text)
            if file.name == "tokenizer.json":
                Tokenizer.from_str(text)
        except Exception:
            return name
    return ""


class Prompter:
    """Renders questions for one tokenizer.

    end          the id that ends an answer: the one that the template puts after the assistant's
                 turn, or EOS
    stops        every id that ends an answer: `end`, EOS, and those in the model's own files
    shots        worked examples that come before every question
    stopping     ends an answer at the texts of prompt.stop
    standalone   token ids of the context that replaces the question in ppl(a); of prompts of one's
                 own, once there is one
    own          what makes messages of rows, where it is a function of one's own
    asks_day     does the template ask for the date? It gets `day`
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: Prompt,
        named: Sequence[int] = (),
        vocab_size: int | None = None,
        day: datetime.date | None = None,
    ):
        """named: the ids in the model's own files that end an answer.

        vocab_size   rows of the model's embedding; a prompt or answer must not need more
        day          the date that a template is told which asks for it; by default today's

        Raises `UserError` where the tokenizer cannot do what `config` asks, or its template fails.
        """
        self.tokenizer, self.config, self._vocab_size = tokenizer, config, vocab_size
        self.day = day or datetime.date.today()
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no EOS token: nothing would end an answer")
        template = "" if config.format == "plain" else templates.source(tokenizer)
        if config.format == "chat" and not template:
            raise UserError(
                "config.prompt.format is 'chat', but the tokenizer has no chat template: use "
                "'plain', or put the template into the model's folder (chat_template.jinja)"
            )
        self.chat, self.asks_day = bool(template), templates.asks_day(template)
        if config.thinking != "default" and "enable_thinking" not in template:
            raise UserError(
                f"config.prompt.thinking is {config.thinking!r}, but this tokenizer's template has "
                "no such switch: use 'default'"
            )
        self.shots = shots.read(config.examples)
        self.own = own_prompts.OwnPrompts(config.function) if config.function else None
        self._prompts = control.Encoder(tokenizer, template + config.assistant_prefix)
        self._answers = control.Encoder(tokenizer)
        self._before, self._in_parts, self.system_role = [], False, False
        self.end = tokenizer.eos_token_id
        if self.chat:
            self._try_template()
        else:
            self._before = self._tokens_before_text()
        self.stops = tuple(sorted({*named, tokenizer.eos_token_id, self.end}))
        self.stopping = Stopping(tokenizer, config.stop)
        self.standalone: list[int] = []
        if self.own is None:
            self.standalone = self._standalone()
            probes.check(self)

    def prompt(self, question: str, row: Mapping[str, Any] | None = None) -> list[int]:
        """Token ids of the question's prompt, up to where the answer begins.

        row   of the question without its answer, for prompts of one's own

        Control tokens that the question spells are text (`sar_jax.text.control`).
        """
        (ids,) = self.prompts([question], None if row is None else [row])
        return ids

    def prompts(
        self,
        questions: Sequence[str],
        rows: Sequence[Mapping[str, Any]] | None = None,
        short: int = 0,
    ) -> list[list[int] | None]:
        """As `prompt`, of many questions, which the tokenizer encodes together.

        short   None takes the place of a prompt whose text is so short that it has this many tokens
                at most: it is not encoded. One of one's own always is
        """
        if self.own is None:
            return self._encoded([self._chat(self.asked(q)) for q in questions], short=short)
        rows = [{"question": question} for question in questions] if rows is None else rows
        chats = [self.own.chat(row) for row in rows]
        found = self._encoded([self._merged(chat) for chat in chats])
        if found and not self.standalone:
            probes.check_end(self, found[0], "a prompt")
            self.standalone = self._standalone_of(chats[0])
        if self.config.standalone_context == "empty_question":
            for chat, row in zip(chats, rows):
                self.own.check_before(chat, row)
        return found

    def answer(self, text: str) -> list[int]:
        """Token ids of a given answer, ended as the model would; what it spells is text."""
        return self.answers([text])[0]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """As `answer`, of many texts, which the tokenizer encodes together."""
        return [[*ids, self.end] for ids in self._checked(self._answers.texts, texts)]

    @property
    def decoder_stops(self) -> tuple[int, ...]:
        """`stops`, and the tokens that hold a text of prompt.stop."""
        return tuple(sorted({*self.stops, *self.stopping.ids}))

    @property
    def file(self) -> str:
        """Of the template, for messages."""
        return templates.where(self.tokenizer) if self.chat else "plain text"

    def text(self, user: str) -> str:
        """A prompt as text; user: of the user's turn."""
        return self._texts([self._chat(user)])[0]

    def _encoded(
        self, chats: Sequence[Chat], render: control.Render | None = None, short: int = 0
    ) -> list[list[int] | None]:
        """Token ids of prompts; None for one that surely has no more than `short` tokens.

        render   what makes texts of chats, by default the template and the assistant's prefix
        """
        limit, most = short - len(self._before), self._most if short else None
        is_short = lambda text: most is not None and most(text) <= limit
        found = self._checked(self._prompts.chats, chats, render or self._texts, is_short)
        return [ids if ids is None else [*self._before, *ids] for ids in found]

    @functools.cached_property
    def _most(self) -> Callable[[str], int] | None:
        """What gives the most tokens that a text can have; None where each has to be looked at."""
        largest = max(self.tokenizer.get_vocab().values(), default=0)
        if self._vocab_size is not None and largest >= self._vocab_size:
            return None
        return lengths.bound(self.tokenizer)

    def _merged(self, chat: Chat) -> Chat:
        """A chat of one's own as the template takes it."""
        roles, contents = chat
        if not self.chat or self.system_role or roles[0] != "system":
            return chat
        return Chat(roles[1:], (f"{contents[0]}\n\n{contents[1]}", *contents[2:]))

    def _standalone_of(self, chat: own_prompts.Chat) -> list[int]:
        """The context without a question, of prompts of one's own."""
        if self.config.standalone_context == "bos":
            return self._one_token()
        empty = chat._replace(contents=(*chat.before.contents, ""))
        (around,) = self._encoded([self._merged(empty)])
        probes.check_end(self, around, "the context without a question")
        return around

    def _chat(self, user: str) -> Chat:
        """The messages of a prompt; user: the last one."""
        return Chat.of(*self._contents(user))

    def _texts(self, chats: Sequence[Chat]) -> list[str]:
        """Prompts as texts."""
        return [text + self.config.assistant_prefix for text in self._rendered(chats)]

    def _rendered(self, chats: Sequence[Chat]) -> list[str]:
        """The text around the messages of each chat, by the template where there is one."""
        if not self.chat:
            return [templates.plain(chat) for chat in chats]
        messages = [list(map(self._message, *chat)) for chat in chats]
        options = {"add_generation_prompt": True, "day": self.day, **self._options()}
        return templates.render(self.tokenizer, messages, **options)

    def _contents(self, user: str) -> list[str]:
        """The texts of all turns: maybe the system's, those of the examples, and the user's."""
        system, turns = self.config.system, []
        for question, solution in self.shots:
            turns += [self.asked(question), solution]
        turns.append(user)
        if system and not (self.system_role or not self.chat):
            turns[0] = f"{system}\n\n{turns[0]}"
            system = ""
        return [system, *turns] if system else turns

    def asked(self, question: str) -> str:
        """The user's turn of a question."""
        return f"{question} {self.config.instruction}".rstrip()

    def _checked(
        self, encode: Callable[..., list[list[int] | None]], *given: Any
    ) -> list[list[int] | None]:
        """The ids that `encode` gives. Raises `UserError` for one that the model does not have."""
        try:
            found = encode(*given)
        except (TypeError, UnicodeError) as error:  # half a surrogate pair, from a template
            raise UserError(f"a text cannot be encoded by the tokenizer ({error})") from None
        largest = max((max(ids) for ids in found if ids), default=0)
        if self._vocab_size is not None and largest >= self._vocab_size:
            token = self.tokenizer.convert_ids_to_tokens(largest)
            raise UserError(
                f"{self.tokenizer.name_or_path or 'the model'}: the tokenizer and the weights do "
                f"not belong together: the token {token!r} has the id {largest}, and the embedding "
                f"has {self._vocab_size} rows (vocab_size)"
            )
        return found

    def told_day(self) -> str:
        """What is to be said where the template asks for the date; empty where it does not."""
        return f"; the template asks for the date and is told {self.day}" if self.asks_day else ""

    def _options(self) -> dict[str, bool]:
        thinking = self.config.thinking
        return {} if thinking == "default" else {"enable_thinking": thinking == "on"}

    def _message(self, role: str, text: str) -> dict[str, Any]:
        """As chat templates take them."""
        content = [{"type": "text", "text": text}] if self._in_parts else text
        return {"role": role, "content": content}

    def _try_template(self) -> None:
        """Finds out what the template can. Raises `UserError` where that is not enough."""
        user = self._message("user", _PROBE)
        chats = [[self._message("system", self.config.system or _PROBE), user], [user]]
        chats += [[self._message("user", "")], [user, self._message("assistant", _PROBE)]]
        templates.check(self.tokenizer, chats, **self._options())
        text = self._probed(_PROBE)
        if _PROBE not in text:
            self._in_parts = True  # it may be made for messages in parts: text, images, ...
            if _PROBE not in self._probed(_PROBE):
                raise UserError(
                    f"{templates.where(self.tokenizer)}: the chat template drops the question: of "
                    f"the message {_PROBE!r} it makes {text[-200:]!r}"
                )
        system = _PROBE if self.own else self.config.system
        self.system_role = bool(system) and self._has_system_role(system)
        self.end = self._turn_end()

    def _has_system_role(self, system: str) -> bool:
        """False where the template refuses a system message, or drops it."""
        user = "Why?" if system == _PROBE else _PROBE
        try:
            return system.strip() in self._probed(system, user)
        except UserError:
            return False

    def _turn_end(self) -> int:
        """The special token that the template puts after an assistant's message, else EOS.

        A chat model ends with that token (<|im_end|>, <|end|>, <end_of_turn>, ...), whichever its
        files call EOS.
        """
        message = "The answer is 1."
        messages = [self._message("user", _PROBE), self._message("assistant", message)]
        try:
            (text,) = templates.render(self.tokenizer, [messages], day=self.day)
        except UserError:
            return self.tokenizer.eos_token_id
        after = self.tokenizer.encode(text.rpartition(message)[2], add_special_tokens=False)[:1]
        added = self.tokenizer.added_tokens_decoder.get(after[0]) if after else None
        return after[0] if added is not None and added.special else self.tokenizer.eos_token_id

    def _tokens_before_text(self) -> list[int]:
        """What the tokenizer puts before a text, such as BOS.

        What some put behind it, EOS, would end the prompt.
        """
        whole = self.tokenizer.encode(_PROBE)
        text = self.tokenizer.encode(_PROBE, add_special_tokens=False)
        for start in range(len(whole) - len(text) + 1):
            if whole[start : start + len(text)] == text:
                return whole[:start]
        return []

    def _standalone(self) -> list[int]:
        if self.config.standalone_context == "bos":
            return self._one_token()
        if not self.chat or probes.takes_an_empty_question(self):
            return self._encoded([self._chat("")])[0]
        # the template refuses a message without text, or makes something else of it
        return self._encoded([self._chat("")], self._around_texts)[0]

    def _one_token(self) -> list[int]:
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return [eos if bos is None else bos]

    def _around_texts(self, chats: Sequence[Chat]) -> list[str]:
        """As `_texts`, made of chats with a text at the end that is then taken out."""
        longer = [c._replace(contents=(*c.contents[:-1], c.contents[-1] + _PROBE)) for c in chats]
        prefix = self.config.assistant_prefix
        return ["".join(text.rsplit(_PROBE, 1)) + prefix for text in self._rendered(longer)]

    def _probed(self, *contents: str) -> str:
        """The template's text around a chat, the last message of which is the user's."""
        return self._rendered([Chat.of(*contents)])[0]
