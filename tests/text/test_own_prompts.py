"""Prompts of one's own: the messages of a function, through the tokenizer's template."""

import pytest
from support import small_tokenizers

from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.text import prompts

SOURCE = """
import itertools
COUNT = itertools.count()

def plain(row):
    return [{"role": "user", "content": row["question"] + " " + row.get("hint", "")}]

def whole(row):
    return [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": f"Q: {row['question']}"},
    ]

def differs(row):
    return [{"role": "system", "content": row["question"]}, {"role": "user", "content": "Go."}]

def changes(row):
    return [{"role": "user", "content": f"{row['question']} {next(COUNT)}"}]

def same(row): return [{"role": "user", "content": "Go."}]
def nothing(row): return None
def text(row): return row["question"]
def empty(row): return []
def ends(row): return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
def role(row): return [{"role": "human", "content": "a"}]
def parts(row): return [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
def late(row): return [{"role": "user", "content": "a"}, {"role": "system", "content": "b"},
                       {"role": "user", "content": "c"}]
def column(row): return [{"role": "user", "content": row["no_such_column"]}]
"""
CHATS = sorted(small_tokenizers.KINDS)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.py"
    path.write_text(SOURCE)
    return path


def made(kind: str, function: str, **others) -> prompts.Prompter:
    return prompts.Prompter(small_tokenizers.make(kind), Prompt(function=function, **others))


def by_transformers(tokenizer, messages) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.quick
@pytest.mark.parametrize("kind", CHATS)
def test_a_prompt_is_what_the_template_makes_of_the_messages(file, kind):
    prompter = made(kind, f"{file}:whole")
    ids = prompter.prompt("Why?", {"question": "Why?"})
    own = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Q: Why?"},
    ]
    if not prompter.chat:
        text = prompter.tokenizer.decode(ids)
        turns = "System: Be short.\nUser: 1 + 1?\nAssistant: 2\nUser: Q: Why?\nAssistant:"
        assert text.endswith(turns)
        return
    if not prompter.system_role:
        own = [{"role": "user", "content": "Be short.\n\n1 + 1?"}, *own[2:]]
    assert ids == by_transformers(prompter.tokenizer, own)
    own[-1] = {"role": "user", "content": ""}
    assert prompter.standalone == by_transformers(prompter.tokenizer, own)


def test_columns_of_the_row_are_there(file):
    prompter = made(CHATS[0], f"{file}:plain")
    ids = prompter.prompt("Why?", {"question": "Why?", "hint": "think"})
    assert "Why? think" in prompter.tokenizer.decode(ids)
    other = prompter.prompt("How?", {"question": "How?"})
    assert "How?" in prompter.tokenizer.decode(other)


def test_a_prompt_that_leaves_out_the_question_is_named(file):
    prompter = made(CHATS[0], f"{file}:same")
    prompter.prompt("Why?"), prompter.prompt("Why?")
    with pytest.raises(UserError, match="makes the same messages of two questions"):
        prompter.prompt("How?")


def test_what_differs_before_the_last_message_leaves_one_token_alone(file):
    prompter = made(CHATS[0], f"{file}:differs")
    prompter.prompt("Why?")
    with pytest.raises(UserError, match="differ between rows.*standalone_context=bos"):
        prompter.prompt("How?")
    alone = made(CHATS[0], f"{file}:differs", standalone_context="bos")
    alone.prompt("Why?"), alone.prompt("How?")
    assert len(alone.standalone) == 1


@pytest.mark.parametrize(
    "name, words",
    [
        ("nothing", "returned None: it must return a list of messages"),
        ("text", "returned 'Why?': it must return a list of messages"),
        ("empty", "returned []: it must return a list of messages"),
        ("ends", "made messages of user, assistant: "),
        ("late", "made messages of user, system, user: "),
        ("role", 'it must be {"role": "user", "content": TEXT}'),
        ("parts", 'it must be {"role": "user", "content": TEXT}'),
        ("column", "KeyError: 'no_such_column'"),
        ("changes", "makes other messages of the same row each time"),
    ],
)
def test_what_is_wrong_is_named(file, name, words):
    prompter = made(CHATS[0], f"{file}:{name}")
    with pytest.raises(UserError) as error:
        prompter.prompt("Why?")
    assert words in str(error.value) and "config.prompt.function" in str(error.value)
    assert "\n" not in str(error.value)
