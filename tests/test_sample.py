"""The sampler: its logprobs are the scorer's, its answers depend on (key, row) alone, and greedy is transformers' greedy."""

import jax
import numpy as np
import pytest
import torch

from sar_jax import generate, packing, sample, score, sharding


def draw(loaded, rows, samples=3, limit=24, greedy=False, key=0, count=None, width=40, stop=None, params=None, **settings):
    """Samples for the questions numbered `rows`; question r is the same whatever stands beside it."""
    prompts = [np.random.default_rng(r).integers(0, loaded.cfg.vocab_size, 5 + 7 * r % 30).tolist() for r in rows]
    tokens, lengths = generate.pad_prompts(prompts, width, count or len(rows))
    numbers = np.zeros(count or len(rows), np.int32)
    numbers[:len(rows)] = rows
    function = sample.make_sample(loaded.graphdef, stop or loaded.stop, samples, limit, greedy, **settings)
    return prompts, jax.device_get(function(params or loaded.params, tokens, lengths, numbers, jax.random.key(key)))


def test_sampler_logps_equal_scorer_logps(loaded):
    prompts, rollouts = draw(loaded, range(4))
    ids = [t[:n].tolist() for t, n in zip(rollouts.tokens, rollouts.lengths)]
    packed, layout = packing.pack([prompts[b // 3] for b in range(12)], ids, 96, 1)
    scores = jax.device_get(score.make_score(loaded.graphdef, 32)(loaded.params, packed))
    for sampled, n, scored in zip(rollouts.logps, rollouts.lengths, packing.gather(scores.logps, layout)):
        np.testing.assert_allclose(sampled[:n], scored, atol=2e-5)


def test_answers_end_with_their_first_stop_token(loaded):
    """A stop set of a fifth of the vocabulary, so that answers of every length occur, of one token too."""
    stop = tuple(range(0, loaded.cfg.vocab_size, 5))
    _, rollouts = draw(loaded, range(8), samples=4, limit=6, stop=stop)
    assert set(rollouts.lengths.tolist()) >= {1, 2, 6}
    for tokens, n, stopped in zip(rollouts.tokens, rollouts.lengths, rollouts.stopped):
        inside = np.isin(tokens[:n], stop)
        assert not inside[:-1].any() and inside[-1] == stopped
        assert stopped or n == 6


def test_a_row_depends_on_key_and_number_alone(loaded):
    _, together = draw(loaded, [0, 1, 2, 3])
    _, alone = draw(loaded, [2], count=3, width=64)      # other neighbours, other widths, padding questions
    n = alone.lengths[:3]
    np.testing.assert_array_equal(together.lengths[6:9], n)
    for i in range(3):
        np.testing.assert_array_equal(together.tokens[6 + i, :n[i]], alone.tokens[i, :n[i]])
    assert (alone.lengths[3:] == 0).all()


def test_keys_samples_and_questions_differ(loaded):
    _, first = draw(loaded, [0, 0])
    assert len({tuple(t) for t in first.tokens[:3]}) == 3        # three samples of a question
    _, again = draw(loaded, [0, 0])
    _, other = draw(loaded, [0, 0], key=1)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert (first.tokens != other.tokens).any(axis=1).all()


def test_samples_follow_the_distribution(loaded, torch_model):
    """First tokens of 4,000 samples against the softmax of transformers' logits (total variation)."""
    prompts, rollouts = draw(loaded, [0], samples=4000, limit=1)
    with torch.no_grad():
        expected = torch_model(torch.tensor([prompts[0]])).logits[0, -1].softmax(-1).numpy()
    counts = np.bincount(rollouts.tokens[:, 0], minlength=loaded.cfg.vocab_size) / 4000
    noise = np.sqrt(2 / np.pi * expected * (1 - expected) / 4000).sum() / 2    # its mean for a fair sampler
    assert 0.5 * np.abs(counts - expected).sum() < 1.25 * noise
    np.testing.assert_allclose(rollouts.logps[:, 0], np.log(expected[rollouts.tokens[:, 0]]), atol=1e-5)


def test_greedy_equals_transformers(loaded, torch_model):
    prompts, rollouts = draw(loaded, range(3), samples=1, limit=20, greedy=True)
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            theirs = torch_model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False,
                                          pad_token_id=0, eos_token_id=list(loaded.stop))[0, len(prompt):]
        assert rollouts.tokens[i, :rollouts.lengths[i]].tolist() == theirs.tolist()


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 4, 2)])
def test_eight_devices_draw_the_same_answers(loaded, shape):
    mesh = sharding.make_mesh(*shape)
    params = jax.device_put(loaded.params, loaded.shardings(mesh))
    _, one = draw(loaded, range(8), limit=8)
    with jax.set_mesh(mesh):
        _, eight = draw(loaded, range(8), limit=8, params=params)
    np.testing.assert_array_equal(one.tokens, eight.tokens)
    np.testing.assert_allclose(one.logps, eight.logps, atol=1e-5)


def test_greedy_answers_are_those_of_transformers(each_family):
    """200 tokens, past every window; nothing but token 0 stops them."""
    rows = [0, 1]
    prompts, ours = draw(each_family, rows, samples=1, limit=200, greedy=True, stop=(0,))
    for prompt, tokens, n in zip(prompts, ours.tokens, ours.lengths):
        with torch.no_grad():
            theirs = each_family.torch.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=200,
                do_sample=False, eos_token_id=0, pad_token_id=0)[0, len(prompt):].tolist()
        assert tokens[:n].tolist() == theirs


def test_sampled_logps_of_every_family_are_the_scorers(each_family):
    prompts, rollouts = draw(each_family, range(3), limit=40, stop=(0,))
    ids = [t[:n].tolist() for t, n in zip(rollouts.tokens, rollouts.lengths)]
    packed, layout = packing.pack([prompts[b // 3] for b in range(9)], ids, 96, 1)
    scores = jax.device_get(score.make_score(each_family.graphdef, 32)(each_family.params, packed))
    for sampled, n, scored in zip(rollouts.logps, rollouts.lengths, packing.gather(scores.logps, layout)):
        np.testing.assert_allclose(sampled[:n], scored, atol=2e-5)
