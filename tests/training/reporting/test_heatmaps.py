"""The values of answers' tokens are those of `transformers`, for the tokens that were sampled."""

import numpy as np
import pytest
from support.oracle import assert_as_close
from support.rollouts import make_tools
from support.training import shipped

from sar_jax import config as config_lib
from sar_jax.evaluation.records import Answer
from sar_jax.rl import packing
from sar_jax.text import prompts
from sar_jax.text.prompts import Question
from sar_jax.text.tasks.example import Example
from sar_jax.training.reporting import heatmaps

LIMIT = 20


@pytest.fixture(scope="module")
def tools(loaded, verifier):
    config = shipped("tiny")
    config.rollout = config_lib.Rollout(questions=4, samples=2, slots=8, max_answer_tokens=LIMIT)
    config.packing = config_lib.Packing(row_tokens=96, rows_per_microbatch=2, logprob_chunk=48)
    prompter = prompts.Prompter(loaded.tokenizer, config.prompt)
    return make_tools(loaded, config, prompter, verifier)


def answer(text, clipped=False, number=0):
    right = dict(final=None, correct=False, verdict="wrong")
    about = dict(number=number, sample=0, id=str(number), question="q", truth="1")
    return Answer(**about, answer=text, length=9, clipped=clipped, **right)


def asked(tools, question):
    return Question(Example("0", question, "1"), tools.prompter.prompt(question))


def test_they_are_what_the_question_adds_to_each_token(tools, loaded, oracle):
    texts = ["It is 4.", "So 3 + 4 = 8.", "none", "x" * 8]
    rows = [asked(tools, f"What is {i} + {i}?") for i in range(4)]
    found = heatmaps.heat_maps(tools, loaded.params, rows, [answer(t) for t in texts])
    assert len(found) == 4
    for row, text, own in zip(rows, texts, found):
        ids = tools.prompter.answer(text)
        given = oracle.logps(row.prompt, ids)
        alone = oracle.logps(tools.prompter.standalone, ids)
        single, double = (g - a for g, a in zip(given, alone))
        assert np.abs(double).max() > 0.01  # the question tells this model something
        assert_as_close(np.float32(own.token_values), single, double)
        assert "".join(own.tokens).startswith(text) and len(own.tokens) == len(ids)


def test_an_answer_that_was_cut_has_no_end_and_none_is_longer_than_the_limit(tools, loaded):
    rows = [asked(tools, "Who?")] * 4
    answers = [answer("I am"), answer("I am", clipped=True), answer("word " * 60), answer("", True)]
    ended, cut, long, empty = heatmaps.heat_maps(tools, loaded.params, rows, answers)
    assert ended.tokens[:-1] == cut.tokens and len(long.tokens) == LIMIT
    assert len(empty.tokens) == 1  # an end, since no answer is without tokens
    assert heatmaps.heat_maps(tools, loaded.params, [], []) == []


def test_the_rows_are_those_of_a_step(tools, loaded, monkeypatch):
    """So that nothing is compiled for them."""
    seen = []
    whole = packing.pack
    monkeypatch.setattr(packing, "pack", lambda *a: seen.append(a[2:]) or whole(*a))
    heatmaps.heat_maps(tools, loaded.params, [asked(tools, "Why?")], [answer("so")])
    assert set(seen) == {(96, 2, 1)}


def test_the_tokens_of_a_step_become_text(loaded):
    ids = loaded.tokenizer.encode("It is 4.", add_special_tokens=False)
    records = [{"answer": "It is 4.", "tokens": np.array(ids)}, {"answer": "of a run without"}]
    first, second = heatmaps.readable(loaded.tokenizer, records)
    assert "".join(first["tokens"]) == first["answer"] and len(first["tokens"]) == len(ids)
    assert second == {"answer": "of a run without"}


def test_answers_without_a_map_are_records_too():
    maps = [heatmaps.HeatMap(["a", "b"], [0.5, -1.0])]
    first, second = heatmaps.records([answer("ab"), answer("cd", number=1)], maps)
    assert first["tokens"] == ["a", "b"] and first["token_values"] == [0.5, -1.0]
    assert second["tokens"] is None and second["answer"] == "cd" and second["number"] == 1
