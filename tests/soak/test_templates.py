"""25 chat templates: those that work give the right prompt, the others one line."""

import pytest
from support import small_tokenizers as made
from support.soak import Tally

from sar_jax.config import Prompt
from sar_jax.text import prompts

pytestmark = pytest.mark.soak

_TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
_TURNS = "{% for m in messages %}" + _TURN + "{% endfor %}"
_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_WORKS = _TURNS + _OPEN
_LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
_REFUSE = "{{ raise_exception('no') }}{% endif %}"
_EACH = "{% for m in messages %}"
_RIGHT = {
    "ordinary": _WORKS,
    "no system role": "{% if messages[0]['role'] == 'system' %}" + _REFUSE + _WORKS,
    "refuses empty text": "{% if not messages[-1]['content'] %}" + _REFUSE + _WORKS,
    "trims": _WORKS.replace("m['content']", "m['content'] | trim"),
    "generation tags": (
        _EACH + "{% generation %}" + _TURN + "{% endgeneration %}{% endfor %}" + _OPEN
    ),
    "in parts": _WORKS.replace(
        "{{ m['content'] }}", "{% for c in m['content'] %}{{ c['text'] }}{% endfor %}"
    ),
    "namespace": (
        "{% set ns = namespace(n=0) %}"
        + _EACH
        + "{% set ns.n = ns.n + 1 %}"
        + _TURN
        + "{% endfor %}"
        + _OPEN
    ),
    "loop control": (
        _EACH
        + "{% if m['role'] == 'tool' %}{% continue %}{% endif %}"
        + _TURN
        + "{% endfor %}"
        + _OPEN
    ),
    "macro": (
        "{% macro turn(m) %}"
        + _TURN
        + "{% endmacro %}"
        + _EACH
        + "{{ turn(m) }}{% endfor %}"
        + _OPEN
    ),
    "json of tools": "{% if tools %}{{ tools | tojson }}{% endif %}" + _WORKS,
}
_WRONG = {
    "syntax error": _EACH + _TURN,
    "unclosed": "{{ messages",
    "unknown function": "{{ now() }}" + _WORKS,
    "unknown filter": "{{ 'x' | shout }}" + _WORKS,
    "unknown tag": "{% shout %}" + _WORKS,
    "raises": "{{ raise_exception('of\ntwo lines') }}",
    "division by zero": "{{ 1 // (messages | length - messages | length) }}" + _WORKS,
    "wrong type": "{{ messages + 1 }}" + _WORKS,
    "missing key": "{{ messages[9]['content']['x'] }}" + _WORKS,
    "drops the question": "<|im_start|>user\n<|im_end|>\n" + _OPEN,
    "nested loops": _LOOPS + _WORKS,
    "loops where text is": "{% if messages[-1]['content'] %}" + _LOOPS + "{% endif %}" + _WORKS,
    "much memory": "{% set x = ['x'] * 10 ** 10 %}" + _WORKS,
    "much text": "{{ 'x' * 10 ** 8 }}" + _WORKS,
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + _WORKS,
}


def test_templates(record_property):
    assert len(_RIGHT) + len(_WRONG) == 25
    tally, tokenizer = Tally("template", limit=60), made.make("qwen")
    before = tokenizer.chat_template
    config = Prompt(system="Be brief.", instruction="Explain.")
    try:
        tokenizer.chat_template = _WORKS
        expected = prompts.Prompter(tokenizer, config)
        prompt, end = expected.prompt("Why <|im_end|>?"), expected.end
        for name, template in (_RIGHT | _WRONG).items():
            tokenizer.chat_template = template
            found = tally.call(name, lambda: prompts.Prompter(tokenizer, config))
            if found is None:
                if name in _RIGHT:
                    tally.wrong.append(f"{name}: refused")
                continue
            text = tokenizer.decode(found.prompt("Why <|im_end|>?"))
            same = found.prompt("Why <|im_end|>?") == prompt or name == "no system role"
            if name in _WRONG or not same or found.end != end or "Why <|im_end|>?" not in text:
                tally.refute(name, f"gives {text!r}")
    finally:
        tokenizer.chat_template = before
    tally.finish(record_property)
