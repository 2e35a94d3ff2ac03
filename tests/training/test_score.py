"""The one scoring function: against torch, packed against alone, and without any [tokens,
vocabulary] array."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.models import read_tensors
from support.oracle import assert_as_close, assert_same

from sar_jax.config import TrainConfig
from sar_jax.model import hf, parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.rl import packing, rewards
from sar_jax.structs import Packed
from sar_jax.training import score
from sar_jax.training.commands.explained import explain


def draw(loaded, rng, count=7, low=1, high=30):
    """Contexts and answers of many lengths; the first answer is a lone EOS, the second holds the
    pad id and EOS inside."""
    size = loaded.cfg.vocab_size
    contexts = [rng.integers(0, size, rng.integers(low, high)).tolist() for _ in range(count)]
    answers = [rng.integers(0, size, rng.integers(low, high)).tolist() for _ in range(count)]
    answers[0] = [loaded.tokenizer.eos_token_id]
    answers[1] = [5, loaded.tokenizer.pad_token_id, 7, 0, 9, loaded.tokenizer.eos_token_id]
    return contexts, answers


def run(loaded, contexts, answers, width=64, rows=2, chunk=16):
    packed, layout = packing.pack(contexts, answers, width, rows)
    scores = jax.device_get(score.make_score(loaded.network, chunk)(loaded.params, packed))
    return scores, packed, layout


@pytest.mark.parametrize("width, chunk", [(64, 16), (128, 32), (384, 64)])
def test_packed_logps_equal_torch_on_each_sequence_alone(loaded, oracle, rng, width, chunk):
    contexts, answers = draw(loaded, rng)
    scores, packed, layout = run(loaded, contexts, answers, width, 2, chunk)
    expected = [oracle.logps(context, answer) for context, answer in zip(contexts, answers)]
    assert_as_close(
        np.concatenate(packing.from_grid(scores.logps, layout)),
        *map(np.concatenate, zip(*expected)),
    )
    assert (scores.logps[~packed.mask] == 0).all() and (scores.entropy[~packed.mask] == 0).all()


def test_entropy_is_that_of_the_predicting_distribution(loaded, oracle, rng):
    contexts, answers = draw(loaded, rng)
    scores, _, layout = run(loaded, contexts, answers)
    for ours, context, answer in zip(packing.from_grid(scores.entropy, layout), contexts, answers):
        both = oracle.logits([*context, *answer])
        predicting = (torch.tensor(x[len(context) - 1 : -1]).log_softmax(-1) for x in both)
        assert_as_close(ours, *(-(logps.exp() * logps).sum(-1).numpy() for logps in predicting))


def test_self_aligned_reward_equals_the_papers_words_in_torch(loaded, oracle):
    """Both perplexities over the answer's tokens, EOS included; the same template with an empty
    question."""
    question, answer = (
        "Mia has 47 apples. How many apples does Mia have?",
        "First 47. The answer is 47.",
    )
    row = explain(
        [{"question": question, "answer": answer}],
        loaded.params,
        loaded.cfg,
        loaded.tokenizer,
        _config(loaded),
    )[0]
    messages = lambda user: [
        {"role": "system", "content": TrainConfig().prompt.system},
        {"role": "user", "content": user},
    ]
    encode = lambda user: loaded.tokenizer.apply_chat_template(
        messages(user), add_generation_prompt=True, return_dict=False
    )
    ids = [
        *loaded.tokenizer.encode(answer, add_special_tokens=False),
        loaded.tokenizer.eos_token_id,
    ]
    _, given = oracle.logps(encode(f"{question} {TrainConfig().prompt.instruction}"), ids)
    _, alone = oracle.logps(encode(""), ids)
    ppl_given, ppl_alone = np.exp(-given.mean()), np.exp(-alone.mean())
    assert row["ppl_conditional"] == pytest.approx(ppl_given, rel=1e-4)
    assert row["ppl_standalone"] == pytest.approx(ppl_alone, rel=1e-4)
    assert row["self_aligned"] == pytest.approx(
        np.clip((ppl_alone - ppl_given) / ppl_alone, -1, 1), abs=1e-4
    )
    assert_same(row["token_values"], given - alone, scale=np.abs(given).max())
    assert "".join(row["tokens"]) == answer + loaded.tokenizer.eos_token


def test_the_bos_context_is_one_token(loaded, oracle):
    config = _config(loaded)
    config.prompt.standalone_context = "bos"
    row = explain(
        [{"question": "q", "answer": "It is 4."}],
        loaded.params,
        loaded.cfg,
        loaded.tokenizer,
        config,
    )[0]
    ids = [
        *loaded.tokenizer.encode("It is 4.", add_special_tokens=False),
        loaded.tokenizer.eos_token_id,
    ]
    # this tokenizer has no BOS
    _, expected = oracle.logps([loaded.tokenizer.eos_token_id], ids)
    assert row["ppl_standalone"] == pytest.approx(np.exp(-expected.mean()), rel=1e-4)


def _config(loaded) -> TrainConfig:
    config = TrainConfig()
    config.model.dtype = "float32"
    config.packing.logprob_chunk = 16
    return config


def test_conditional_and_standalone_sequences_share_the_answer_ids(loaded, rng):
    contexts, answers = draw(loaded, rng)
    for context in (contexts, [loaded.prompter.standalone] * len(answers)):
        packed, layout = packing.pack(context, answers, 128, 1)
        assert [x.tolist() for x in packing.from_grid(packed.tokens, layout)] == answers


def test_gradient_equals_torch(loaded, oracle, rng, tmp_path):
    """Through chunks, remat and scan: d/d(parameters) of the summed logps, by the names that an
    export gives them."""
    contexts, answers = draw(loaded, rng, 3)
    packed, _ = packing.pack(contexts, answers, 64, 1)
    scorer = score.make_score(loaded.network, 16)
    grads = jax.jit(jax.grad(lambda p: scorer(p, packed).logps.sum()))(loaded.params)

    def theirs(network):
        total = 0
        for context, answer in zip(contexts, answers):
            logits = network(torch.tensor([[*context, *answer]])).logits[0, len(context) - 1 : -1]
            total += logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
        return total

    single, double = oracle.gradients(theirs)
    hf.save_weights(grads, loaded.cfg, tmp_path)
    ours = read_tensors(tmp_path)
    assert ours.keys() == single.keys()
    for name, gradient in ours.items():
        assert_as_close(gradient, single[name], double[name])


def test_logits_are_computed_for_about_as_many_tokens_as_the_longest_row_s_answers():
    """By quarters, in multiples of 128: what the device chooses is what the host says."""
    assert score.answer_widths(96) == [96] and score.answer_widths(320) == [256, 320]
    assert score.answer_widths(5120) == [2560, 3840, 5120]
    T, widths = 512, score.answer_widths(512)
    assert widths == [256, 384, 512]
    choose = jax.jit(lambda mask: score._places(mask).width)
    for longest in (0, 1, 256, 257, 384, 385, 511):
        mask = np.zeros((2, T), bool)
        mask[1, 1 : 1 + longest] = True
        mask[0, 5:9] = longest > 4
        expected = min(width for width in widths if width >= longest)
        assert widths[int(choose(mask))] == expected == score.width_of(mask)


def test_where_answers_are_in_a_row():
    """The worked example of `_Places`."""
    places = score._places(jnp.array([[0, 0, 1, 1, 0, 1]], bool))
    assert places.columns.tolist() == [[2, 3, 5, 6, 6, 6]]
    assert places.ranks.tolist() == [[6, 6, 0, 1, 6, 2]]


@pytest.mark.parametrize("cap, keep", [(None, False), (5.0, False), (5.0, True)])
def test_any_number_of_answer_tokens_has_the_softmax_s_scores_and_gradients(loaded, rng, cap, keep):
    """Scattered over the rows or side by side, in each of the widths, against the softmax of all
    columns in float64, its gradient by the formula."""
    R, T, V, D = 2, 512, 40, loaded.cfg.embed_dim
    cfg = dataclasses.replace(loaded.cfg, vocab_size=V, final_softcap=cap, tied=False)
    network = Network(cfg, keep_logits=keep)
    hidden, head = rng.normal(size=(R, T, D)), rng.normal(size=(V, D))
    tokens, weights = rng.integers(0, V, (R, T)), rng.normal(size=(R, T))
    single = lambda x: jnp.asarray(x, jnp.float32)

    @jax.jit
    def ours(mask):
        packed = Packed(jnp.asarray(tokens, jnp.int32), None, None, mask)

        def total(hidden, head):
            params = {"embedding": head, "head": head}
            scores = score.token_scores(network, params, hidden, packed, 16)
            return (single(weights) * scores.logps).sum(), scores

        return jax.grad(total, (0, 1), has_aux=True)(single(hidden), single(head))

    before = np.pad(hidden, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    raw = before @ head.T
    logits = cap * np.tanh(raw / cap) if cap else raw
    logps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    entropy = -(np.exp(logps) * logps).sum(-1)
    slope = (np.eye(V)[tokens] - np.exp(logps)) * (1 - (logits / cap) ** 2 if cap else 1)
    for share in (0, 0.3, 0.7, 0.97):
        mask = rng.random((R, T)) < share
        mask[:, 0] = False
        mask[0, 300:] = share > 0.5
        (to_hidden, to_head), scores = jax.device_get(ours(mask))
        chosen = np.take_along_axis(logps, tokens[..., None], -1)[..., 0]
        np.testing.assert_allclose(scores.logps, mask * chosen, atol=2e-5)
        np.testing.assert_allclose(scores.entropy, mask * entropy, atol=2e-5)
        to_logits = (mask * weights)[..., None] * slope
        expected = np.pad((to_logits @ head)[:, 1:], ((0, 0), (0, 1), (0, 0)))
        np.testing.assert_allclose(to_hidden, expected, atol=2e-4)
        total = np.einsum("rtv,rtd->vd", to_logits, before)
        np.testing.assert_allclose(to_head, total, atol=1e-5 * T)


def test_no_array_of_tokens_by_vocabulary_exists(loaded):
    """Memory of score and of its gradient: twice the tokens, or twice the vocabulary, do not bring
    [tokens, V]."""

    def temporaries(width, vocab_size, chunk):
        cfg = loaded.cfg.__class__(**{**vars(loaded.cfg), "vocab_size": vocab_size})
        network = Network(cfg, "float32")
        params = parameters.spec_map(
            lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), parameters.param_specs(cfg)
        )
        packed = packing.Packed(
            *(jax.ShapeDtypeStruct((1, width), d) for d in (jnp.int32,) * 3 + (jnp.bool_,))
        )
        loss = lambda p, x: score.score_rows(network, p, x, chunk).logps.sum()
        return (
            jax.jit(jax.grad(loss))
            .lower(params, packed)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    logits_bytes = lambda width, entries: width * entries * 4
    chunked, whole = temporaries(512, 64_000, 2_000), temporaries(512, 64_000, 64_000)
    assert whole - chunked > 0.9 * (logits_bytes(512, 64_000) - logits_bytes(512, 2_000))
    # Bytes of an entry's weights; with their gradient and the pieces of both a few times that.
    head = 48 * 4
    growth = chunked - temporaries(512, 32_000, 2_000)
    assert growth < 6 * 32_000 * head + 0.1 * logits_bytes(512, 32_000)


@pytest.mark.parametrize("chunk", [1, 7, 100, 10_000])
def test_the_chunk_changes_nothing(loaded, rng, chunk):
    """Also where it does not divide the vocabulary, so that the last piece is padded."""
    contexts, answers = draw(loaded, rng, 4)
    packed, _ = packing.pack(contexts, answers, 64, 2)
    whole, cut = (
        jax.device_get(score.make_score(loaded.network, c)(loaded.params, packed))
        for c in (loaded.cfg.vocab_size, chunk)
    )
    jax.tree.map(assert_same, cut, whole)


def test_eight_devices_equal_one(loaded, rng):
    contexts, answers = draw(loaded, rng, 16)
    packed, _ = packing.pack(contexts, answers, 320, 8)
    one = jax.device_get(score.make_score(loaded.network, 16)(loaded.params, packed))
    mesh = sharding.make_mesh(1, 4, 2)
    params = jax.device_put(loaded.params, loaded.shardings(mesh))
    with jax.set_mesh(mesh):
        eight = score.make_score(loaded.network, 16)(
            params, sharding.place(packed, sharding.by_rows(mesh))
        )
    assert_same(eight.logps, one.logps)


def test_reward_of_an_answer_that_ignores_the_question_is_zero(loaded, rng):
    """v = 0 on every token where both contexts are the same tokens."""
    _, answers = draw(loaded, rng)
    contexts = [loaded.prompter.standalone] * len(answers)
    scores, _, layout = run(loaded, contexts, answers, 128)
    mean = np.array([[x.mean(dtype=np.float64)] for x in packing.from_grid(scores.logps, layout)])
    signals = rewards.Signals(mean > 0, np.ones_like(mean, int), mean, mean, 10)
    assert (rewards.self_aligned(signals) == 0).all()
