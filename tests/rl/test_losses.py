"""The losses' values and gradients equal the formulas in torch, on ragged masked batches with
extreme log ratios."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.oracle import assert_same

from sar_jax import config
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import losses, packing
from sar_jax.structs import Batch
from sar_jax.training import learner, score

LOW, HIGH, DUAL, KL = 0.2, 0.3, 3.0, 0.1  # low and high differ, so that they cannot be mixed up


def torch_policy_loss(logps, old, advantages):
    """-min(r A, clip(r) A), at most 3 |A| where A < 0; r = exp(log ratio clamped to +-20)."""
    ratio = torch.exp(torch.clamp(logps - old, -20, 20))
    objective = torch.minimum(
        ratio * advantages, torch.clamp(ratio, 1 - LOW, 1 + HIGH) * advantages
    )
    return -torch.where(advantages < 0, torch.maximum(objective, DUAL * advantages), objective)


def torch_k3(logps, ref):
    d = torch.clamp(ref - logps, -20, 20)
    return torch.clamp(torch.exp(d) - d - 1, -10, 10)


def ragged(rng, rows=6, width=17, spread=1.0):
    """logps, old, ref, advantages, mask; the last row is padding, and padding holds values that
    must not count."""
    logps = -np.abs(rng.normal(2, 1, (rows, width)))
    old, ref = (logps + rng.normal(0, spread, (rows, width)) for _ in range(2))
    advantages = np.repeat(rng.normal(0, 1, (rows, 1)), width, axis=1)
    mask = np.zeros((rows, width), bool)
    for row in range(rows - 1):
        start = rng.integers(0, width - 1)
        mask[row, start : rng.integers(start + 1, width + 1)] = True
    return logps, old, ref, advantages, mask


def extremes():
    """Every pair of a log ratio and an advantage, each side of every bound, and of a reference
    gap."""
    log_ratios = [
        -1e4,
        -50,
        -20.1,
        -19.9,
        -3,
        -0.3,
        -0.1,
        0,
        0.1,
        0.25,
        0.3,
        1.05,
        1.15,
        3,
        19.9,
        20.1,
        50,
        1e4,
    ]
    gaps = [-1e4, -25, -19, -10.9, -11.1, -0.5, 0, 0.5, 2.4, 2.5, 2.6, 19, 25, 1e4]
    r, g, a = (x.reshape(1, -1) for x in np.meshgrid(log_ratios, gaps, [-7.0, -0.4, 0.0, 0.4, 7.0]))
    logps = np.full(r.shape, -1.5)
    return logps, logps - r, logps + g, a, np.ones(r.shape, bool)


CASES = {
    "near": lambda rng: ragged(rng, spread=0.2),
    "far": lambda rng: ragged(rng, spread=12.0),
    "extreme": lambda rng: extremes(),
}


@pytest.fixture(params=CASES)
def case(request, rng):
    return CASES[request.param](rng)


# Of a value, or of what a sum adds: float32's unit is 1e-7, float64's 2e-16.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-11}


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """In float64 only the formula can differ from torch's; float32 is what training runs."""
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def compare(ours, theirs, weights, logps):
    """Two functions of logps, by array (jax) and by tensor (torch), to a number for each: the
    numbers; their weighted sum, and its gradient in the logps."""
    tolerance = TOLERANCE[logps.dtype.type]
    tensor = torch.tensor(logps, requires_grad=True)
    numbers = theirs(tensor)
    terms = numbers * torch.tensor(weights)
    terms.sum().backward()
    expected = numbers.detach().numpy()
    found = ours(jnp.asarray(logps))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    value, grad = jax.value_and_grad(lambda x: (ours(x) * weights).sum())(jnp.asarray(logps))
    scale = terms.detach().abs().sum().item()
    assert value == pytest.approx(terms.sum().item(), rel=0, abs=tolerance * scale)
    np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_policy_loss_and_its_gradient_equal_torch(case, dtype):
    logps, old, _, advantages, mask = (x.astype(dtype) for x in case)
    weights = mask / np.maximum(1, np.abs(advantages) * np.exp(np.clip(logps - old, 0, 20)))
    ours = lambda x: losses.clipped_policy_loss(x - old, jnp.asarray(advantages), LOW, HIGH, DUAL)
    compare(
        lambda x: ours(x)[0],
        lambda x: torch_policy_loss(x, torch.tensor(old), torch.tensor(advantages)),
        weights.astype(dtype),
        logps,
    )


def test_kl_and_its_gradient_equal_torch(case, dtype):
    logps, _, ref, _, mask = (x.astype(dtype) for x in case)
    compare(
        lambda x: losses.kl_k3(x, jnp.asarray(ref)),
        lambda x: torch_k3(x, torch.tensor(ref)),
        mask,
        logps,
    )


def test_values_and_gradients_are_finite_on_extreme_ratios():
    logps, old, ref, advantages, _ = (jnp.asarray(x, jnp.float32) for x in extremes())
    f = lambda x: (
        losses.clipped_policy_loss(x - old, advantages, LOW, HIGH, DUAL)[0] + losses.kl_k3(x, ref)
    ).sum()
    value, grad = jax.value_and_grad(f)(logps)
    assert np.isfinite(value) and np.isfinite(grad).all()


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope, cut",
    [
        # slope: d loss / d logp, which is -A r where the clip leaves the token alone, else 0
        (1.0, 2.0, -2.0, -2.0, False),
        (1.1, 2.0, -2.2, -2.2, False),
        (1.5, 2.0, -2.6, 0.0, True),  # already more probable by more than `high`
        (0.5, 2.0, -1.0, -1.0, False),  # less probable and good: not clipped
        (1.0, -2.0, 2.0, 2.0, False),
        (0.5, -2.0, 1.6, 0.0, True),  # already less probable by more than `low`
        (1.5, -2.0, 3.0, 3.0, False),  # more probable and bad: not clipped
        (2.9, -2.0, 5.8, 5.8, False),
        (4.0, -2.0, 6.0, 0.0, False),  # dual clip: 3 * 2
        (4.0, 2.0, -2.6, 0.0, True),  # and only where A < 0
        (1e6, -2.0, 6.0, 0.0, False),
        (4.0, 0.0, 0.0, 0.0, False),
    ],
)
def test_policy_loss_by_hand(ratio, advantage, loss, slope, cut):
    f = lambda x: losses.clipped_policy_loss(x, jnp.full((1, 1), advantage), LOW, HIGH, DUAL)
    logps = jnp.full((1, 1), np.log(ratio))
    value, clipped = f(logps)
    assert value[0, 0] == pytest.approx(loss, rel=1e-5) and bool(clipped[0, 0]) is cut
    assert jax.grad(lambda x: f(x)[0].sum())(logps)[0, 0] == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    "log_ratio, advantage", [(30.0, -2.0), (-30.0, 2.0), (21.0, -2.0), (-21.0, 2.0)]
)
def test_the_log_ratio_is_clamped_at_20(log_ratio, advantage):
    """Beyond it the loss is that of 20 and its slope 0; inside it is not (without a dual clip,
    which would hide it)."""
    old, advantages = jnp.zeros((1, 1)), jnp.full((1, 1), advantage)
    f = lambda x: losses.clipped_policy_loss(x - old, advantages, LOW, HIGH, 1e12)[0].sum()
    bound = np.exp(np.sign(log_ratio) * 20)
    value, slope = jax.value_and_grad(f)(jnp.full((1, 1), log_ratio))
    assert value == pytest.approx(-advantage * bound, rel=1e-5, abs=0) and slope[0, 0] == 0
    inside = np.sign(log_ratio) * 19.5
    value, slope = jax.value_and_grad(f)(jnp.full((1, 1), inside))
    assert value == pytest.approx(-advantage * np.exp(inside), rel=1e-5, abs=0) == slope[0, 0]


@pytest.mark.parametrize(
    "gap, value",
    [(0, 0), (1, np.e - 2), (-1, np.exp(-1)), (3, 10), (-5, np.exp(-5) + 4), (-40, 10)],
)
def test_kl_by_hand(gap, value):
    """d = ref - policy."""
    assert losses.kl_k3(jnp.full((1, 1), -2.0), jnp.full((1, 1), -2.0 + gap))[
        0, 0
    ] == pytest.approx(value, rel=1e-5)


def test_kl_is_never_negative_and_its_mean_is_the_divergence(rng):
    """k3 is unbiased: weighted by the policy's own probabilities it sums to KL(policy ||
    reference)."""
    # no clamp
    policy, ref = (jax.nn.log_softmax(jnp.asarray(rng.normal(0, 0.4, (1, 50)))) for _ in range(2))
    k3 = losses.kl_k3(policy, ref)
    assert (k3 >= 0).all()
    divergence = (jnp.exp(policy) * (policy - ref)).sum()
    assert (jnp.exp(policy) * k3).sum() == pytest.approx(float(divergence), rel=1e-4)


def test_group_advantages(rng):
    rewards = rng.normal(size=(4, 6))
    advantages = advantages_lib.group_advantages(rewards)
    for group, found in zip(rewards, advantages):
        np.testing.assert_allclose(found, [r - sum(group) / 6 for r in group], atol=1e-12)
    np.testing.assert_array_equal(
        advantages_lib.group_advantages(np.array([[1.0, 0, 0, 1], [1, 1, 1, 1]])),
        [[0.5, -0.5, -0.5, 0.5], [0, 0, 0, 0]],
    )
    # no deviation in it
    np.testing.assert_allclose(
        advantages_lib.group_advantages(10 * rewards), 10 * advantages, atol=1e-12
    )
    np.testing.assert_allclose(advantages_lib.group_advantages(rewards + 5), advantages, atol=1e-12)
    assert (advantages_lib.group_advantages(rng.normal(size=(4, 1))) == 0).all()


@pytest.fixture(scope="module")
def scored(loaded):
    """A packed batch of ragged answers with its logps; off the mask stand values that must not
    count."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, loaded.cfg.vocab_size, n).tolist() for n in (3, 1, 5, 2, 4)]
    answers = [rng.integers(0, loaded.cfg.vocab_size, n).tolist() for n in (6, 1, 3, 9, 2)]
    packed, layout = packing.pack(prompts, answers, 16, 1)
    logps = np.asarray(score.make_score(loaded.network, 8)(loaded.params, packed).logps)
    far = rng.choice([0.05, 0.3, 3.0, 15.0, 30.0], size=logps.shape)
    old, ref, sampling = (
        (logps + far * rng.normal(size=logps.shape)).astype(np.float32) for _ in range(3)
    )
    advantages = packing.to_grid(rng.normal(size=5), layout, logps.shape)
    old[~packed.mask], ref[~packed.mask], advantages[~packed.mask], sampling[~packed.mask] = (
        -55,
        44,
        33,
        -5e5,
    )
    return Batch(packed, advantages, old, ref, sampling)


@pytest.mark.parametrize("kl", [0.0, KL])
def test_the_policy_loss_of_a_batch_equals_torch_in_value_and_gradient(loaded, scored, kl):
    """Torch gives the loss's slope in every logp; pulled back through the scorer it is the
    parameters' gradient."""
    mask, scale = scored.packed.mask, 1 / (5 * 40)
    cfg = config.Loss(clip_low=LOW, clip_high=HIGH, dual_clip=DUAL, kl=kl)
    loss_fn = learner.make_policy_loss(loaded.network, cfg, 8)
    (loss, metrics), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
        loaded.params, scored, scale
    )

    packed = jax.tree.map(jnp.asarray, scored.packed)
    logps_of = lambda params: score.score_rows(loaded.network, params, packed, 8).logps
    logps, pull_back = jax.vjp(jax.jit(logps_of), loaded.params)
    tensor = torch.tensor(np.asarray(logps), requires_grad=True)
    old, ref, advantages = (
        torch.tensor(x) for x in (scored.old_logps, scored.ref_logps, scored.advantages)
    )
    k3 = torch_k3(tensor, ref)[mask].sum()
    terms = scale * torch_policy_loss(tensor, old, advantages)[mask]
    value = terms.sum() + scale * kl * k3
    value.backward()
    (expected,) = pull_back(jnp.asarray(tensor.grad.numpy()))

    ratio = torch.exp(tensor - old).detach()
    cut = ((advantages > 0) & (ratio > 1 + HIGH) | (advantages < 0) & (ratio < 1 - LOW))[mask].sum()
    assert 0 < cut < mask.sum()
    assert_same(loss, value.item(), scale=terms.detach().abs().sum().item())
    assert metrics["clip_ratio"] == cut.item()
    assert metrics["kl"] == pytest.approx(k3.item() if kl else 0, rel=1e-4)
    assert metrics["ratio"] == pytest.approx(ratio[mask].sum().item(), rel=1e-4)
    jax.tree.map(assert_same, grads, expected)


@pytest.mark.parametrize(
    "settings", [{}, dict(average="sequences", ratio="sequence", importance_cap=2.0)]
)
def test_what_stands_off_the_mask_has_no_effect(loaded, scored, settings):
    loss_fn = learner.make_policy_loss(loaded.network, config.Loss(kl=KL, **settings), 8)
    f = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    mask = scored.packed.mask
    _, *fields = scored
    other = Batch(scored.packed, *(np.where(mask, x, -x - 7) for x in fields))
    jax.tree.map(
        np.testing.assert_array_equal, f(loaded.params, scored, 1.0), f(loaded.params, other, 1.0)
    )


def test_the_loss_is_linear_in_the_scale(loaded, scored):
    loss_fn = jax.jit(learner.make_policy_loss(loaded.network, config.Loss(kl=KL), 8))
    one, third = (loss_fn(loaded.params, scored, scale) for scale in (1.0, 1 / 3))
    assert float(one[0]) == pytest.approx(3 * float(third[0]), rel=1e-4)
    for name in one[1]:
        assert float(one[1][name]) == float(third[1][name])  # metrics are sums, not scaled
