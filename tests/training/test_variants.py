"""Every variant of advantage and loss equals its paper's formula, answer by answer in torch, in
value and gradient.

The oracle knows nothing of packed rows: it sees each answer as an array of its own. The scorer is
replaced by one whose "parameters" are the logps themselves, so that the gradient is that of the
loss in each token's logp."""

import itertools
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.oracle import assert_same

from sar_jax import config
from sar_jax.model import families, known
from sar_jax.model.network import Network
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import losses, packing
from sar_jax.structs import Batch, Scores
from sar_jax.training import learner

# Of any model: the scorer that would use it is replaced.
NETWORK = Network(families.parse(known.CONFIGS["Qwen/Qwen3-1.7B-Base"], 64))
LIMIT = 24
LENGTHS = [7, 1, 3, 12, 5, 1, 9, 2]


@pytest.fixture
def logps_as_parameters(monkeypatch):
    monkeypatch.setattr(
        learner,
        "score_rows",
        lambda network, params, packed, chunk: Scores(jnp.where(packed.mask, params, 0.0), None),
    )


@pytest.fixture
def answers(rng):
    """Ragged answers: a dict of lists of arrays, one entry an answer; and an advantage each. Ratios
    fall on both sides of every bound."""
    draw = lambda scale: [rng.normal(0, scale, n) for n in LENGTHS]
    logps = [-np.abs(x) - 0.1 for x in draw(2)]
    near = lambda scale: [lp + d for lp, d in zip(logps, draw(scale))]
    return {
        "logps": logps,
        "old": near(0.5),
        "ref": near(1.5),
        "sampling": near(0.8),
        "advantages": rng.normal(0, 1, len(LENGTHS)),
    }


def batches(answers, width, rows, order, trained=None):
    """(logps grid, Batch) of each micro-batch; off the mask stand values that must not count."""
    pick = lambda name: [answers[name][i] for i in order]
    packed, layout = packing.pack(
        [[1] * (1 + i % 3) for i in order], [[1] * len(x) for x in pick("logps")], width, rows
    )
    shape = packed.tokens.shape
    if trained is not None:
        packed = packed._replace(
            mask=packed.mask & (packing.to_grid(np.array(trained)[list(order)], layout, shape) > 0)
        )
    grid = {}
    for name in ("logps", "old", "ref", "sampling", "advantages"):
        values = np.full(shape, 55.0)
        for value, r, s, n in zip(pick(name), *layout):  # in float64, which packing.scatter is not
            values[r, s : s + n] = value
        grid[name] = np.where(packed.mask, values, 55.0)
    cut = lambda x, k: x[k * rows : (k + 1) * rows]
    return layout, [
        (
            cut(grid["logps"], k),
            Batch(p, *(cut(grid[n], k) for n in ("advantages", "old", "ref", "sampling"))),
        )
        for k, p in enumerate(packing.microbatches(packed, rows))
    ]


def ours(cfg, answers, width=40, rows=2, order=None, trained=None):
    """(loss, metrics, each answer's gradient in its logps, in the original order)"""
    count = len(answers["logps"])
    order = list(order or range(count))
    layout, parts = batches(answers, width, rows, order, trained)
    tokens = sum(int(batch.packed.mask.sum()) for _, batch in parts)
    scale = 1 / losses.DIVISORS[cfg.average](count, tokens, LIMIT)
    step = jax.jit(jax.value_and_grad(learner.make_policy_loss(NETWORK, cfg, 8), has_aux=True))
    found = [step(jnp.asarray(logps), batch, scale) for logps, batch in parts]
    metrics = jax.tree.map(lambda *x: float(sum(x)), *(m for (_, m), _ in found))
    grads = packing.from_grid(np.concatenate([g for _, g in found]), layout)
    return (
        float(sum(v for (v, _), _ in found)),
        metrics,
        [grads[order.index(i)] for i in range(count)],
    )


def theirs(cfg, answers, trained=None):
    """The same by the papers' formulas, an answer at a time: (loss, gradients)."""
    logps = [torch.tensor(x, requires_grad=True) for x in answers["logps"]]
    sums = []
    for i, lp in enumerate(logps):
        old, ref, sampling = (torch.tensor(answers[n][i]) for n in ("old", "ref", "sampling"))
        a = float(answers["advantages"][i])
        ratio = torch.exp(lp - old)
        if cfg.ratio == "sequence":  # GSPO, eq. 7
            ratio = torch.exp((lp - old).mean()).expand(len(lp))
        objective = torch.minimum(
            ratio * a, torch.clamp(ratio, 1 - cfg.clip_low, 1 + cfg.clip_high) * a
        )
        if a < 0:
            objective = torch.clamp(objective, min=cfg.dual_clip * a)
        loss = -objective
        if cfg.importance_cap:
            loss = loss * torch.clamp(torch.exp(old - sampling), max=cfg.importance_cap)
        d = ref - lp
        kl = {"k1": -d, "k2": d**2 / 2, "k3": torch.exp(d) - d - 1}[cfg.kl_estimator]
        loss = loss + cfg.kl * torch.clamp(kl, -10, 10)
        sums.append(loss)
    kept = [x for i, x in enumerate(sums) if trained is None or trained[i]]
    if cfg.average == "limit":
        value = sum(x.sum() for x in kept) / (len(LENGTHS) * LIMIT)
    elif cfg.average == "tokens":
        value = torch.cat(kept).mean()
    else:
        value = sum(x.mean() for x in kept) / len(LENGTHS)
    value.backward()
    return value.item(), [
        np.zeros(n) if lp.grad is None else lp.grad.numpy() for n, lp in zip(LENGTHS, logps)
    ]


VARIANTS = [
    dict(average=a, ratio=r, kl_estimator=k, importance_cap=c)
    for (a, r, c), k in zip(
        itertools.product(["limit", "tokens", "sequences"], ["token", "sequence"], [0.0, 1.3]),
        itertools.cycle(["k1", "k2", "k3"]),
    )
]


def loss_config(**settings):
    return config.Loss(**dict(clip_low=0.2, clip_high=0.28, kl=0.1) | settings)


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: "-".join(map(str, s.values())))
def test_each_variant_equals_its_formula_in_value_and_gradient(
    logps_as_parameters, answers, settings
):
    cfg = loss_config(**settings)
    with jax.enable_x64(True):
        value, _, grads = ours(cfg, answers)
    expected, slopes = theirs(cfg, answers)
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)
    for found, slope in zip(grads, slopes):
        np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("average", ["limit", "tokens", "sequences"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_no_variant_depends_on_packing_or_micro_batches(
    logps_as_parameters, answers, average, ratio
):
    """In float32, as training computes."""
    cfg = loss_config(average=average, ratio=ratio, importance_cap=1.3)
    one = ours(cfg, answers, 24, 8)
    for width, rows, order in [(16, 1, None), (64, 1, None), (32, 4, [3, 1, 7, 0, 6, 2, 5, 4])]:
        other = ours(cfg, answers, width, rows, order)
        # the loss sums up about a hundred times what is left of it
        assert one[0] == pytest.approx(other[0], rel=1e-3, abs=1e-5)
        assert one[1] == pytest.approx(other[1], rel=1e-4)
        for a, b in zip(one[2], other[2]):
            assert_same(a, b)


@pytest.mark.parametrize(
    "average, ratio", [("limit", "token"), ("tokens", "sequence"), ("sequences", "sequence")]
)
def test_answers_left_out_of_the_loss(logps_as_parameters, answers, average, ratio):
    """They have no gradient. In a mean over tokens theirs are not counted; as answers they are
    (`loss.mask_clipped`)."""
    trained = [True, True, False, True, False, True, True, True]
    cfg = loss_config(average=average, ratio=ratio)
    with jax.enable_x64(True):
        value, _, grads = ours(cfg, answers, trained=trained)
    expected, slopes = theirs(cfg, answers, trained)
    assert value == pytest.approx(expected, rel=1e-6)
    for found, slope, seen in zip(grads, slopes, trained):
        np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-9)
        assert (found != 0).any() == seen


def test_divisors_by_hand():
    assert losses.DIVISORS["limit"](12, 345, 4096) == 12 * 4096
    assert losses.DIVISORS["tokens"](12, 345, 4096) == 345
    assert losses.DIVISORS["sequences"](12, 345, 4096) == 12
    # every answer was cut off and left out: a loss of 0, not NaN
    assert losses.DIVISORS["tokens"](12, 0, 4096) == 1


def test_three_averages_of_two_answers_by_hand(logps_as_parameters):
    """Losses -1 on four tokens of one answer, +3 on the one token of the other; limit 24."""
    zeros = [np.zeros(4), np.zeros(1)]
    two = {
        "logps": zeros,
        "old": zeros,
        "ref": zeros,
        "sampling": zeros,
        "advantages": np.array([1.0, -3.0]),
    }
    value = lambda average: ours(config.Loss(average=average, kl=0.0), two)[0]
    assert value("limit") == pytest.approx((-4 + 3) / (2 * 24))
    assert value("tokens") == pytest.approx((-4 + 3) / 5)
    assert value("sequences") == pytest.approx((-1 + 3) / 2)


def test_answer_sums_equal_loops_on_random_rows(rng):
    for _ in range(5):
        lengths = rng.integers(1, 9, 12)
        packed, _ = packing.pack(
            [[0] * rng.integers(1, 4) for _ in lengths], [[0] * n for n in lengths], 20, 3
        )
        values = rng.normal(size=packed.tokens.shape).astype(np.float32)
        mask = packed.mask & (rng.random(packed.mask.shape) < 0.8)
        found = losses.answer_sums(
            jnp.asarray(values), jnp.asarray(packed.segment_ids), jnp.asarray(mask)
        )
        assert packed.segment_ids.max() > 1
        for r, t in np.ndindex(*values.shape):
            same = (packed.segment_ids[r] == packed.segment_ids[r, t]) & mask[r]
            summed = values[r, same].astype(np.float64)
            scale = np.abs(summed).sum()
            assert float(found[r, t]) == pytest.approx(summed.sum(), rel=0, abs=1e-5 * scale)


def test_the_gradient_of_the_sequence_ratio_is_the_papers(logps_as_parameters, answers):
    """GSPO, eq. 10: (1/G) sum_i s_i A_i (1/|a_i|) sum_t grad log pi, written down, where nothing is
    clipped."""
    cfg = config.Loss(
        average="sequences", ratio="sequence", clip_low=1e6, clip_high=1e6, dual_clip=1e6, kl=0.0
    )
    with jax.enable_x64(True):
        _, metrics, grads = ours(cfg, answers)
    s = [np.exp(np.mean(lp - old)) for lp, old in zip(answers["logps"], answers["old"])]
    for i, (n, found) in enumerate(zip(LENGTHS, grads)):
        np.testing.assert_allclose(
            found, np.full(n, -s[i] * answers["advantages"][i] / n / len(LENGTHS)), rtol=1e-9
        )
    assert metrics["ratio"] == pytest.approx(np.dot(s, LENGTHS), rel=1e-6)


@pytest.mark.parametrize(
    "ratio, high, loss, cut",
    [(1.25, 0.2, -1.2, True), (1.25, 0.28, -1.25, False), (1.3, 0.28, -1.28, True)],
)
def test_clip_higher_by_hand(ratio, high, loss, cut):
    """DAPO's wider upper side lets an unlikely good token rise further; the lower side is as it
    was."""
    f = lambda r, a: losses.clipped_policy_loss(
        jnp.log(jnp.full((1, 1), r)), jnp.full((1, 1), a), 0.2, high, 3.0
    )
    value, clipped = f(ratio, 1.0)
    assert value[0, 0] == pytest.approx(loss, rel=1e-6) and bool(clipped[0, 0]) is cut
    value, clipped = f(0.75, -1.0)
    assert value[0, 0] == pytest.approx(0.8, rel=1e-6) and bool(clipped[0, 0])


# Advantages


def test_leave_one_out_is_the_reward_minus_the_mean_of_the_others(rng):
    rewards = rng.normal(size=(5, 4))
    found = advantages_lib.leave_one_out_advantages(rewards)
    for q, m in np.ndindex(5, 4):
        others = [rewards[q, k] for k in range(4) if k != m]
        assert found[q, m] == pytest.approx(rewards[q, m] - sum(others) / 3, abs=1e-12)
    np.testing.assert_allclose(
        advantages_lib.leave_one_out_advantages(np.array([[1.0, 0, 0, 1]])),
        [[2 / 3, -2 / 3, -2 / 3, 2 / 3]],
    )


def test_group_deviations_are_the_samples_own_plus_epsilon(rng):
    rewards = rng.normal(size=(5, 4))
    found = advantages_lib.group_deviations(rewards)
    assert found.shape == (5, 1)
    np.testing.assert_allclose(
        found[:, 0], [statistics.stdev(group) + 1e-4 for group in rewards.tolist()], rtol=1e-12
    )
    # [1, 0, 0, 1]: sample deviation sqrt(1 / 3); GRPO's advantages are then +- 0.5 / (0.57735 +
    # 0.0001)
    one = np.array([[1.0, 0, 0, 1]])
    np.testing.assert_allclose(
        advantages_lib.group_advantages(one) / advantages_lib.group_deviations(one),
        np.array([[1, -1, -1, 1]]) * 0.5 / (3**-0.5 + 1e-4),
        rtol=1e-12,
    )
    same = np.full((1, 4), 0.3)
    assert (
        advantages_lib.group_advantages(same) / advantages_lib.group_deviations(same) == 0
    ).all()


# KL


@pytest.mark.parametrize(
    "name, gap, value",
    [
        ("k1", 1, -1),
        ("k1", -3, 3),
        ("k1", -15, 10),
        ("k1", 15, -10),
        ("k1", 0, 0),
        ("k2", 1, 0.5),
        ("k2", -3, 4.5),
        ("k2", 5, 10),
        ("k2", -40, 10),
        ("k2", 0, 0),
        ("k3", 1, np.e - 2),
    ],
)
def test_kl_estimators_by_hand(name, gap, value):
    found = losses.KL_ESTIMATORS[name](jnp.full((1, 1), -2.0), jnp.full((1, 1), -2.0 + gap))
    assert float(found[0, 0]) == pytest.approx(value, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    "name, gradient_of", [("k1", None), ("k2", "policy_reference"), ("k3", "reference_policy")]
)
def test_the_mean_gradient_of_each_kl_estimator_is_what_is_said_of_it(rng, name, gradient_of):
    """Over all tokens of a small vocabulary, weighted by the policy that draws them, which is not
    differentiated."""
    with jax.enable_x64(True):
        logits, ref = (jnp.asarray(rng.normal(0, 0.4, (1, 12))) for _ in range(2))
        ref = jax.nn.log_softmax(ref)
        drawn = jnp.exp(jax.nn.log_softmax(logits))
        estimate = lambda x: (drawn * losses.KL_ESTIMATORS[name](jax.nn.log_softmax(x), ref)).sum()
        kl = lambda p, q: (jnp.exp(p) * (p - q)).sum()
        true = {
            None: lambda x: 0.0 * x.sum(),
            "policy_reference": lambda x: kl(jax.nn.log_softmax(x), ref),
            "reference_policy": lambda x: kl(ref, jax.nn.log_softmax(x)),
        }
        np.testing.assert_allclose(
            jax.grad(estimate)(logits), jax.grad(true[gradient_of])(logits), atol=1e-12
        )
        if name != "k2":  # values without bias
            assert float(estimate(logits)) == pytest.approx(
                float(true["policy_reference"](logits)), rel=1e-9
            )


# Importance weights


def test_importance_weights_by_hand_and_without_overflow():
    old = jnp.log(jnp.array([[0.2, 0.5, 0.3, 0.9, 1.0]]))
    sampled = jnp.log(jnp.array([[0.4, 0.4, 0.3, 0.1, 1e-38]]))
    np.testing.assert_allclose(
        losses.importance_weights(old, sampled, 2.0), [[0.5, 1.25, 1.0, 2.0, 2.0]], rtol=1e-6
    )
    assert np.isfinite(losses.importance_weights(old + 1e4, sampled, 2.0)).all()


def test_importance_weights_leave_the_kl_alone_and_are_counted(logps_as_parameters, answers):
    cfg = loss_config(importance_cap=1.3)
    answers["advantages"] = np.zeros(len(LENGTHS))
    value, metrics, _ = ours(cfg, answers)
    assert value == pytest.approx(ours(loss_config(), answers)[0], rel=1e-6)
    weights = np.minimum(
        np.exp(np.concatenate(answers["old"]) - np.concatenate(answers["sampling"])), 1.3
    )
    assert metrics["importance/weight"] == pytest.approx(weights.sum(), rel=1e-5)
    assert metrics["importance/capped"] == (weights == 1.3).sum() > 0
