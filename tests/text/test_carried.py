"""sar_jax.json, in which a model's folder says how the model was asked."""

import copy
import dataclasses
import datetime
import json

import pytest
from support.small_tokenizers import make

from sar_jax.config import Prompt
from sar_jax.errors import UserError
from sar_jax.text import carried, templates
from sar_jax.text.prompts import Prompter

ASKED = carried.Carried(
    Prompt(system="Be brief.", instruction="", thinking="off"), 100, 200, [3, 7], None
)


@pytest.mark.parametrize("day", [None, datetime.date(2024, 2, 29)])
def test_what_is_written_is_read(tmp_path, day):
    asked = dataclasses.replace(ASKED, day=day)
    assert carried.read(tmp_path) is None and carried.stops(tmp_path) == []
    carried.write(tmp_path, asked)
    assert carried.read(tmp_path) == asked and carried.stops(tmp_path) == [3, 7]


def test_it_takes_the_place_of_defaults_and_of_nothing_else():
    assert ASKED.asked(Prompt()) == ASKED.prompt
    own = Prompt(system="Own.", format="plain")
    assert ASKED.asked(own) == Prompt(system="Own.", instruction="", thinking="off", format="plain")


def test_a_folder_does_not_choose_what_runs():
    own = dataclasses.replace(ASKED, prompt=Prompt(function="os:getcwd"))
    with pytest.raises(UserError, match="os:getcwd.*give yours in a config as prompt.function"):
        own.asked(Prompt())
    assert own.asked(Prompt(function="my.py:f")).function == "my.py:f"


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.pop("prompt"),
        lambda f: f.pop("day"),
        lambda f: f["prompt"].update(sytem="x"),
        lambda f: f["prompt"].update(system=3),
        lambda f: f.update(stops="3"),
        lambda f: f.update(stops=[-1]),
        lambda f: f.update(max_answer_tokens=0),
        lambda f: f.update(day="yesterday"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change):
    carried.write(tmp_path, ASKED)
    fields = json.loads((tmp_path / "sar_jax.json").read_text())
    change(fields)
    (tmp_path / "sar_jax.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="sar_jax.json: it must say how the model was asked"):
        carried.read(tmp_path)


def test_a_template_that_asks_for_the_date_is_told_the_given_day():
    tokenizer = copy.deepcopy(make("qwen"))
    plain = Prompter(tokenizer, Prompt(system="", instruction=""))
    assert not plain.asks_day and plain.told_day() == ""
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}\n" + tokenizer.chat_template
    day = datetime.date(2024, 2, 29)
    prompter = Prompter(tokenizer, Prompt(system="", instruction=""), day=day)
    text = tokenizer.decode(prompter.prompt("Why?"))
    assert text.startswith("29 Feb 2024\n") and prompter.asks_day
    assert "told 2024-02-29" in prompter.told_day()
    assert tokenizer.decode(prompter.standalone).startswith("29 Feb 2024\n")


@pytest.mark.parametrize(
    "template, said",
    [
        ('{% set d = strftime_now("%B") %}{{ d }}', "February"),
        ("{% if strftime_now is defined %}{{ strftime_now( '%Y' ) }}{% endif %}", "2024"),
        ("{% macro f() %}{{ strftime_now('%H:%M') }}{% endmacro %}{{ f() }}", "00:00"),
    ],
)
def test_ways_to_ask_for_the_date(template, said):
    tokenizer = copy.deepcopy(make("qwen"))
    tokenizer.chat_template = template + "{{ messages[-1]['content'] }}"
    day = datetime.date(2024, 2, 29)
    assert templates.render(tokenizer, [[{"role": "user", "content": "!"}]], day) == [f"{said}!"]


def test_a_format_that_is_made_by_the_template_is_an_error():
    tokenizer = copy.deepcopy(make("qwen"))
    tokenizer.chat_template = "\n{{ strftime_now('%' ~ 'Y') }}"
    with pytest.raises(UserError, match="written out"):
        templates.render(
            tokenizer, [[{"role": "user", "content": "!"}]], datetime.date(2024, 2, 29)
        )
