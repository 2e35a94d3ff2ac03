"""Prompts and the tokenizer: any text, one template for both contexts, ids in and ids out."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sar_jax import hf, prompts
from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.tokenizer import END, PAD, START, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["How many apples does Mia have? 12 + 34 = 46."] * 20, 300, 64)


@settings(deadline=None)
@given(st.text())
def test_any_text_survives(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text


def test_digits_stand_alone_and_the_same_texts_give_the_same_tokenizer(tokenizer):
    assert [tokenizer.decode([i]) for i in tokenizer.encode("2024", add_special_tokens=False)] == list("2024")
    again = train_tokenizer(["How many apples does Mia have? 12 + 34 = 46."] * 20, 300, 64)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)


def test_the_prompt_is_the_chat_template(tokenizer):
    prompter = prompts.Prompter(tokenizer, Prompt(system="Be brief.", instruction="Explain."))
    assert tokenizer.decode(prompter.prompt("Why?")) == (
        f"{START}system\nBe brief.{END}\n{START}user\nWhy? Explain.{END}\n{START}assistant\n")
    assert tokenizer.decode(prompter.standalone) == f"{START}system\nBe brief.{END}\n{START}user\n{END}\n{START}assistant\n"


def test_no_system_prompt_and_no_instruction(tokenizer):
    prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction=""))
    assert tokenizer.decode(prompter.prompt("Why?")) == f"{START}user\nWhy?{END}\n{START}assistant\n"


def test_plain_text_without_a_template(tokenizer):
    plain = train_tokenizer(["some text"], 270, 64)
    plain.chat_template = None
    prompter = prompts.Prompter(plain, Prompt(system="Be brief.", instruction="Explain."))
    assert plain.decode(prompter.prompt("Why?")) == "System: Be brief.\nUser: Why? Explain.\nAssistant:"
    assert plain.decode(prompter.standalone) == "System: Be brief.\nUser: \nAssistant:"


def test_bos_context(tokenizer):
    prompter = prompts.Prompter(tokenizer, Prompt(standalone_context="bos"))
    assert prompter.standalone == [tokenizer.eos_token_id]       # no BOS in this tokenizer
    tokenizer.bos_token = START
    assert prompts.Prompter(tokenizer, Prompt(standalone_context="bos")).standalone == [tokenizer.bos_token_id]
    tokenizer.bos_token = None


def test_stop_tokens_are_all_that_the_model_names(tokenizer):
    eos = tokenizer.eos_token_id
    assert prompts.stop_ids(tokenizer, []) == (eos,)
    assert prompts.stop_ids(tokenizer, [7, eos]) == tuple(sorted((7, eos)))
    assert prompts.stop_ids(tokenizer, [0]) == tuple(sorted((0, eos)))


@pytest.mark.parametrize("generation, config, expected", [
    ({"eos_token_id": [7, 0]}, {"eos_token_id": 5}, [7, 0]), ({"eos_token_id": 0}, {}, [0]), ({}, {"eos_token_id": 5}, [5]),
    (None, {"eos_token_id": [5, 6]}, [5, 6]), (None, {}, [])])
def test_stop_tokens_of_a_folder(tmp_path, generation, config, expected):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert hf.read_stop_ids(tmp_path) == expected


def test_a_tokenizer_without_eos_is_refused():
    without = train_tokenizer(["some text"], 270, 64)
    without.eos_token = None
    with pytest.raises(UserError, match="no EOS token"):
        prompts.stop_ids(without, [3])


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match="no tokenizer can be loaded"):
        prompts.load_tokenizer(str(tmp_path))
