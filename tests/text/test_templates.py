"""Chat templates are programs of others: within limits, and each fault is one line."""

import json

import pytest
from support import small_tokenizers as made
from transformers import AutoTokenizer

from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.text import prompts

_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_PLAIN = Prompt(system="", instruction="")


@pytest.fixture
def folder(tmp_path):
    """A tokenizer's folder, with a template that works."""
    made.make("qwen").save_pretrained(tmp_path)
    return tmp_path


def with_template(folder, template: str, config: Prompt = _PLAIN) -> prompts.Prompter:
    (folder / "chat_template.jinja").write_text(template)
    return prompts.Prompter(prompts.load_tokenizer(str(folder)), config)


@pytest.mark.parametrize(
    "template, words",
    [
        ("{% for m in messages %}{{ m['content'] }}", ": the chat template has a syntax error ("),
        ("x\n{{ 'a' + }}", ", line 2: the chat template has a syntax error ("),
        ("{{ unknown(messages) }}", ", line 1: the chat template fails (UndefinedError: "),
        ("\n\n{{ 1 / 0 }}", ", line 3: the chat template fails (ZeroDivisionError: "),
        ("\n{{ raise_exception('no chats today') }}", "chat template fails (no chats today)"),
        ("{{ messages[0]['content']['text']['x'] }}", "the chat template fails (UndefinedError: "),
        ("{{ messages[7]['content'] }}" * 2, "the chat template fails (UndefinedError: "),
        ("{% include 'other' %}", "the chat template fails ("),
        ("{{ messages.__class__.__mro__ }}", "the chat template fails (SecurityError: "),
        ("<|im_start|>" + _OPEN, ": the chat template drops the question: "),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "5 sec"),
        ("{% set x = 'x' * 2000000000 %}" + _TURNS, ": the chat template takes more than 1024 MiB"),
        ("{{ 'x' * 9000000 }}" + _TURNS, ": the chat template makes a text of more than"),
        (
            "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
            "the chat template fails (Recursion",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line_with_its_file(folder, template, words):
    with pytest.raises(UserError) as error:
        with_template(folder, template)
    message = str(error.value)
    assert message.startswith(str(folder / "chat_template.jinja")) and "\n" not in message
    assert words in message


def test_a_template_that_refuses_an_empty_message_gives_what_is_around_any():
    refusing = "{% if not messages[-1]['content'] %}{{ raise_exception('empty') }}{% endif %}"
    tokenizer = made.make("qwen")
    for system in ("", "Be brief."):
        config = Prompt(system=system, instruction="")
        expected = prompts.Prompter(tokenizer, config)
        try:
            before = tokenizer.chat_template
            tokenizer.chat_template = refusing + before
            prompter = prompts.Prompter(tokenizer, config)
        finally:
            tokenizer.chat_template = before
        assert prompter.standalone == expected.standalone
        assert prompter.prompt("Why?") == expected.prompt("Why?")


def test_a_template_for_messages_in_parts_gets_them_in_parts(folder):
    parts = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
        "{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    )
    config = Prompt(system="Be brief.", instruction="Explain.")
    plain = with_template(folder, _TURNS + _OPEN, config)
    prompter = with_template(folder, parts + _OPEN, config)
    assert prompter.prompt("Why?") == plain.prompt("Why?")
    assert prompter.prompt("Why <|im_end|>?") == plain.prompt("Why <|im_end|>?")
    assert (prompter.standalone, prompter.end) == (plain.standalone, plain.end)


def named(folder, **templates: str):
    """The folder with these templates by name, in tokenizer_config.json."""
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    listed = [{"name": name, "template": template} for name, template in templates.items()]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": listed}))
    return prompts.load_tokenizer(str(folder))


def test_of_named_templates_the_default_is_taken(folder):
    switch = "{% if enable_thinking is defined and not enable_thinking %}<think>\n{% endif %}"
    tokenizer = named(folder, default=_TURNS + _OPEN + switch, tool_use="{{ 1 / 0 }}")
    prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction="", thinking="off"))
    assert tokenizer.decode(prompter.prompt("Why?")).endswith("assistant\n<think>\n")
    assert isinstance(AutoTokenizer.from_pretrained(folder).chat_template, dict)


def test_named_templates_without_a_default_are_named(folder):
    tokenizer = named(folder, rag=_TURNS, tool_use=_TURNS)
    with pytest.raises(UserError, match="named rag, tool_use, and none of them 'default'"):
        prompts.Prompter(tokenizer, _PLAIN)
    # what needs no template does not ask for one
    prompts.Prompter(tokenizer, Prompt(system="", instruction="", format="plain"))


def test_a_tokenizer_that_appends_eos_does_not_end_the_prompt():
    """Plain text begins as the tokenizer has it, with BOS, and goes on to the answer."""
    from tokenizers import processors

    tokenizer = made.make("mistral")
    backend, before = tokenizer.backend_tokenizer, tokenizer.backend_tokenizer.post_processor
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    try:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
        )
        assert tokenizer.encode("x")[-1] == eos
        prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction="", format="plain"))
        ids = prompter.prompt("Why?")
        assert ids == [bos, *tokenizer.encode("User: Why?\nAssistant:", add_special_tokens=False)]
        assert eos not in prompter.standalone
    finally:
        backend.post_processor = before


def test_a_token_that_the_model_does_not_have_is_named():
    tokenizer = made.make("qwen")
    rows = tokenizer.convert_tokens_to_ids("<|im_start|>")  # the template writes it
    with pytest.raises(UserError, match=rf"'<\|im_start\|>' has the id {rows}.*has {rows} rows"):
        prompts.Prompter(tokenizer, _PLAIN, vocab_size=rows)
    prompter = prompts.Prompter(tokenizer, _PLAIN, vocab_size=rows + 1)
    # a token behind these, that nothing here needs, is no fault; in an answer it is
    assert tokenizer.convert_tokens_to_ids("<think>") > rows
    with pytest.raises(UserError, match="'<think>' has the id"):
        prompter.answer("<think>")
