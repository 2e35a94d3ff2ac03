"""The sampler: its logprobs are the scorer's, its answers depend on (key, row) alone, and greedy is
transformers' greedy."""

import dataclasses

import jax
import numpy as np
import pytest
from support.models import Loaded, make_hf_folder
from support.oracle import Oracle, assert_same
from support.rollouts import draw, scored

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.parallel import sharding
from sar_jax.rollout import sampler
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout import texts as texts_lib
from sar_jax.structs import Sampling


def test_sampler_logps_equal_scorer_logps(loaded):
    prompts, rollouts = draw(loaded, range(4))
    for sampled, n, logps in zip(
        rollouts.sampling_logps, rollouts.lengths, scored(loaded, prompts, rollouts)
    ):
        assert_same(sampled[:n], logps)


def test_answers_end_with_their_first_stop_token(loaded):
    """A stop set of a fifth of the vocabulary, so that answers of every length occur, of one token
    too. An answer's own limit raises nobody's."""
    stop = tuple(range(0, loaded.cfg.vocab_size, 5))
    _, rollouts = draw(
        loaded, range(8), samples=4, limit=6, stop=stop, slots=8, limits=np.full(32, 9)
    )
    assert set(rollouts.lengths.tolist()) >= {1, 2, 6}
    for tokens, n, stopped in zip(rollouts.tokens, rollouts.lengths, rollouts.stopped):
        inside = np.isin(tokens[:n], stop)
        assert not inside[:-1].any() and inside[-1] == stopped
        assert stopped or n == 6


def test_a_row_depends_on_key_and_number_alone(loaded):
    _, together = draw(loaded, [0, 1, 2, 3])
    # other neighbours, other widths, padding questions
    _, alone = draw(loaded, [2], count=3, width=64, slots=12)
    n = alone.lengths[:3]
    np.testing.assert_array_equal(together.lengths[6:9], n)
    for i in range(3):
        np.testing.assert_array_equal(together.tokens[6 + i, : n[i]], alone.tokens[i, : n[i]])
    assert (alone.lengths[3:] == 0).all()


def test_keys_samples_and_questions_differ(loaded):
    _, first = draw(loaded, [0, 0])
    assert len({tuple(t) for t in first.tokens[:3]}) == 3  # three samples of a question
    _, again = draw(loaded, [0, 0])
    _, other = draw(loaded, [0, 0], key=1)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert (first.tokens != other.tokens).any(axis=1).all()


@pytest.fixture(scope="module")
def shallow(tmp_path_factory, mesh) -> Loaded:
    """One layer, for many shapes: every one of them compiles each layer anew."""
    folder = tmp_path_factory.mktemp("shallow") / "model"
    return Loaded(make_hf_folder(folder, num_hidden_layers=1), mesh)


def test_samples_follow_the_distribution(shallow):
    """First tokens of 4,000 samples against the softmax of transformers' logits (total
    variation)."""
    prompts, rollouts = draw(
        shallow, [0], samples=4000, limit=40, limits=np.ones(4000, int), slots=24, stop=(-1,)
    )
    logits = Oracle(shallow.folder).logits(prompts[0])[1][-1]
    expected = np.exp(logits) / np.exp(logits).sum()
    counts = np.bincount(rollouts.tokens[:, 0], minlength=shallow.cfg.vocab_size) / 4000
    # its mean for a fair sampler
    noise = np.sqrt(2 / np.pi * expected * (1 - expected) / 4000).sum() / 2
    assert 0.5 * np.abs(counts - expected).sum() < 1.25 * noise
    assert_same(rollouts.sampling_logps[:, 0], np.log(expected[rollouts.tokens[:, 0]]))


def same(one, other):
    np.testing.assert_array_equal(one.lengths, other.lengths)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.stopped, other.stopped)
    assert_same(one.sampling_logps, other.sampling_logps)


@pytest.fixture(scope="module")
def uneven(shallow):
    """24 answers to 8 questions, of lengths from 1 to 40 tokens; all at once."""
    limits = np.minimum(np.random.default_rng(5).geometric(0.1, 24), 40)
    return limits, draw(shallow, range(8), limit=40, limits=limits, slots=24, stop=(-1,))[1]


def test_every_answer_has_its_own_limit(uneven):
    limits, found = uneven
    np.testing.assert_array_equal(found.lengths, limits)
    assert not found.stopped.any() and len(set(limits.tolist())) > 8


@pytest.mark.parametrize("slots", [5, 32])
def test_the_number_of_slots_changes_no_answer(shallow, uneven, slots):
    """5: refilled, by no divisor; 32: more than answers, and the last ones in a third of them.
    Logprobs may differ by the order of sums, tokens where two are as probable to the last bits,
    which none here is."""
    same(draw(shallow, range(8), limit=40, limits=uneven[0], slots=slots, stop=(-1,))[1], uneven[1])


@pytest.mark.parametrize("shape, slots", [((1, 8, 1), 8), ((2, 2, 2), 32)])
def test_eight_devices_draw_the_same_answers(shallow, uneven, shape, slots):
    """Refilled on every device; with 32 slots over four of them, one has none."""
    mesh = sharding.make_mesh(*shape)
    params = jax.device_put(shallow.params, shallow.shardings(mesh))
    same(
        draw(shallow, range(8), limit=40, limits=uneven[0], slots=slots, stop=(-1,), params=params)[
            1
        ],
        uneven[1],
    )


def test_slots_move_within_their_devices(shallow):
    """32 answers over four devices: after 5 tokens three of each device's eight go on, others on
    each, in 12 slots."""
    limits = np.full((4, 8), 5)
    for device, going in enumerate(([0, 3, 7], [1, 2, 4], [5, 6, 7], [0, 1, 2])):
        limits[device, going] = 30
    found, mesh = [], sharding.make_mesh(2, 2, 2)
    tokens, lengths = texts_lib.pad_prompts([[1, 2, 3 + q] for q in range(8)], 40, 8)
    for params in (shallow.params, jax.device_put(shallow.params, shallow.shardings(mesh))):
        made = sampler.Sample(shallow.network, (-1,), 4, 40, slots=32)
        found.append(
            made(params, tokens, lengths, np.arange(8), jax.random.key(0), limits.reshape(-1))
        )
    assert made.stats.slot_steps == 5 * 32 + 25 * 12
    same(*found)


def test_growing_columns_and_moving_slots_change_no_answer(shallow, monkeypatch):
    """Columns grow twice on the way to 560 tokens, from 150 and from 300, while slots are refilled,
    and the last answers move from 18 slots to 6."""
    limits = np.array([20, 130, 7, 150, 40, 200, 9, 3] * 3)
    limits[20] = 560
    settings = dict(limit=560, limits=limits, stop=(-1,))
    _, whole = draw(shallow, range(8), slots=18, **settings)
    monkeypatch.setattr(shapes_lib, "BUCKETS", (1,))
    monkeypatch.setattr(shapes_lib, "LEAST_SLOTS", 1000)
    _, fixed = draw(shallow, range(8), slots=18, **settings)
    same(whole, fixed)
    np.testing.assert_array_equal(whole.lengths, limits)


def test_slots_are_busy_while_answers_wait(shallow):
    """32 answers of very different lengths in 5 slots: hardly a step of a slot is lost; with all at
    once many are."""
    limits = np.minimum(np.random.default_rng(3).geometric(0.08, 32) + 1, 40)
    made = {}
    for slots in (5, 32):
        made[slots] = sampler.Sample(shallow.network, (-1,), 4, 40, slots=slots)
        tokens, lengths = texts_lib.pad_prompts([[1, 2, 3]] * 8, 40, 8)
        found = made[slots](
            shallow.params, tokens, lengths, np.arange(8), jax.random.key(0), limits
        )
        np.testing.assert_array_equal(found.lengths, limits)
        assert made[slots].stats.tokens == limits.sum()
    occupancy = {slots: m.stats.metrics["rollout/occupancy"] for slots, m in made.items()}
    assert occupancy[5] > 0.8 and occupancy[32] < 0.7


@pytest.mark.parametrize("shape", [pytest.param((1, 1, 1), marks=pytest.mark.explore), (2, 2, 1)])
def test_nothing_is_compiled_after_the_first_call(shallow, shape):
    """Whatever lengths the answers have, and however many there are."""
    mesh = sharding.make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    params = jax.device_put(shallow.params, shallow.shardings(mesh))
    made = sampler.Sample(shallow.network, (-1,), 2, 490, slots=24)
    count = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: (
            count.append(1) if event == "/jax/core/compile/backend_compile_duration" else None
        )
    )

    def call(prompts, limits):
        tokens, lengths = texts_lib.pad_prompts(prompts, 30, len(prompts))
        made(params, tokens, lengths, np.arange(len(prompts)), jax.random.key(0), np.array(limits))

    call([[1, 2]], [3, 3])
    before = len(count)
    assert before > 0
    assert [
        len(s) for s in shapes_lib.plan_shapes(shallow.network, 24, 30, 490, mesh.size)[:2]
    ] == [
        2,
        3,
    ]
    # nine are long, so that columns grow twice before the last answers move to eight slots
    call([[1] * n for n in range(1, 31)], [140, 1] * 15 + [30] * 21 + [280] * 8 + [490])
    call([[5] * 29] * 3, [150, 140, 1, 1, 90, 2])
    assert len(count) == before


def test_filters_and_temperature_report_what_they_drew_from_and_what_the_policy_says(loaded):
    """Scored on the same tokens: logps are the scorer's; sampling_logps those of the two most
    probable at temperature 0.5."""
    settings = Sampling(temperature=0.5, top_k=2)
    prompts, rollouts = draw(loaded, range(2), sampling=settings)
    for sampled, drawn, n, logps in zip(
        rollouts.logps,
        rollouts.sampling_logps,
        rollouts.lengths,
        scored(loaded, prompts, rollouts),
    ):
        assert_same(sampled[:n], logps)
        assert (drawn[:n] > sampled[:n]).all() and (drawn[:n] <= 0).all()


def test_a_cache_in_bfloat16_comes_close(loaded):
    _, whole = draw(loaded, range(4), greedy=True)
    _, rounded = draw(loaded, range(4), greedy=True, cache_dtype="bfloat16")
    first = whole.tokens[:, 0] == rounded.tokens[:, 0]
    assert first.mean() > 0.8
    gap = np.abs(whole.sampling_logps[first, 0] - rounded.sampling_logps[first, 0])
    assert 0 < gap.max() < 0.1


@pytest.mark.parametrize("width, limit", [(40, 560), (300, 300), (700, 60), (1024, 4096)])
def test_the_least_columns_hold_every_question_and_the_most_every_answer(loaded, width, limit):
    columns = shapes_lib.plan_shapes(loaded.network, 16, width, limit, 1).columns
    assert (
        columns[0] >= width
        and columns[-1] == width + limit
        and sorted(set(columns)) == list(columns)
    )


def test_a_prompt_beyond_the_limit_is_refused():
    with pytest.raises(
        UserError, match="a prompt has 9 tokens, but config.data.max_prompt_tokens is 8"
    ):
        texts_lib.pad_prompts([[1] * 8, [1] * 9], 8, 2)


def test_slots_that_cannot_fit_are_refused_with_how_many_would(loaded):
    """By hand: 3 layers, 2 kv heads of 10, keys and values in float32, 5,120 columns: 2.34 MiB a
    slot, and half as much again while the columns grow from 2,560."""
    config = TrainConfig()
    config.model.dtype = "float32"
    slot = 2 * 3 * 2 * 10 * 4 * 5120 * 3 // 2
    config.rollout.slots = 96
    network = loaded.network
    shapes_lib.check_slots(config, network, 1, 1, 96 * slot)
    with pytest.raises(UserError, match="config.rollout.slots is 96.*at most 95 slots fit"):
        shapes_lib.check_slots(config, network, 1, 1, 96 * slot - 1)
    # 24 on each of four, half of it on each of two
    shapes_lib.check_slots(config, network, 4, 8, 12 * slot)
    with pytest.raises(UserError, match="at most 92 slots fit"):
        shapes_lib.check_slots(config, network, 4, 8, 12 * slot - 1)
    # as the kernel for TPUs has them; while the last move from 96 to 32
    padded = 2 * 3 * 2 * 128 * 4 * 5120 * 4 // 3
    network = dataclasses.replace(network, kernel="splash")
    shapes_lib.check_slots(config, network, 1, 1, 96 * padded)
    with pytest.raises(UserError, match="at most 95 slots fit"):
        shapes_lib.check_slots(config, network, 1, 1, 96 * padded - 1)


def test_greedy_answers_are_those_of_transformers(each_family):
    """Each token is the most probable after those before it, or as probable as far as rounding
    goes. 80 tokens, past every window; nothing but token 0 stops them."""
    prompts, ours = draw(each_family, [0, 1], samples=1, limit=80, greedy=True, stop=(0,))
    for prompt, tokens, n in zip(prompts, ours.tokens, ours.lengths):
        answer = tokens[:n].tolist()
        assert 0 not in answer[:-1] and (n == 80 or answer[-1] == 0)
        logits = each_family.oracle.logits([*prompt, *answer])[1][len(prompt) - 1 : -1]
        assert_same(logits[np.arange(n), answer], logits.max(axis=-1))


@pytest.mark.few_families
def test_sampled_logps_of_every_family_are_the_scorers(each_family):
    prompts, rollouts = draw(each_family, range(3), limit=80, limits=np.full(9, 40), stop=(0,))
    for sampled, n, logps in zip(
        rollouts.sampling_logps, rollouts.lengths, scored(each_family, prompts, rollouts)
    ):
        assert_same(sampled[:n], logps)
