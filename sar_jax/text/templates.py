"""A tokenizer's chat template: found, tried within limits, and its errors as one line. No JAX.

A template is a program that came with a model. Before one runs here, it runs in a process of its
own (`template_trial`), with limits on time, memory and the length of what it makes.
"""

import datetime
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from sar_jax.errors import UserError
from sar_jax.text import template_trial
from sar_jax.text.control import Chat

_PATIENCE = 120  # seconds in which a trial must end on a machine that has other work
_FORMAT = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1""")
_DAY_MACRO = (
    "{%- macro strftime_now(form) -%}{{ sar_jax_day[form] if form in sar_jax_day else "
    "raise_exception('strftime_now needs a format that is written out') }}{%- endmacro -%}"
)

Message = Mapping[str, Any]


def source(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the tokenizer's template; empty without one. Of named ones, "default" is taken.

    Raises `UserError` where there are others, but no "default".
    """
    template = tokenizer.chat_template or ""
    if isinstance(template, dict):
        if "default" not in template:
            raise UserError(
                f"{where(tokenizer)}: the chat templates are named {', '.join(sorted(template))}, "
                "and none of them 'default': put the one to use into chat_template.jinja"
            )
        template = template["default"]
    if not isinstance(template, str):
        raise UserError(f"{where(tokenizer)}: the chat template is no text")
    return template


def where(tokenizer: PreTrainedTokenizerBase) -> str:
    """The file of the template, for messages."""
    folder = pathlib.Path(tokenizer.name_or_path or "")
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        if tokenizer.name_or_path and (folder / name).is_file():
            return str(folder / name)
    return "the tokenizer's chat template"


def asks_day(template: str) -> bool:
    """Does a template ask for the date?"""
    return "strftime_now" in template


def _told(template: str, day: datetime.date) -> dict[str, Any]:
    """Options of `apply_chat_template` by which a template that asks for the date is told `day`.

    `transformers` gives templates a function that knows the time; a macro takes its place. It has
    no other lines, so that errors name the template's own.
    """
    moment = datetime.datetime.combine(day, datetime.time())
    return {
        "chat_template": f"{_DAY_MACRO}{template}",
        "sar_jax_day": {text: moment.strftime(text) for _, text in _FORMAT.findall(template)},
    }


def render(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Message]],
    day: datetime.date | None = None,
    **options: Any,
) -> list[str]:
    """Chats, one at least, as texts, by `transformers`; options: of `apply_chat_template`.

    day   that a template is told which asks for the date; by default today's

    Raises `UserError` with the template's file, and its line, for whatever the template raises.
    """
    template = source(tokenizer)
    if day is not None and asks_day(template):
        options |= _told(template, day)
    try:
        texts = tokenizer.apply_chat_template(list(map(list, chats)), tokenize=False, **options)
    except Exception as error:  # of the template's own program: any kind
        raise UserError(f"{where(tokenizer)}{_line(error)}: {_said(error)}") from None
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where(tokenizer)}: the chat template gives no text")
    return texts


def plain(chat: Chat) -> str:
    """The text of a chat without a template, up to where the answer begins."""
    names = {"system": "System", "user": "User", "assistant": "Assistant"}
    turns = [f"{names[role]}: {text}\n" for role, text in zip(*chat)]
    return f"{''.join(turns)}Assistant:"


def _line(error: Exception) -> str:
    """Where in the template it arose."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.name == "template"]
    if isinstance(error, jinja2.TemplateSyntaxError):
        lines = [error.lineno]
    frames = traceback.extract_tb(error.__traceback__)
    lines = lines or [f.lineno for f in frames if f.filename == "<template>"]
    return f", line {lines[-1]}" if lines else ""


def _said(error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"the chat template has a syntax error ({said})"
    kind = "" if type(error) is jinja2.TemplateError else f"{type(error).__name__}: "
    return f"the chat template fails ({kind}{said})"


def check(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[Message]], **options: Any
) -> None:
    """Runs the template in a process of its own. Raises `UserError` where it passes a limit.

    Other errors are left to `render`.
    """
    given = {
        "template": source(tokenizer),
        "variables": {**tokenizer.special_tokens_map, **options},
        "chats": [[dict(message) for message in chat] for chat in chats],
    }
    if reason := _try(json.dumps(given, default=str)):
        raise UserError(f"{where(tokenizer)}: the chat template {reason}")


@functools.lru_cache(maxsize=64)
def _try(given: str) -> str:
    """Which limit a template passes; empty where it passes none."""
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", template_trial.__name__],
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"has not ended after {_PATIENCE} seconds"
    except OSError as error:
        raise UserError(f"no process can be started to try the chat template ({error})") from None
    if done.returncode == 0:
        return done.stdout.decode()
    # a signal of the system: of the clock, or of whoever found no memory
    return (
        f"did not end within {template_trial.SECONDS} seconds of processor time or "
        f"{template_trial.MEMORY >> 20} MiB of memory"
    )
