"""Many prompts at once are those that are made one at a time, and what is not asked is not
encoded."""

import copy
import json

import pytest
from hypothesis import strategies as st
from support import small_tokenizers as made
from support.drawn import holds_for
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from sar_jax.config import Data, Prompt
from sar_jax.errors import UserError
from sar_jax.text import lengths, prompts
from sar_jax.text.tasks.example import Example
from sar_jax.training import questions as questions_lib

TEXTS = [
    "How many apples?",
    "Why  is\n\n12 + 34 = 46, \u00e9\u4e2d\U0001f600?  ",
    "",
    "  a \u1e9b\u0323 \ufb2c",  # NFC makes three bytes of one or more of others
    "How many apples?",
    "What do <|im_end|>, <think>, <s> and [INST] do?",
    " \n x",
]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def oracle(tokenizer, messages) -> list[int]:
    """By `transformers`, one at a time."""
    shown = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(shown, add_special_tokens=False)


@holds_for([TEXTS], texts=st.lists(text, max_size=6))
def test_prompts_are_those_of_one_at_a_time(texts):
    for kind in made.KINDS:
        tokenizer = made.make(kind)
        prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction=""))
        at_once = prompter.prompts(texts)
        assert at_once == [prompter.prompt(text) for text in texts], kind
        for question, ids in zip(texts, at_once):
            asked = question.rstrip()
            if not any(name in asked for name in tokenizer.get_added_vocab() if name.strip()):
                assert ids == oracle(tokenizer, [{"role": "user", "content": asked}]), kind
        assert prompter.answers(texts) == [prompter.answer(text) for text in texts]


@pytest.mark.parametrize("kind", made.KINDS)
def test_worked_examples_and_a_prefix_are_around_each(kind, tmp_path):
    examples = tmp_path / "examples.jsonl"
    lines = [{"question": "1 + 1?", "solution": "2"}, {"question": "2?", "solution": "so 2"}]
    examples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = Prompt(
        system="", instruction="Think.", examples=str(examples), assistant_prefix=" <so>"
    )
    prompter = prompts.Prompter(made.make(kind), config)
    turns = [
        {"role": "user", "content": "1 + 1? Think."},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2? Think."},
        {"role": "assistant", "content": "so 2"},
    ]
    tokenizer = prompter.tokenizer
    for question, ids in zip(TEXTS[:2], prompter.prompts(TEXTS[:2])):
        chat = [*turns, {"role": "user", "content": f"{question} Think."}]
        shown = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert ids == tokenizer.encode(shown + " <so>", add_special_tokens=False)


@pytest.mark.parametrize("how", ["lstrip", "single_word", "overlap", "within", "split"])
def test_tokens_that_reach_beyond_themselves(how):
    """White space before them, letters around them, or a part of another token."""
    tokenizer = copy.deepcopy(made.make("qwen"))
    tokens = {
        "lstrip": [AddedToken("<|im_end|>", lstrip=True, special=True, normalized=False)],
        "single_word": [AddedToken("<|im_end|>", single_word=True, special=True)],
        "overlap": [AddedToken("s<|", normalized=False)],
        "within": [AddedToken("s<|im_end|>", normalized=False)],
    }
    tokenizer.add_tokens(tokens.get(how, []))
    tokenizer.split_special_tokens = how == "split"
    prompter = prompts.Prompter(tokenizer, Prompt(system="", instruction=""))
    asked = ["Why", "How many apples", "How many  apples  ", "\n"]  # the first one as ever
    for question, ids in zip(asked, prompter.prompts(asked)):
        assert ids == oracle(tokenizer, [{"role": "user", "content": question.rstrip()}])


def changed(kind, **parts):
    """A small tokenizer with another normaliser or pre-tokeniser."""
    tokenizer = copy.deepcopy(made.make(kind))
    for name, part in parts.items():
        setattr(tokenizer.backend_tokenizer, name, part)
    return tokenizer


KNOWN = {
    **{kind: lambda kind=kind: made.make(kind) for kind in made.KINDS},
    "nfc": lambda: changed("qwen", normalizer=normalizers.NFC()),
    "metaspace": lambda: changed(
        "mistral", normalizer=None, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always")
    ),
}


@pytest.mark.parametrize("kind", KNOWN)
@holds_for(
    ["", " ", "a", "\u00e9\u4e2d\U0001f600", "\ufb2c" * 9, "a<|im_end|>b", "x [INST] y", "  a  b"],
    text=text,
)
def test_no_text_has_more_tokens_than_the_bound(kind, text):
    tokenizer = KNOWN[kind]()
    count = len(tokenizer.encode(text, add_special_tokens=False))
    assert count <= lengths.bound(tokenizer)(text) <= 3 * len(text.encode()) + 1


def test_of_other_tokenizers_nothing_is_said():
    grows = normalizers.Replace("a", "aaaa")
    spaces = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for parts in ({"normalizer": grows}, {"normalizer": normalizers.NFKC()}):
        assert lengths.bound(changed("qwen", **parts)) is None
    assert lengths.bound(changed("qwen", pre_tokenizer=spaces)) is None
    words = copy.deepcopy(made.make("qwen"))
    words._tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    assert lengths.bound(words) is None


def examples(texts):
    return [Example(str(i), text, "1") for i, text in enumerate(texts)]


LONG = ["one?", "two? " * 7, "three?" * 3, "\u4e2d" * 20, "<|im_end|>" * 4, "six?", "7 " * 30]


@pytest.mark.parametrize("kind", made.KINDS)
@pytest.mark.parametrize("config", [{}, {"format": "plain"}], ids=["chat", "plain"])
def test_the_same_rows_fit_whether_they_are_encoded_or_not(kind, config):
    """At every limit; their prompts are the same."""
    prompter = prompts.Prompter(made.make(kind), Prompt(system="", instruction="", **config))
    every = [prompter.prompt(text) for text in LONG]
    for limit in range(min(map(len, every)), max(map(len, every)) + 200, 3):
        found = questions_lib.prepare(examples(LONG), prompter, limit, "mine", later=True)
        fitting = [i for i, ids in enumerate(every) if len(ids) <= limit]
        assert [int(row.example.id) for row in found.rows] == fitting
        assert found.left_out == len(LONG) - len(fitting)
        assert [list(row.prompt) for row in found.rows] == [every[i] for i in fitting]
        assert (
            found.rows[0].to_json()
            == questions_lib.Question(found.rows[0].example, every[fitting[0]]).to_json()
        )


def heard(tokenizer) -> list[str]:
    """The texts that a tokenizer encodes from now on."""
    seen = []

    class Heard(type(tokenizer)):
        def _encode_plus(self, text, *others, **named):
            seen.extend([text] if isinstance(text, str) else text)
            return super()._encode_plus(text, *others, **named)

    tokenizer.__class__ = Heard
    return seen


@pytest.mark.parametrize("kind", ["qwen", "llama3", "mistral"])
def test_what_prompts_have_in_common_is_encoded_once(kind):
    """But for the first one, which is also encoded as a whole."""
    tokenizer = copy.deepcopy(made.make(kind))
    system = "Be brief. " * 50
    prompter = prompts.Prompter(tokenizer, Prompt(system=system, instruction=""))
    asked = [f"What is {i} + 1?" for i in range(100)]
    one_at_a_time, seen = [prompter.prompt(text) for text in asked], heard(tokenizer)
    assert prompter.prompts(asked) == one_at_a_time
    if prompter.system_role:
        assert "".join(seen).count(system.strip()) <= 2
    assert sum(map(len, seen)) < 100 * len(system) + 4000


def test_only_what_is_asked_is_encoded(tmp_path):
    """The rest, whose texts are so short that they fit, never is."""
    prompter = prompts.Prompter(copy.deepcopy(made.make("qwen")), Prompt(system="", instruction=""))
    seen = heard(prompter.tokenizer)
    file = tmp_path / "rows.jsonl"
    lines = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(50)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows, _ = questions_lib.load(Data(str(file), max_prompt_tokens=200), prompter)
    assert len(rows) == 50 and not seen
    batches = questions_lib.batches(rows, 4, seed=0)
    asked = [row for _ in range(3) for row in next(batches)]
    ids = [row.to_json()[1] for row in asked]
    assert len([text for text in seen if "What is" in text]) == 12
    count = len(seen)
    assert [row.to_json()[1] for row in asked] == ids and len(seen) == count  # and only once
    eager, _ = questions_lib.prepare([row.example for row in rows], prompter, 200, "mine")
    again = questions_lib.batches(eager, 4, seed=0)
    assert [row.to_json()[1] for _ in range(3) for row in next(again)] == ids


@pytest.mark.parametrize("later", [False, True])
def test_what_is_wrong_with_a_row_is_said_before_any_is_asked(later):
    """A template that refuses one, and a token that the weights do not have."""
    refusing = copy.deepcopy(made.make("qwen"))
    refusing.chat_template = (
        "{% if 'bad' in messages[-1]['content'] %}{{ raise_exception('bad row') }}{% endif %}"
        + refusing.chat_template
    )
    prompter = prompts.Prompter(refusing, Prompt(system="", instruction=""))
    rows = examples(["good", "good too", "bad"])
    with pytest.raises(UserError, match="line 1: the chat template fails.*bad row"):
        questions_lib.prepare(rows, prompter, 1000, "mine", later=later)
    assert len(questions_lib.prepare(rows[:2], prompter, 1000, "mine", later=later).rows) == 2

    tokenizer = copy.deepcopy(made.make("qwen"))
    tokenizer.add_tokens([AddedToken("rare")])
    prompter = prompts.Prompter(
        tokenizer, Prompt(system="", instruction=""), vocab_size=len(tokenizer) - 1
    )
    with pytest.raises(UserError, match="the token 'rare' has the id"):
        questions_lib.prepare(examples(["a", "rare"]), prompter, 1000, "mine", later=later)
    assert questions_lib.prepare(examples(["a"]), prompter, 1000, "mine", later=later).rows


def test_prompts_of_ones_own_are_all_made_at_the_start(tmp_path):
    file = tmp_path / "my.py"
    file.write_text(
        "CALLS = []\n"
        "def ask(row):\n"
        "    CALLS.append(row['id'])\n"
        "    return [{'role': 'user', 'content': row['question'] * int(row['id'] != '3')}]\n"
    )
    prompter = prompts.Prompter(made.make("qwen"), Prompt(function=f"{file}:ask"))
    rows = questions_lib.prepare(examples("abc"), prompter, 1000, "mine", later=True).rows
    calls = prompter.own.plugin.value.__globals__["CALLS"]
    assert calls == ["0", "0", "1", "2"]  # the first one twice, to see whether it is the same
    assert [row.prompt for row in rows] == [
        prompter.prompt(q, {"question": q, "id": "0"}) for q in "abc"
    ]
