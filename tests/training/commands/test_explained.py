"""Which rows given answers are packed into."""

import jax
import numpy as np
import pytest
from support.oracle import assert_as_close

from sar_jax.config import TrainConfig
from sar_jax.rl import copies
from sar_jax.text.tasks import arithmetic
from sar_jax.training.commands import explained


@pytest.mark.parametrize("seed", range(20))
def test_each_sequence_is_in_one_width_that_holds_it(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, rng.choice([100, 700, 5000]), rng.integers(1, 400))
    found = explained.widths(lengths, rows=4)
    assert sorted(i for members in found.values() for i in members) == list(range(len(lengths)))
    for width, members in found.items():
        assert width % 128 == 0 and lengths[members].max() <= width
    assert max(found) == -(-lengths.max() // 128) * 128
    for width in sorted(found)[:-1]:  # what is compiled for fills a call
        assert lengths[found[width]].sum() >= 4 * width


def test_one_long_answer_does_not_widen_the_others():
    lengths = np.array([90] * 1000 + [4000])
    found = explained.widths(lengths, rows=4)
    assert sorted(found) == [128, 4096] and found[4096] == [1000]
    assert explained.widths(np.array([90] * 5 + [200]), rows=4) == {256: [0, 1, 2, 3, 4, 5]}


@pytest.mark.few_families
def test_scores_of_answers_are_those_of_torch(each_family):
    """Each pair alone in `transformers`, with its question and without it; both packed here."""
    model, oracle = each_family, each_family.oracle
    source = arithmetic.Arithmetic("test")
    rows = [{"question": source[i].question, "answer": source[i].solution} for i in range(5)]
    rows += [{"question": "2 + 2?", "answer": "4"}, {"question": "Two?", "answer": "Two? " * 9}]
    config = TrainConfig()
    config.model.dtype = "float32"
    with jax.set_mesh(model.mesh):
        scored = explained.explain(rows, model.params, model.cfg, model.tokenizer, config)
    for row in scored:
        answer = model.prompter.answer(row["answer"])
        prompt = model.prompter.prompt(row["question"])
        given = oracle.logps(prompt, answer)
        alone = oracle.logps(model.prompter.standalone, answer)
        assert_as_close(row["token_logps"], *given)
        assert_as_close(row["token_logps_standalone"], *alone)
        v = given[1] - alone[1]  # in float64
        np.testing.assert_allclose(row["token_values"], v, atol=1e-4)
        assert row["self_aligned"] == pytest.approx(np.clip(1 - np.exp(-v.mean()), -1, 1), abs=1e-4)
        is_copied = copies.copied(prompt, answer)
        assert row["token_copied"] == is_copied.tolist()
        kept = np.where(is_copied, 0, v).mean()
        expected = np.clip(1 - np.exp(-kept), -1, 1)
        assert row["self_aligned_without_copies"] == pytest.approx(expected, abs=1e-4)
    assert any(scored[-1]["token_copied"]) is False  # "Two?" is shorter than a run
