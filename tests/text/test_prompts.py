"""Prompts and the tokenizer: any text, one template for both contexts, ids in and ids out."""

import json

import pytest
from hypothesis import strategies as st
from support.drawn import holds_for

from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.model import hf
from sar_jax.text import prompts
from sar_jax.text.tokenizer import END, PAD, START, save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["How many apples does Mia have? 12 + 34 = 46."] * 20, 300, 64)


@holds_for(
    [
        "",
        " ",
        "\n\n\t ",
        "Mia has 47 apples.",
        "  two  blanks  ",
        "\r\n",
        "caf\u00e9 cafe\u0301",
        "日本語、한국어 и кириллица",
        "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩‍👩‍👧",
        "\x00\x07\x1b",
        "\u2028\u2029\x85\ufeff",
        "\ue000\U0010ffff\ufffd",
        "<|im_start",
        r"\frac{1}{2} $x^2$ {% if %} {{ x }}",
        "1234567890" * 20,
        "a" * 3000,
    ],
    text=st.text(),
)
def test_any_text_survives(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text


def test_digits_stand_alone_and_the_same_texts_give_the_same_tokenizer(tokenizer):
    assert [
        tokenizer.decode([i]) for i in tokenizer.encode("2024", add_special_tokens=False)
    ] == list("2024")
    again = train_tokenizer(["How many apples does Mia have? 12 + 34 = 46."] * 20, 300, 64)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)


def test_what_is_written_is_the_same_tokenizer_and_has_a_class_that_transformers_4_knows(
    tokenizer, tmp_path
):
    save_tokenizer(tokenizer, tmp_path)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    # which both versions know; 4 would take "backend" for a setting
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast" and "backend" not in written
    again = prompts.load_tokenizer(str(tmp_path))
    for text in ("How many?  12 apples", f"{START}user\nWhy?{END}\n", "\u00e9\U0010ffff"):
        assert again.encode(text) == tokenizer.encode(text)
    assert again.chat_template == tokenizer.chat_template
    assert (again.eos_token, again.pad_token) == (END, PAD)
    assert again.model_max_length == tokenizer.model_max_length == 64


def test_the_prompt_is_the_chat_template(tokenizer):
    prompter = prompts.Prompter(tokenizer, Prompt(system="Be brief.", instruction="Explain."))
    assert tokenizer.decode(prompter.prompt("Why?")) == (
        f"{START}system\nBe brief.{END}\n{START}user\nWhy? Explain.{END}\n{START}assistant\n"
    )
    assert (
        tokenizer.decode(prompter.standalone)
        == f"{START}system\nBe brief.{END}\n{START}user\n{END}\n{START}assistant\n"
    )


def test_no_system_prompt_and_no_instruction(tokenizer):
    prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction=""))
    assert (
        tokenizer.decode(prompter.prompt("Why?")) == f"{START}user\nWhy?{END}\n{START}assistant\n"
    )


def test_plain_text_without_a_template(tokenizer):
    plain = train_tokenizer(["some text"], 270, 64)
    plain.chat_template = None
    prompter = prompts.Prompter(plain, Prompt(system="Be brief.", instruction="Explain."))
    assert (
        plain.decode(prompter.prompt("Why?"))
        == "System: Be brief.\nUser: Why? Explain.\nAssistant:"
    )
    assert plain.decode(prompter.standalone) == "System: Be brief.\nUser: \nAssistant:"


def test_bos_context(tokenizer):
    prompter = prompts.Prompter(tokenizer, Prompt(standalone_context="bos"))
    assert prompter.standalone == [tokenizer.eos_token_id]  # no BOS in this tokenizer
    tokenizer.bos_token = START
    assert prompts.Prompter(tokenizer, Prompt(standalone_context="bos")).standalone == [
        tokenizer.bos_token_id
    ]
    tokenizer.bos_token = None


def test_stop_tokens_are_all_that_the_model_names(tokenizer):
    eos = tokenizer.eos_token_id
    for named, expected in (
        ([], (eos,)),
        ([7, eos], tuple(sorted((7, eos)))),
        ([0], tuple(sorted((0, eos)))),
    ):
        assert prompts.Prompter(tokenizer, Prompt(), named).stops == expected


_TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
_TURNS = "{% for m in messages %}" + _TURN + "{% endfor %}"
_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_TEMPLATES = {
    "refuses": (
        "{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}"
        "{% endif %}" + _TURNS + _OPEN
    ),
    "drops": (
        "{% set messages = messages | selectattr('role', 'ne', 'system') | list %}" + _TURNS + _OPEN
    ),
    "leads": (
        "{{ bos_token }}"
        "{% if messages[0]['role'] == 'system' %}"
        "{% set first = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}"
        "{% else %}{% set first = '' %}{% endif %}"
        "{% for m in messages %}"
        "<|im_start|>{{ m['role'] }}\n"
        "{% if loop.first %}{{ first }}{% endif %}{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}" + _OPEN
    ),
    "thinks": (
        _TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and enable_thinking is false %}"
        "<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}"
    ),
}


def with_template(name):
    tokenizer = train_tokenizer(["How many apples does Mia have? 12 + 34 = 46."] * 20, 300, 64)
    tokenizer.chat_template = _TEMPLATES[name]
    tokenizer.bos_token = PAD
    return tokenizer


@pytest.mark.parametrize("name", ["refuses", "drops", "leads"])
def test_a_family_without_a_system_role_gets_it_in_the_users_turn(name):
    """And so does the context without the question: the two differ in the question alone."""
    tokenizer = with_template(name)
    prompter = prompts.Prompter(tokenizer, Prompt(system="Be brief.", instruction="Explain."))
    start = PAD if name == "leads" else ""
    text = tokenizer.decode(prompter.prompt("Why?"))
    assert text == f"{start}{START}user\nBe brief.\n\nWhy? Explain.{END}\n{START}assistant\n"
    assert tokenizer.decode(prompter.standalone) == text.replace("Why? Explain.", "")


def test_thinking_is_switched_where_the_template_can(tokenizer):
    able = with_template("thinks")
    render = lambda thinking: able.decode(
        prompts.Prompter(able, Prompt(thinking=thinking)).prompt("Why?")
    )
    assert render("off") == render("on") + "<think>\n\n</think>\n\n"
    assert render("default") == render("on")
    off = prompts.Prompter(able, Prompt(thinking="off"))
    # the answer begins after the same header
    assert able.decode(off.standalone).endswith("</think>\n\n")
    for thinking in ("on", "off"):
        with pytest.raises(UserError, match=f"prompt.thinking is '{thinking}'"):
            prompts.Prompter(tokenizer, Prompt(thinking=thinking))
        with pytest.raises(UserError, match="prompt.thinking"):
            prompts.Prompter(able, Prompt(thinking=thinking, format="plain"))


def test_the_format_can_be_forced(tokenizer):
    plain = prompts.Prompter(
        tokenizer, Prompt(system="Be brief.", instruction="Explain.", format="plain")
    )
    assert (
        tokenizer.decode(plain.prompt("Why?"))
        == "System: Be brief.\nUser: Why? Explain.\nAssistant:"
    )
    chat = prompts.Prompter(tokenizer, Prompt(format="chat"))
    assert chat.prompt("Why?") == prompts.Prompter(tokenizer, Prompt()).prompt("Why?")
    without = train_tokenizer(["some text"], 270, 64)
    without.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        prompts.Prompter(without, Prompt(format="chat"))


def test_a_chat_ends_with_the_templates_token_even_if_the_files_call_another_one_eos():
    """As in base models that bring a chat template: EOS is <|endoftext|>, the template ends a turn
    with <|im_end|>."""
    tokenizer = train_tokenizer(["How many apples?"] * 20, 300, 64)
    end, pad = tokenizer.convert_tokens_to_ids([END, PAD])
    tokenizer.eos_token = PAD
    prompter = prompts.Prompter(tokenizer, Prompt(), [pad])
    assert prompter.end == end and prompter.stops == tuple(sorted((pad, end)))
    assert prompter.answer("12")[-1] == end and len(prompter.answer("12")) == 3
    plain = prompts.Prompter(tokenizer, Prompt(format="plain"), [pad])
    assert plain.end == pad and plain.stops == (pad,)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"  # a template that marks no ends
    )
    assert prompts.Prompter(tokenizer, Prompt()).end == pad


@pytest.mark.parametrize(
    "generation, config, expected",
    [
        ({"eos_token_id": [7, 0]}, {"eos_token_id": 5}, [7, 0]),
        ({"eos_token_id": 0}, {}, [0]),
        ({}, {"eos_token_id": 5}, [5]),
        (None, {"eos_token_id": [5, 6]}, [5, 6]),
        (None, {}, []),
    ],
)
def test_stop_tokens_of_a_folder(tmp_path, generation, config, expected):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert hf.read_stop_ids(tmp_path) == expected


def test_a_tokenizer_without_eos_is_refused():
    without = train_tokenizer(["some text"], 270, 64)
    without.eos_token = None
    with pytest.raises(UserError, match="no EOS token"):
        prompts.Prompter(without, Prompt(), [3])


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match="no tokenizer can be loaded"):
        prompts.load_tokenizer(str(tmp_path))
