"""The critic: values against torch's hidden states, its loss and gradient against torch; packed,
spread, kept."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.commands import run_command
from support.configs import put
from support.oracle import (
    assert_as_close,
    assert_same,
    assert_same_numbers,
    assert_same_update,
)
from support.training import assert_same_state, read_metrics, small, state_of, timeless

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import parameters
from sar_jax.parallel import sharding
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import losses, packing
from sar_jax.structs import ValueBatch
from sar_jax.training import critic, learner
from sar_jax.training.settings import checks


def make_params(loaded, rng):
    params = {name: value for name, value in loaded.params.items() if name != "head"}
    return params | {critic.HEAD: jnp.asarray(rng.normal(0, 1, loaded.cfg.embed_dim), jnp.float32)}


def sequences(loaded, rng, count=6):
    ids = lambda low, high: rng.integers(0, loaded.cfg.vocab_size, rng.integers(low, high)).tolist()
    return [ids(2, 9) for _ in range(count)], [ids(1, 14) for _ in range(count)]


@pytest.mark.few_families
def test_values_are_the_head_on_torchs_hidden_states(each_family, rng):
    """At each answer token, of the state before it; packed answers do not see each other."""
    params = make_params(each_family, rng)
    prompts, answers = sequences(each_family, rng)
    packed, layout = packing.pack(prompts, answers, 64, 2)
    values = np.asarray(critic.make_values(each_family.network)(params, packed))
    assert (values[~packed.mask] == 0).all()
    ours, theirs = packing.from_grid(values, layout), []
    for prompt, answer in zip(prompts, answers):
        row = torch.tensor([prompt + answer])
        # after the final norm
        states = each_family.oracle.both(
            lambda network, row=row: network(row, output_hidden_states=True).hidden_states[-1][0]
        )
        head = np.asarray(params[critic.HEAD])
        theirs.append([x[len(prompt) - 1 : -1] @ head for x in states])
    assert_as_close(np.concatenate(ours), *map(np.concatenate, zip(*theirs)))


def batches(packed, layout, returns, old, rows):
    grids = [packing.to_grid(x, layout, packed.tokens.shape) for x in (returns, old)]
    return [
        ValueBatch(p, *(g[k * rows : (k + 1) * rows] for g in grids))
        for k, p in enumerate(packing.microbatches(packed, rows))
    ]


def ragged(answers, rng):
    return [rng.normal(0, 1, len(a)) for a in answers]


def updated(loaded, params, micro, tokens, mesh=None):
    optimizer = learner.make_optimizer(
        config_lib.Optimizer(lr=1e-3, eps=1e-2), 10, jax.tree.map(lambda _: True, params)
    )
    state = learner.init_state(jax.tree.map(jnp.copy, params), optimizer)
    update = learner.make_update(state, optimizer, critic.make_loss(loaded.network, 0.5))
    state, metrics = update(
        state, sharding.place(micro, sharding.by_rows(mesh)) if mesh else micro, 1 / tokens
    )
    return jax.device_get((state.params, metrics))


def test_an_update_does_not_depend_on_packing_micro_batches_or_devices(loaded, rng):
    params = make_params(loaded, rng)
    prompts, answers = sequences(loaded, rng, 8)
    returns, old, tokens = ragged(answers, rng), ragged(answers, rng), sum(map(len, answers))
    found = []
    for width, rows in ((32, 8), (64, 1)):
        packed, layout = packing.pack(prompts, answers, width, rows)
        found.append(updated(loaded, params, batches(packed, layout, returns, old, rows), tokens))
    mesh = sharding.make_mesh(2, 2, 2)
    specs = sharding.param_shardings(critic.specs(loaded.cfg), mesh)
    packed, layout = packing.pack(prompts, answers, 32, 8)
    with jax.set_mesh(mesh):
        spread = jax.device_put(jax.device_get(params), specs)
        found.append(
            updated(loaded, spread, batches(packed, layout, returns, old, 8), tokens, mesh)
        )
    for other in found[1:]:
        assert_same_update(params, found[0][0], other[0])
        assert_same_numbers(other[1], found[0][1])
    assert found[0][1]["grad_norm"] > 1e-2 and found[0][1]["clip_ratio"] > 0


def test_value_loss_and_its_gradient_are_torchs(rng):
    values, old, returns = rng.normal(size=(3, 2, 100)).astype(np.float32)
    ours = lambda v: losses.clipped_value_loss(
        jnp.asarray(v), jnp.asarray(old), jnp.asarray(returns), 0.5
    )
    v, o, r = torch.tensor(values, requires_grad=True), torch.tensor(old), torch.tensor(returns)
    errors = (v - r) ** 2, (o + (v - o).clamp(-0.5, 0.5) - r) ** 2
    loss = 0.5 * torch.maximum(*errors)
    loss.sum().backward()
    assert_same(ours(values)[0], loss.detach())
    assert_same(jax.grad(lambda v: ours(v)[0].sum())(values), v.grad)
    np.testing.assert_array_equal(ours(values)[1], (errors[1] > errors[0]).numpy())
    assert 0.1 < ours(values)[1].mean() < 0.9


def test_by_hand():
    """Old 0, return 1, clip .5: a value of .8 counts as .5; one of .3 as itself; one of -1 as
    itself (the larger error)."""
    loss, clipped = losses.clipped_value_loss(
        jnp.array([[0.8, 0.3, -1.0]]), jnp.zeros((1, 3)), jnp.ones((1, 3)), 0.5
    )
    np.testing.assert_allclose(loss, [[0.125, 0.245, 2.0]], rtol=1e-5)
    assert clipped.tolist() == [[True, False, False]]


def test_it_begins_as_the_policy_with_a_value_of_zero(each_family, mesh):
    params = critic.load(str(each_family.folder), each_family.cfg, mesh)
    assert set(params) == set(each_family.params) - {"head"} | {critic.HEAD}
    assert not params.pop(critic.HEAD).any()
    for name, value in params.items():
        for a, b in zip(
            jax.tree.leaves(value), jax.tree.leaves(each_family.params[name]), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_weight_decay_spares_gains_and_the_value_head(loaded, mesh):
    decayed = parameters.decays(critic.specs(loaded.cfg))
    assert not decayed[critic.HEAD] and decayed["embedding"] and not decayed["final_norm"]


# What a step makes of values and rewards

RIGHT = np.array([[True], [False]])


def reward(*values):
    return {"verifiable": np.array(values)}


def logps(rng):
    """Of two answers, of 3 and 2 tokens, by policy and reference."""
    return ([rng.normal(-1, 0.5, n) for n in (3, 2)] for _ in range(2))


def test_each_token_is_charged_for_leaving_the_initial_policy(rng):
    own, ref = logps(rng)
    charges = advantages_lib.penalties(0.3, own, ref)
    for charge, mine, other in zip(charges, own, ref):
        np.testing.assert_allclose(charge, 0.3 * (mine - other), atol=1e-12)
    cfg = config_lib.Advantage(estimator="critic", whiten=False)
    found = advantages_lib.assign(
        cfg, reward([1.0], [0.0]), charges, [np.zeros(3), np.zeros(2)], RIGHT
    )
    for b, r in enumerate((1.0, 0.0)):  # gamma = lam = 1, V = 0: what is still to come
        np.testing.assert_allclose(
            found.advantages[b], r - np.cumsum(charges[b][::-1])[::-1], atol=1e-9
        )
    assert advantages_lib.penalties(0.0, own, []) is None


def test_without_a_critic_the_whole_answer_is_charged(rng):
    own, ref = logps(rng)
    found = advantages_lib.assign(
        config_lib.Advantage(),
        reward([1.0, 0.0]),
        advantages_lib.penalties(0.3, own, ref),
        [],
        RIGHT.T,
    )
    rewards = np.array([1.0, 0.0]) - [0.3 * (a - b).sum() for a, b in zip(own, ref)]
    np.testing.assert_allclose(found.advantages, rewards - rewards.mean(), atol=1e-9)


def test_advantages_are_whitened_and_the_returns_are_not(rng):
    values = [rng.normal(size=3), rng.normal(size=2)]
    found = advantages_lib.assign(
        config_lib.Advantage(estimator="critic"), reward([1.0], [0.0]), None, values, RIGHT
    )
    every = np.concatenate(found.advantages)
    assert every.mean() == pytest.approx(0, abs=1e-9) and every.std(ddof=1) == pytest.approx(
        1, abs=1e-6
    )
    np.testing.assert_allclose(np.concatenate(found.returns), [1, 1, 1, 0, 0], atol=1e-9)
    assert found.metrics["value/mean"] == pytest.approx(np.concatenate(values).mean())


def test_shares_are_of_the_step_where_a_critic_is_the_baseline():
    rewards = reward([1.0], [0.0]) | {"self_aligned": np.array([[0.1], [0.4]])}
    found = advantages_lib.assign(
        config_lib.Advantage(estimator="critic"), rewards, None, [np.zeros(3), np.zeros(2)], RIGHT
    )
    assert found.metrics["advantage_share/self_aligned"] == pytest.approx(0.15 / 0.65)
    assert not any("all_right" in name for name in found.metrics)  # one answer is no group


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("advantage.estimator", "gae", "'group', 'leave_one_out' or 'critic'"),
        ("advantage.gamma", 1.5, "must be in"),
        ("advantage.lam", -0.1, "must be in"),
        ("critic.lr", 0.0, "greater than 0"),
        ("critic.value_clip", -1.0, "greater than 0"),
        ("loss.average", "mean", "'limit', 'tokens' or 'sequences'"),
        ("critic.warmup_steps", -1, "not be negative"),
        ("advantage.kl_penalty", -0.1, "not be negative"),
        ("lora.rank", -1, "not be negative"),
        ("lora.alpha", 0.0, "greater than 0"),
    ],
)
def test_settings_that_cannot_work(field, value, message):
    config = config_lib.TrainConfig()
    config.model.path, config.data.train = "x", "arithmetic"
    checks.check(config)
    put(config, field, value)
    with pytest.raises(UserError, match=f"config.{field} .*{message}"):
        checks.check(config)


def test_one_answer_a_question_is_a_warning_without_a_critic_alone():
    config = config_lib.TrainConfig(rollout=config_lib.Rollout(samples=1))
    assert any("samples is 1" in w for w in checks.warnings(config))
    config.advantage.estimator = "critic"
    assert not checks.warnings(config)


# Whole runs


def command(workdir, *overrides):
    small_run = small(
        "steps=3",
        "rollout.questions=8",
        "rollout.samples=1",
        "loss.minibatch_questions=4",
        *overrides,
        config="tiny_ppo",
    )
    return ["sar_jax.train", *small_run, f"--workdir={workdir}"]


def train(workdir, *overrides, **how):
    """The run's lines of metrics, by their number."""
    run_command(*command(workdir, *overrides), check=True, **how)
    return read_metrics(workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ppo") / "run"
    return workdir, train(workdir, real=True)


def test_a_run_learns_values_and_says_so(whole):
    workdir, lines = whole
    assert all(np.isfinite(v) for line in lines for v in line.values())
    for name in (
        "value/loss",
        "value/clip_ratio",
        "value/mean",
        "value/grad_norm",
        "time/value",
        "time/critic_update",
        "loss",
    ):
        assert name in lines[1] and name in lines[3]
    assert lines[1]["value/mean"] == 0 and lines[3]["value/mean"] != 0
    assert lines[1]["value/grad_norm"] > 0 and "kl" in lines[1]
    assert [lines[s]["compilations"] for s in (2, 3)] == [0, 0]
    assert any(
        (a != b).any()
        for a, b in zip(state_of(workdir, 1, "critic"), state_of(workdir, 3, "critic"))
    )


def test_resumed_equals_never_stopped_bit_for_bit(whole, tmp_path):
    """After the third step was lost."""
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    shutil.rmtree(workdir / "checkpoints/00000003")
    done = run_command(*command(workdir), check=True)
    assert "resumed at step 2" in done.stdout
    assert_same_state(whole[0], workdir, 3, "state", "critic")
    assert list(map(timeless, read_metrics(workdir))) == list(map(timeless, whole[1]))


def test_warm_up_trains_the_critic_alone_and_a_charge_needs_the_reference(whole, tmp_path):
    lines = train(tmp_path / "run", "critic.warmup_steps=2", "advantage.kl_penalty=0.1")
    assert "loss" not in lines[2] and "loss" in lines[3] and lines[2]["value/loss"] > 0
    policy = [state_of(tmp_path / "run", step) for step in (1, 2, 3)]
    assert all((a == b).all() for a, b in zip(*policy[:2])) and any(
        (a != b).any() for a, b in zip(*policy[1:])
    )
