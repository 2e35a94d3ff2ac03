"""Texts that end an answer: with the token with which they are complete, and not before."""

import jax
import numpy as np
import pytest
from support.small_tokenizers import KINDS, make

from sar_jax.errors import UserError
from sar_jax.rollout import texts as texts_lib
from sar_jax.rollout.sampler import Sample
from sar_jax.text.stopping import Stopping


def shortest(tokenizer, ids, stop) -> int | None:
    """By trying every length."""
    found = (n for n in range(1, len(ids) + 1) if stop in tokenizer.decode(ids[:n]))
    return next(found, None)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("stop", ["Question:", "\n\n", "4", "é€", "not there"])
def test_an_answer_ends_where_the_text_is_complete(kind, stop):
    tokenizer = make(kind)
    text = "So 12 + 3 = 15.\n\nQuestion: how many é€ are 40 + 4?\n\nQuestion: none"
    ids = tokenizer.encode(text, add_special_tokens=False)
    found = Stopping(tokenizer, stop).length(ids)
    assert found == shortest(tokenizer, ids, stop)
    assert (found is None) == (stop not in tokenizer.decode(ids))


def test_the_first_of_several_texts_ends_it():
    tokenizer = make(sorted(KINDS)[0])
    ids = tokenizer.encode("one two three", add_special_tokens=False)
    both = Stopping(tokenizer, '["three", "two"]')
    assert both.texts == ["three", "two"]
    assert both.length(ids) == shortest(tokenizer, ids, "two")
    assert Stopping(tokenizer, "").length(ids) is None and Stopping(tokenizer, "").ids == []
    assert Stopping(tokenizer, "[1").texts == ["[1"]
    with pytest.raises(UserError, match="a JSON list of texts"):
        Stopping(tokenizer, '["a", 1]')


def test_tokens_that_hold_a_text_end_an_answer_in_the_decoder():
    tokenizer = make(sorted(KINDS)[0])
    stopping = Stopping(tokenizer, "4")
    own = [i for i in range(len(tokenizer)) if "4" in tokenizer.decode([i])]
    assert stopping.ids == own and own


def test_sampled_answers_are_cut_and_what_is_left_is_as_it_was(loaded, rng):
    """With one draw: the same tokens up to the text, the same logprobs, and nothing behind it."""
    prompts = [rng.integers(3, 300, n).tolist() for n in (5, 9)]
    tokens, lengths = texts_lib.pad_prompts(prompts, 12, 2)
    arguments = (loaded.params, tokens, lengths, np.arange(2), jax.random.key(0))
    make = lambda stops, ended: Sample(loaded.network, stops, 2, 20, slots=4, ended=ended)
    free = make(loaded.stop, None)(*arguments)
    full = loaded.tokenizer.decode(free.tokens[1, : free.lengths[1]])
    stop = full[len(full) // 2 : len(full) // 2 + 3]
    stopping = Stopping(loaded.tokenizer, stop)
    cut = make((*loaded.stop, *stopping.ids), stopping.length)(*arguments)
    shorter = 0
    for b, length in enumerate(cut.lengths):
        ids = free.tokens[b, : free.lengths[b]].tolist()
        expected = shortest(loaded.tokenizer, ids, stop)
        assert length == (expected or len(ids))
        assert cut.stopped[b] == (expected is not None or free.stopped[b])
        np.testing.assert_array_equal(cut.tokens[b, :length], ids[:length])
        np.testing.assert_array_equal(cut.logps[b, :length], free.logps[b, :length])
        shorter += length < len(ids)
    assert shorter
