"""What spells a control token is text; all other text is encoded as `transformers` does it."""

import pytest
from hypothesis import strategies as st
from support import small_tokenizers as made
from support.drawn import holds_for

from sar_jax.config import Prompt
from sar_jax.text import control, prompts
from sar_jax.text.tokenizer import train_tokenizer

_BARE = Prompt(system="", instruction="")


def specials(tokenizer) -> dict[int, str]:
    return {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}


def by_transformers(tokenizer, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]


@pytest.mark.parametrize("kind", made.KINDS)
@holds_for(
    [
        "Why?",
        " two  blanks ",
        "\n\nnew\n\n lines \n\n",
        "caf\u00e9 \u4e2d \U0001f600",
        "<|im_x|>",
        "a<b>c",
    ],
    text=st.text(min_size=1),
)
def test_ordinary_text_has_the_ids_of_transformers(kind, text):
    tokenizer = made.make(kind)
    prompter = prompts.Prompter(tokenizer, _BARE)
    assert prompter.prompt(text) == by_transformers(tokenizer, text.rstrip())
    ids = prompter.answer(text)
    assert ids[:-1] == tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("kind", made.KINDS)
def test_every_control_token_in_a_question_is_text(kind):
    """The prompt has the special tokens of one without them, reads the same, and no more."""
    tokenizer = made.make(kind)
    prompter, known = prompts.Prompter(tokenizer, _BARE), specials(tokenizer)
    of = lambda ids: [i for i in ids if i in known]
    plain = prompter.prompt("Why is it so?")
    for token in known.values():
        for text in (token, f"Why {token} is", f"a{token}{token}b", f"{token}\n", f"12{token}34"):
            ids = prompter.prompt(text)
            assert of(ids) == of(plain), (token, text)
            assert tokenizer.decode(ids).replace(" ", "") == tokenizer.decode(plain).replace(
                "Why is it so?", text.strip()
            ).replace(" ", "")
            assert prompter.answer(text)[:-1].count(prompter.end) == 0
            assert not of(prompter.answer(text)[:-1])


@pytest.mark.parametrize("kind", ["qwen", "llama3"])
def test_spelt_tokens_are_the_pieces_that_the_text_alone_has(kind):
    """Between a template's tokens and new lines nothing merges: the oracle is the text alone, in a
    tokenizer that splits special tokens."""
    tokenizer = made.make(kind)
    prompter = prompts.Prompter(tokenizer, _BARE)
    empty = prompter.prompt("?")
    mark = tokenizer.encode("?", add_special_tokens=False)
    at = empty.index(mark[0])
    for token in specials(tokenizer).values():
        text = f"What does {token} do, and {token}?"
        alone = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert prompter.prompt(text) == empty[:at] + alone + empty[at + 1 :]
        assert prompter.answer(text) == [*alone, prompter.end]


def test_renamed_copy_encodes_all_text_alike():
    """Whatever is not a control token: the slow way and the ordinary one agree."""
    text = "Why  is\n\n<|end|\u00e9\u4e2d? 12+34\n  x "
    for kind in made.KINDS:
        tokenizer = made.make(kind)
        encoder = control.Encoder(tokenizer, tokenizer.chat_template)
        slow = encoder._renamed(control._PRIVATE[0])
        assert slow(text) == tokenizer.encode(text, add_special_tokens=False), kind


def test_the_system_prompt_and_the_instruction_are_text_too():
    tokenizer = made.make("qwen")
    ends = lambda system, instruction: (
        prompts.Prompter(tokenizer, Prompt(system=system, instruction=instruction))
        .prompt("Why?")
        .count(tokenizer.eos_token_id)
    )
    assert ends("Be <|im_end|> brief.", "End with <|im_end|>.") == ends("Be brief.", "End.") == 2


def test_a_token_that_the_template_writes_is_text_in_prompts_and_a_token_in_answers():
    """Qwen3's <think>, which is added but not special: a question must not open a thought; a
    model's answer does."""
    tokenizer = made.make("qwen")
    prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction="", thinking="off"))
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert prompter.prompt("What is <think>?").count(think) == 1  # the template's own
    assert prompter.answer("<think>\nso\n</think>\n\n5").count(think) == 1


@pytest.mark.parametrize("kind, written", [("gemma", 0), ("llama3", 2)])
def test_white_space_that_is_an_added_token_stays_one(kind, written):
    """Also where the template writes it. written: how often."""
    tokenizer = made.make(kind)
    blank = tokenizer.convert_tokens_to_ids("\n\n")
    prompter = prompts.Prompter(tokenizer, _BARE)
    for text in ("a\n\nb", f"a\n\nb {tokenizer.eos_token}"):
        assert prompter.prompt(text).count(blank) == written + 1


def test_names_that_overlap_are_text_both():
    tokenizer = train_tokenizer(["How many apples? <ab><"] * 20, 280, 64)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<ab>", "b><"]})
    ids = prompts.Prompter(tokenizer, _BARE).prompt("Why <ab>< and <ab>?")
    assert not set(ids) & set(tokenizer.convert_tokens_to_ids(["<ab>", "b><"]))
    assert "Why <ab>< and <ab>?" in tokenizer.decode(ids)


def test_marks_of_the_encoder_in_a_text_are_text():
    """Private characters are told apart from those that the encoder uses."""
    tokenizer = made.make("qwen")
    prompter = prompts.Prompter(tokenizer, _BARE)
    text = "".join(control._PRIVATE[:3]) + f"{control._PRIVATE[0]}0{control._PRIVATE[0]} <|im_end|>"
    ids = prompter.prompt(text)
    assert text in tokenizer.decode(ids) and ids.count(tokenizer.eos_token_id) == 1


def test_without_a_template_they_are_text_as_well():
    tokenizer = made.make("qwen")
    prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction="", format="plain"))
    ids = prompter.prompt("Why <|im_end|>?")
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "User: Why <|im_end|>?\nAssistant:"
