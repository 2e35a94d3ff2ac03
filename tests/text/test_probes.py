"""What is tried when a `Prompter` is made, worked examples, and the assistant's prefix."""

import json
import pathlib

import pytest
from support.small_tokenizers import KINDS, make

from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.evaluation import judged
from sar_jax.text import carried, prompts
from sar_jax.text.tasks.example import Example
from sar_jax.text.tokenizer import CHAT_TEMPLATE, train_tokenizer

SHOTS = [("One and one?", "It is 2."), ("Two <|im_end|> two?", "It is 4.")]


@pytest.fixture
def tokenizer():
    texts = ["How many apples does Mia have? 12 + 34 = 46. legs cats hen What <think>"] * 20
    made = train_tokenizer(texts, 320, 64)
    made.add_tokens(["<think>"])
    return made


@pytest.fixture
def shots(tmp_path) -> str:
    lines = [json.dumps({"question": q, "solution": s}) for q, s in SHOTS]
    (tmp_path / "shots.jsonl").write_text("\n".join(lines) + "\n\n")
    return str(tmp_path / "shots.jsonl")


def of(tokenizer, template, **fields) -> prompts.Prompter:
    tokenizer.chat_template = template
    return prompts.Prompter(tokenizer, Prompt(**fields))


TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
LOOP = "{% for m in messages %}" + TURN + "{% endfor %}"
HEADER = "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "template, words",
    [
        (LOOP.replace(TURN, "{{ m['role'] }}") + HEADER, "drops the question"),
        # the length of the question beside it
        (LOOP + "{{ messages[-1]['content'] | length }}" + HEADER, "differ elsewhere too"),
        # another text at each call
        (LOOP + "{{ range(9999) | random }}" + HEADER, "each time"),
        (LOOP.rstrip("\n").replace("<|im_end|>\n", "<|im_end|>"), "ends with '<|im_end|>'"),
    ],
)
def test_a_template_that_a_prompt_cannot_be_made_with_is_named(tokenizer, template, words):
    with pytest.raises(UserError) as error:
        of(tokenizer, template)
    said = str(error.value)
    assert words in said and "chat template" in said or "ends with" in said
    assert "\n" not in said


def test_a_fault_names_the_file_and_what_to_set(tokenizer, tmp_path):
    tokenizer.chat_template = LOOP + "{{ messages[-1]['content'] | length }}" + HEADER
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        prompts.Prompter(prompts.load_tokenizer(str(tmp_path)), Prompt())
    assert str(tmp_path / "chat_template.jinja") in str(error.value)
    assert "set prompt.format=plain" in str(error.value)


def test_a_template_that_leaves_an_empty_turn_out_gives_what_is_around_any(tokenizer):
    """Otherwise the two contexts would differ by more than the question."""
    template = "{% for m in messages %}{% if m['content'] %}" + TURN + "{% endif %}{% endfor %}"
    prompter = of(tokenizer, template + HEADER, system="Be brief.", instruction="")
    full, alone = tokenizer.decode(prompter.prompt("Why?")), tokenizer.decode(prompter.standalone)
    assert full.replace("Why?", "") == alone


@pytest.mark.parametrize("format", ["chat", "plain"])
@pytest.mark.parametrize("system", ["Be brief.", ""])
def test_examples_are_earlier_turns_in_both_contexts(tokenizer, shots, format, system):
    prompter = of(
        tokenizer, CHAT_TEMPLATE, examples=shots, system=system, instruction="Go.", format=format
    )
    if format == "chat":
        turn = "<|im_start|>{}\n{}<|im_end|>\n".format
        end = HEADER
    else:
        turn = lambda role, text: f"{role.capitalize()}: {text}\n"
        end = "Assistant:"
    before = turn("system", system) if system else ""
    for question, solution in SHOTS:
        before += turn("user", f"{question} Go.") + turn("assistant", solution)
    assert tokenizer.decode(prompter.prompt("Why?")) == before + turn("user", "Why? Go.") + end
    assert tokenizer.decode(prompter.standalone) == before + turn("user", "") + end
    # what an example spells is text
    count = prompter.prompt("Why?").count(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert count == (bool(system) + 5 if format == "chat" else 0)


def test_without_a_system_role_the_first_turn_has_the_system_prompt(shots):
    kind = next(kind for kind in KINDS if "gemma" in kind)
    prompter = prompts.Prompter(make(kind), Prompt(system="Be brief.", examples=shots))
    text = prompter.tokenizer.decode(prompter.prompt("Why?"))
    assert text.count("Be brief.") == 1
    assert text.index("Be brief.") < text.index("One and one?") < text.index("Why?")


@pytest.mark.parametrize("format", ["chat", "plain"])
def test_the_assistant_s_prefix_ends_both_contexts(tokenizer, format):
    prompter = of(tokenizer, CHAT_TEMPLATE, assistant_prefix="<think>\n", format=format)
    bare = of(tokenizer, CHAT_TEMPLATE, format=format)
    think = tokenizer.convert_tokens_to_ids("<think>")
    for ids, other in (
        (prompter.prompt("Why?"), bare.prompt("Why?")),
        (prompter.standalone, bare.standalone),
    ):
        assert tokenizer.decode(ids) == tokenizer.decode(other) + "<think>\n"
        assert ids.count(think) == 1
    assert prompter.prompt("<think> why?").count(think) == 1  # a question's is text


def test_a_prefix_that_the_template_writes_itself_is_named(tokenizer):
    with pytest.raises(UserError, match="ends with '<think>' of its own: set prompt.assistant_pre"):
        of(tokenizer, LOOP + HEADER + "<think>\n", assistant_prefix="<think>")


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "there is no example in it"),
        ('{"question": "1 + 1?", "solution": "2"}\n{"question": "x"}', "line 2: an example is"),
        ('{"question": "1 + 1?", "solution": 2}', "line 1: an example is"),
        ("1 + 1?", "line 1: an example is"),
        ('{"question": "\\ud83d", "solution": "2"}', "line 1: an example is"),
        ("[" * 100_000, "line 1: an example is"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_examples_that_is_none_is_named(tokenizer, tmp_path, text, words):
    path = tmp_path / "shots.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as error:
        of(tokenizer, CHAT_TEMPLATE, examples=str(path))
    assert words in str(error.value) and str(path) in str(error.value)


def test_a_line_of_examples_ends_at_a_newline_alone(tokenizer, tmp_path):
    """JSON may hold other ends of lines as they are, such as U+2028."""
    path = tmp_path / "shots.jsonl"
    path.write_text('{"question": "1\u2028+ 1?", "solution": "2\x85"}\n', encoding="utf-8")
    prompter = of(tokenizer, CHAT_TEMPLATE, examples=str(path))
    assert prompter.shots == [("1\u2028+ 1?", "2\x85")]


def test_a_model_carries_its_examples(tokenizer, shots, tmp_path):
    prompt = Prompt(examples=shots, assistant_prefix="<think>", stop="Q:")
    folder = tmp_path / "model"
    folder.mkdir()
    carried.write(folder, carried.Carried(prompt, 9, 9, [1], None))
    before = prompts.Prompter(tokenizer, prompt).prompt("Why?")
    pathlib.Path(shots).unlink()
    moved = folder.rename(tmp_path / "moved")
    found = carried.read(moved).asked(Prompt())
    assert (found.assistant_prefix, found.stop) == ("<think>", "Q:")
    assert prompts.Prompter(tokenizer, found).prompt("Why?") == before


def test_an_answer_that_begins_within_a_thought_is_judged_with_its_beginning(verifier):
    row = prompts.Question(Example("", "3 + 4?", "7"), [1])
    texts = ("So the answer is 7.", "Is it 8?</think> The answer is 7.")
    for prefix, expected in (("", "RIGHT RIGHT"), ("<think>", "WRONG RIGHT")):
        found = verifier.submit([judged.item(row, text, prefix) for text in texts]).result()
        assert " ".join(outcome.name for outcome in found) == expected


def test_the_template_of_a_processor_is_the_tokenizer_s_where_it_has_none(tokenizer, tmp_path):
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    plain = prompts.Prompter(prompts.load_tokenizer(str(tmp_path)), Prompt())
    path = tmp_path / "chat_template.json"
    path.write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    found = prompts.Prompter(prompts.load_tokenizer(str(tmp_path)), Prompt())
    assert found.chat and not plain.chat and found.file == str(path)
    assert found.prompt("Why?") == of(tokenizer, CHAT_TEMPLATE).prompt("Why?")
    path.write_text("{")
    with pytest.raises(UserError, match="chat_template.json cannot be read"):
        prompts.load_tokenizer(str(tmp_path))
