"""One step's data: what stands on the packed grid is each answer's own tokens, logps and
advantage."""

import copy
import dataclasses

import jax
import numpy as np
import pytest
from support.configs import put
from support.oracle import assert_same
from support.rollouts import make_tools

from sar_jax import config as config_lib
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import packing
from sar_jax.rollout import texts as texts_lib
from sar_jax.text.answers import judge
from sar_jax.text.prompts import Prompter
from sar_jax.text.tasks import arithmetic
from sar_jax.training import experience, score
from sar_jax.training import questions as questions_lib


@pytest.fixture(scope="module")
def made(loaded, verifier):
    config = config_lib.TrainConfig()
    config.rollout = config_lib.Rollout(questions=4, samples=3, slots=8, max_answer_tokens=10)
    config.loss.minibatch_questions = 2
    config.data.max_prompt_tokens = 150
    config.packing = config_lib.Packing(row_tokens=176, rows_per_microbatch=2, logprob_chunk=88)
    config.rewards.length = 0.5  # so that rewards differ within a group of a random model
    prompter = Prompter(loaded.tokenizer, config_lib.Prompt(system="", instruction=""))
    tools = make_tools(loaded, config, prompter, verifier)
    rows, _ = questions_lib.prepare(arithmetic.Arithmetic("train"), prompter, 150, "arithmetic", 4)
    reference = jax.tree.map(lambda x: x * 1.05, loaded.params)
    return (
        tools,
        rows,
        reference,
        experience.collect(tools, lambda: rows, loaded.params, reference, jax.random.key(0)),
    )


def answers_on_grid(exp):
    """(tokens, advantages, old logps, ref logps, prompt) of every segment, mini-batch by
    mini-batch."""
    for minibatch in exp.minibatches:
        for batch in minibatch.microbatches:
            packed = batch.packed
            for r in range(len(packed.tokens)):
                for segment in range(1, packed.segment_ids[r].max() + 1):
                    here = packed.segment_ids[r] == segment
                    answer = here & packed.mask[r]
                    yield (
                        tuple(packed.tokens[r][answer].tolist()),
                        batch.advantages[r][answer],
                        batch.old_logps[r][answer],
                        batch.ref_logps[r][answer],
                        tuple(packed.tokens[r][here & ~packed.mask[r]].tolist()),
                    )


def test_every_answer_stands_once_with_its_own_advantage_and_logps(made, loaded):
    tools, rows, reference, exp = made
    tokens, lengths = texts_lib.pad_prompts([r.prompt for r in rows], 150, 4)
    rollouts = jax.device_get(
        tools.sample(
            loaded.params, tokens, lengths, np.arange(4, dtype=np.int32), jax.random.key(0)
        )
    )
    expected = {}
    for b in range(12):
        ids = tuple(rollouts.tokens[b, : rollouts.lengths[b]].tolist())
        expected[(tuple(rows[b // 3].prompt), ids)] = (
            exp.records[b]["advantage"],
            rollouts.sampling_logps[b, : len(ids)],
        )
    found = list(answers_on_grid(exp))
    assert len(found) == 12 and {(p, t) for t, *_, p in found} == set(expected)
    reference_score = score.make_score(loaded.network, 88)
    for ids, advantages, old, ref, prompt in found:
        advantage, sampled = expected[(prompt, ids)]
        np.testing.assert_allclose(advantages, advantage, atol=1e-6)
        assert_same(old, sampled)
        packed, layout = packing.pack([prompt], [ids], 176, 1)
        alone = packing.from_grid(np.asarray(reference_score(reference, packed).logps), layout)[0]
        assert_same(ref, alone)


def test_minibatches_hold_their_own_questions(made):
    _, rows, _, exp = made
    assert len(exp.minibatches) == 2
    for k, minibatch in enumerate(exp.minibatches):
        prompts = {p for *_, p in answers_on_grid(exp._replace(minibatches=[minibatch]))}
        assert prompts == {tuple(r.prompt) for r in rows[2 * k : 2 * k + 2]}
        assert minibatch.answers == 6
        assert minibatch.tokens == sum(s["length"] for s in exp.records[6 * k : 6 * k + 6])


def test_samples_rewards_follow_from_their_own_figures(made):
    exp = made[-1]
    for s in exp.records:
        sar = np.clip((s["ppl_standalone"] - s["ppl_conditional"]) / s["ppl_standalone"], -1, 1)
        assert s["reward/self_aligned"] == pytest.approx(sar, abs=1e-6)
        assert s["reward"] == pytest.approx(
            s["correct"] + 0.2 * sar - 0.5 * s["length"] / 10, abs=1e-6
        )
    rewards = np.array([s["reward"] for s in exp.records]).reshape(4, 3)
    assert rewards.std(axis=1).max() > 1e-3
    advantages = np.array([s["advantage"] for s in exp.records]).reshape(4, 3)
    np.testing.assert_allclose(advantages, rewards - rewards.mean(axis=1, keepdims=True), atol=1e-9)
    assert sum(
        v for k, v in exp.metrics.items() if k.startswith("advantage_share/")
    ) == pytest.approx(1)


def test_without_the_self_aligned_weight_no_standalone_pass_is_made(made, loaded):
    """And without a reference nothing is scored twice: one score call for each micro-batch with the
    question."""
    tools, rows, _, _ = made
    config = config_lib.from_dict(
        config_lib.TrainConfig, __import__("dataclasses").asdict(tools.config)
    )
    config.rewards.self_aligned = 0.0
    calls = []
    counted = tools._replace(config=config, score=lambda *a: calls.append(1) or tools.score(*a))
    exp = experience.collect(counted, lambda: rows, loaded.params, None, jax.random.key(0))
    assert len(calls) == sum(len(m.microbatches) for m in exp.minibatches)
    assert (
        "reward/self_aligned/mean" not in exp.metrics and "perplexity/standalone" not in exp.metrics
    )
    assert all((b.ref_logps == 0).all() for m in exp.minibatches for b in m.microbatches)


def with_truths(tools, params, rows, key, tell):
    """The rows, with truths by which exactly the groups in `tell` are neither all right nor all
    wrong."""
    tokens, lengths = texts_lib.pad_prompts([r.prompt for r in rows], 150, 4)
    found = jax.device_get(tools.sample(params, tokens, lengths, np.arange(4, dtype=np.int32), key))
    texts = texts_lib.decode_texts(tools.prompter.tokenizer, found, range(12))
    made = []
    for q, row in enumerate(rows):
        finals = [judge.final(text, "last_number", 0) for text in texts[3 * q : 3 * q + 3]]
        once = [f for f in finals if f is not None and finals.count(f) == 1]
        assert once or q not in tell, "the random model says no number here: choose another key"
        example = dataclasses.replace(
            row.example, answer=str(once[0]) if q in tell else "987654", kind="last_number"
        )
        made.append(dataclasses.replace(row, example=example))
    return made


@pytest.mark.parametrize("allowed", [1, 2])
def test_refilling_trains_on_groups_that_tell_something(made, loaded, allowed):
    """Rounds with a few telling groups each, until there are four or no more rounds."""
    tools, rows, reference, _ = made
    config = copy.deepcopy(tools.config)
    config.rollout.refill_rounds = allowed
    tools, key = tools._replace(config=config), jax.random.key(3)
    keys = [key, *(jax.random.fold_in(key, n) for n in (1, 2, 3))]
    numbers = [groups_with_a_number(tools, loaded.params, rows, k) for k in keys]
    tell = [set(numbers[0][:2]), set(numbers[1][:1]), set(numbers[2][:3])]
    drawn = iter([with_truths(tools, loaded.params, rows, k, t) for k, t in zip(keys, tell)])
    watched = Watched(tools.sample)
    exp = experience.collect(
        tools._replace(sample=watched), lambda: next(drawn), loaded.params, reference, key
    )
    expected = 1 + next(i for i in range(3) if sum(map(len, tell[: i + 1])) >= 4 or i == allowed)
    assert exp.metrics["rollout/rounds"] == expected
    telling = sum(map(len, tell[:expected]))
    assert exp.metrics["rollout/frac_without_signal"] == pytest.approx(1 - telling / (4 * expected))
    decoder = [sum(s[part] for s in watched.seen) for part in range(5)]
    assert len(watched.seen) == expected and decoder[0] == watched.tokens
    assert (
        exp.metrics["rollout/occupancy"] == decoder[0] / decoder[1]
        and exp.metrics["time/decode"] == decoder[4]
    )
    groups = [exp.records[i : i + 3] for i in range(0, 12, 3)]
    mixed = [0 < sum(s["correct"] for s in group) < 3 for group in groups]
    assert mixed == [True] * min(telling, 4) + [False] * (4 - min(telling, 4))
    assert exp.metrics["frac_reward_zero_std"] == pytest.approx(mixed.count(False) / 4)


class Watched:
    """A decoder; `seen`: what it says of each call."""

    def __init__(self, sample):
        self.sample, self.seen, self.tokens = sample, [], 0

    def __call__(self, *arguments):
        found = self.sample(*arguments)
        self.stats = self.sample.stats
        self.seen.append(self.stats)
        self.tokens += int(found.lengths.sum())
        return found


def groups_with_a_number(tools, params, rows, key):
    tokens, lengths = texts_lib.pad_prompts([r.prompt for r in rows], 150, 4)
    found = jax.device_get(tools.sample(params, tokens, lengths, np.arange(4, dtype=np.int32), key))
    texts = texts_lib.decode_texts(tools.prompter.tokenizer, found, range(12))
    finals = [judge.final(text, "last_number", 0) for text in texts]
    return [
        q
        for q in range(4)
        if any(
            f is not None and finals[3 * q : 3 * q + 3].count(f) == 1
            for f in finals[3 * q : 3 * q + 3]
        )
    ]


def test_answers_that_the_limit_cut_off_can_be_left_out_of_the_loss(made, loaded):
    tools, rows, reference, whole = made
    config = copy.deepcopy(tools.config)
    config.loss.mask_clipped = True
    exp = experience.collect(
        tools._replace(config=config), lambda: rows, loaded.params, reference, jax.random.key(0)
    )
    clipped = sum(s["clipped"] for s in whole.records)
    assert 0 < clipped <= 12
    kept = sorted(ids for ids, *_ in answers_on_grid(exp) if ids)
    assert len(kept) == 12 - clipped and all(len(ids) <= 10 for ids in kept)
    assert kept == sorted(
        ids
        for ((ids, *_),) in zip(answers_on_grid(whole))
        if len(ids) < 10 or ids[-1] in loaded.stop
    )
    assert [m.answers for m in exp.minibatches] == [
        m.answers for m in whole.minibatches
    ]  # the divisor stays
    assert sum(m.tokens for m in exp.minibatches) == sum(map(len, kept))


def collected(made, params, **settings):
    """The same step with other settings: dotted paths with __ for dots."""
    tools, rows, reference, _ = made
    config = copy.deepcopy(tools.config)
    for path, value in settings.items():
        put(config, path.replace("__", "."), value)
    return experience.collect(
        tools._replace(config=config), lambda: rows, params, reference, jax.random.key(0)
    )


def rewards_and_advantages(exp):
    return (
        np.array([s[name] for s in exp.records]).reshape(4, 3) for name in ("reward", "advantage")
    )


def test_the_advantages_estimator_and_its_divisor(made, loaded):
    exp = collected(
        made, loaded.params, advantage__estimator="leave_one_out", advantage__divide_by_std=True
    )
    rewards, advantages = rewards_and_advantages(exp)
    expected = [
        (r - (sum(group) - r) / 2) / (np.std(group, ddof=1) + 1e-4)
        for group in rewards
        for r in group
    ]
    np.testing.assert_allclose(advantages.reshape(-1), expected, atol=1e-9)
    assert np.abs(advantages).max() > 0.5
    assert sum(
        v for k, v in exp.metrics.items() if k.startswith("advantage_share/")
    ) == pytest.approx(1)
    on_grid = sorted(float(a[0]) for _, a, *_ in answers_on_grid(exp))
    np.testing.assert_allclose(on_grid, np.sort(advantages.reshape(-1)), atol=1e-6)


def test_the_self_aligned_rewards_form_cap_and_weight(made, loaded):
    tools, rows, reference, _ = made
    exp = collected(made, loaded.params, self_aligned__form="difference", self_aligned__cap=300.0)
    for s in exp.records:
        expected = min(s["ppl_standalone"], 300) - min(s["ppl_conditional"], 300)
        assert s["reward/self_aligned"] == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert max(s["ppl_standalone"] for s in exp.records) > 300
    exp = experience.collect(
        tools, lambda: rows, loaded.params, reference, jax.random.key(0), alpha=0.07
    )
    for s in exp.records:
        expected = s["correct"] + 0.07 * s["reward/self_aligned"] - 0.5 * s["length"] / 10
        assert s["reward"] == pytest.approx(expected, abs=1e-6)


def test_the_samplers_logps_stand_on_their_tokens_only_where_they_are_asked_for(made, loaded):
    whole = made[-1]
    assert all(b.sampling_logps is None for m in whole.minibatches for b in m.microbatches)
    exp = collected(made, loaded.params, loss__importance_cap=2.0)
    for minibatch in exp.minibatches:
        for batch in minibatch.microbatches:
            mask = batch.packed.mask
            assert_same(batch.sampling_logps[mask], batch.old_logps[mask])
            assert (batch.sampling_logps[~mask] == 0).all() and np.ptp(
                batch.sampling_logps[mask]
            ) > 1


def test_shares_of_the_advantage_by_hand():
    """Three groups of two: mixed, all right, all wrong. Parts' absolute values sum to 10."""
    correct = np.array([[True, False], [True, True], [False, False]])
    parts = {
        "verifiable": np.array([[2.0, 2], [0, 0], [0, 0]]),
        "self_aligned": np.array([[0.5, 0.5], [1, 1], [1.5, 1.5]]),
    }
    assert advantages_lib.shares(parts, correct) == pytest.approx(
        {
            "advantage_share/verifiable": 0.4,
            "advantage_share/self_aligned": 0.6,
            "advantage_share_all_right/verifiable": 0.0,
            "advantage_share_all_right/self_aligned": 0.2,
            "advantage_share_all_wrong/verifiable": 0.0,
            "advantage_share_all_wrong/self_aligned": 0.3,
        }
    )
    only = advantages_lib.shares({n: p[:1] for n, p in parts.items()}, correct[:1])
    assert only == pytest.approx(
        {"advantage_share/verifiable": 0.8, "advantage_share/self_aligned": 0.2}
    )
    assert set(advantages_lib.shares({"length": np.zeros((3, 2))}, correct).values()) == {0.0}


def test_the_error_of_the_accuracy_is_that_of_a_mean_over_questions(made):
    exp = made[-1]
    per_question = np.array([s["correct"] for s in exp.records]).reshape(4, 3).mean(axis=1)
    assert exp.metrics["accuracy_error"] == pytest.approx(per_question.std(ddof=1) / 2)


def test_a_narrower_last_micro_batch_changes_no_answers_values(made, loaded):
    """Each answer keeps its logps and advantages; fewer positions are computed."""
    reference = made[2]
    tools, rows, _, _ = made
    wide, narrow = (
        experience.collect(
            tools._replace(config=config), lambda: rows, loaded.params, reference, jax.random.key(0)
        )
        for config in map(with_narrowest, [tools.config] * 2, (1, 4))
    )
    columns = lambda exp: {b.packed.tokens.shape for m in exp.minibatches for b in m.microbatches}
    assert columns(wide) == {(2, 176)} and (2, 44) in columns(narrow) or (2, 88) in columns(narrow)
    assert narrow.metrics["packing/filled"] > wide.metrics["packing/filled"]
    found = [sorted(answers_on_grid(exp), key=lambda a: (a[4], a[0])) for exp in (wide, narrow)]
    assert len(found[0]) == len(found[1]) == 12
    for one, other in zip(*found):
        assert one[0] == other[0] and one[4] == other[4]
        for a, b in zip(one[1:4], other[1:4]):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    for name in ("reward/mean", "reward/self_aligned/mean", "entropy"):
        assert wide.metrics[name] == pytest.approx(narrow.metrics[name], rel=1e-4, abs=1e-5)


def with_narrowest(config, narrowest):
    config = copy.deepcopy(config)
    config.packing.narrowest = narrowest
    return config


def test_sampled_logps_stand_for_scored_ones(made, loaded):
    """Nothing is scored but the reference and what stands alone; the numbers are the same."""
    tools, rows, reference, whole = made
    seen = []
    score = lambda params, packed: seen.append(params) or tools.score(params, packed)
    collected_with = lambda scores: experience.collect(
        tools._replace(score=score),
        lambda: rows,
        loaded.params,
        reference,
        jax.random.key(0),
        scores=scores,
    )
    exp = collected_with(False)
    calls = len(seen)
    collected_with(True)
    assert len(seen) - 2 * calls == sum(len(m.microbatches) for m in exp.minibatches)
    ours, theirs = ({answer[0]: answer for answer in answers_on_grid(one)} for one in (exp, whole))
    assert ours.keys() == theirs.keys()
    for tokens, answer in ours.items():
        for a, b in zip(answer[1:4], theirs[tokens][1:4]):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert exp.metrics["reward/mean"] == pytest.approx(whole.metrics["reward/mean"], abs=1e-5)
    # minus the logps of what was drawn: the entropy on average
    logps = np.concatenate([np.concatenate([a[2] for a in ours.values()])])
    assert exp.metrics["entropy"] == pytest.approx(-logps.mean(), rel=1e-5)
    gone = whole.metrics.keys() - exp.metrics.keys()
    assert gone == {"sampling/logp_difference/mean", "sampling/logp_difference/max"}
