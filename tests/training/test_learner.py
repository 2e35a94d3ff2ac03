"""One update: independent of micro-batches, packing, padding and devices; AdamW as torch's; bad
gradients are skipped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.oracle import (
    assert_as_close,
    assert_same,
    assert_same_numbers,
    assert_same_update,
)

from sar_jax import config
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.planning import programs
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import packing
from sar_jax.structs import Batch
from sar_jax.training import learner, score

LIMIT = 40  # the answer limit of the Dr.GRPO divisor


def sequences(loaded, rng, count=8):
    size = loaded.cfg.vocab_size
    prompts = [rng.integers(0, size, rng.integers(2, 12)).tolist() for _ in range(count)]
    answers = [rng.integers(0, size, rng.integers(1, 20)).tolist() for _ in range(count)]
    old = [rng.normal(-5, 1, len(a)) for a in answers]
    ref = [rng.normal(-5, 1, len(a)) for a in answers]
    return prompts, answers, rng.normal(size=count), old, ref


def batches(data, width, rows_per_microbatch, order=None):
    """Micro-batches of the same answers, packed as asked."""
    prompts, answers, advantages, old, ref = (
        [x[i] for i in (order or range(len(data[0])))] for x in data
    )
    packed, layout = packing.pack(prompts, answers, width, rows_per_microbatch)
    sampling = [x + 0.3 * np.sin(np.arange(len(x))) for x in old]
    grids = [
        packing.to_grid(x, layout, packed.tokens.shape) for x in (advantages, old, ref, sampling)
    ]
    n = rows_per_microbatch
    return [
        Batch(p, *(g[i * n : (i + 1) * n] for g in grids))
        for i, p in enumerate(packing.microbatches(packed, n))
    ]


_COMPILED = {}  # updates of one device, by their settings


def make(loaded, params=None, loss=None, dtype="float32", **optimizer):
    # Adam's first update is lr * sign(gradient) unless eps is large: then it shows the gradient's
    # size too. The rate is high, so that parameters move much more than they are rounded.
    optimizer = {"lr": 0.1, "eps": 1e-2} | optimizer
    settings = str((loss, dtype, optimizer)) if params is None else None
    optimizer = learner.make_optimizer(
        config.Optimizer(**optimizer), 10, parameters.decayed(loaded.cfg)
    )
    # the update donates them
    params = jax.tree.map(jnp.copy, loaded.params) if params is None else params
    state = learner.init_state(params, optimizer)
    if settings is None or settings not in _COMPILED:
        network = Network(loaded.cfg, dtype)
        loss_fn = learner.make_policy_loss(network, loss or config.Loss(kl=0.1), 8)
        _COMPILED[settings] = learner.make_update(state, optimizer, loss_fn)
    return state, _COMPILED[settings]


def run(loaded, micro, params=None, mesh=None, loss=None):
    """(parameters after one update, metrics)"""
    state, update = make(loaded, params, loss)
    if mesh:
        micro = sharding.place(micro, sharding.by_rows(mesh))
    state, metrics = update(state, micro, 1 / (8 * LIMIT))
    return jax.device_get(state.params), jax.device_get(metrics)


# Whole answers are summed up within rows: that too must not depend on how they lie.
SEQUENCES = config.Loss(
    kl=0.1, average="sequences", ratio="sequence", importance_cap=1.2, kl_estimator="k2"
)


def close(loaded, a, b):
    """Two results of `run`. What the loss sums up cancels in part."""
    assert_same_numbers(a[1], b[1], scale=0.1)
    assert_same_update(loaded.params, a[0], b[0])


@pytest.mark.parametrize(
    "width, rows, order, loss",
    [
        (32, 4, None, None),
        (128, 1, None, None),
        (64, 2, [7, 3, 1, 0, 6, 2, 5, 4], None),
        (64, 2, [7, 3, 1, 0, 6, 2, 5, 4], SEQUENCES),
    ],
)
def test_value_and_update_do_not_depend_on_micro_batches_packing_or_padding(
    loaded, rng, width, rows, order, loss
):
    data = sequences(loaded, rng)
    one_row_each = run(loaded, batches(data, 32, 8), loss=loss)
    other = run(loaded, batches(data, width, rows, order), loss=loss)
    assert abs(one_row_each[1]["loss"]) > 1e-4 and one_row_each[1]["grad_norm"] > 1e-3
    close(loaded, one_row_each, other)


@pytest.mark.parametrize("shape, loss", [((1, 8, 1), None), ((2, 2, 2), SEQUENCES)])
def test_eight_devices_equal_one(loaded, rng, shape, loss):
    micro = batches(
        sequences(loaded, rng), 64 if loss else 32, 8
    )  # 64: several answers share a row
    one = run(loaded, micro, loss=loss)
    mesh = sharding.make_mesh(*shape)
    params = jax.device_put(jax.device_get(loaded.params), loaded.shardings(mesh))
    with jax.set_mesh(mesh):
        close(loaded, one, run(loaded, micro, params, mesh, loss=loss))


def test_moments_are_sharded_like_their_parameters(loaded):
    mesh = sharding.make_mesh(1, 4, 2)
    params = jax.device_put(jax.device_get(loaded.params), loaded.shardings(mesh))
    state, _ = make(loaded, params)
    described = learner.describe_state(
        params, learner.make_optimizer(config.Optimizer(), 10, parameters.decayed(loaded.cfg))
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), described) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.sharding), state
    )
    moments = [
        x
        for x in jax.tree.leaves(state.opt_state)
        if x.shape == state.params["layers"]["q_proj"].shape
    ]
    assert len(moments) == 2
    assert all(m.sharding == state.params["layers"]["q_proj"].sharding for m in moments)


def test_loss_is_the_papers_formula(loaded, rng):
    """Dr.GRPO + KL over ragged answers, summed by hand from the scored logps, divided by answers *
    limit."""
    data = sequences(loaded, rng)
    _, metrics = run(loaded, batches(data, 32, 8))
    prompts, answers, advantages, old, ref = data
    packed, layout = packing.pack(prompts, answers, 32, 8)
    logps = packing.from_grid(
        jax.device_get(score.make_score(loaded.network, 8)(loaded.params, packed).logps), layout
    )
    total = kl_total = 0.0
    for lp, a, o, r in zip(logps, advantages, old, ref):
        for t in range(len(lp)):
            ratio = np.exp(np.clip(lp[t] - o[t], -20, 20))
            value = min(ratio * a, np.clip(ratio, 0.8, 1.2) * a)
            value = max(value, 3 * a) if a < 0 else value
            d = np.clip(r[t] - lp[t], -20, 20)
            kl = np.clip(np.exp(d) - d - 1, -10, 10)
            total += -value + 0.1 * kl
            kl_total += kl
    assert metrics["loss"] == pytest.approx(total / (8 * LIMIT), rel=1e-4)
    assert metrics["kl"] == pytest.approx(kl_total, rel=1e-4)


def test_ratio_leaves_one_and_is_clipped_after_a_large_update(loaded, rng):
    """Old logps are stored once: a second update on the same batch sees another ratio."""
    prompts, answers, advantages, _, ref = sequences(loaded, rng)
    packed, layout = packing.pack(prompts, answers, 32, 8)
    old = packing.from_grid(
        jax.device_get(score.make_score(loaded.network, 8)(loaded.params, packed).logps), layout
    )
    micro = batches((prompts, answers, advantages, old, ref), 32, 8)
    tokens = sum(map(len, answers))
    state, update = make(loaded)
    state, first = update(state, micro, 1 / (8 * LIMIT))
    state, second = update(state, micro, 1 / (8 * LIMIT))
    assert first["ratio"] / tokens == pytest.approx(1, abs=1e-5) and first["clip_ratio"] == 0
    assert abs(second["ratio"] / tokens - 1) > 1e-2 and second["clip_ratio"] > 0


def test_optimizer_equals_torch_adamw_with_clipping(loaded, rng):
    """Five updates of random gradients; norms' gains are not decayed."""
    cfg = config.Optimizer(lr=1e-2, weight_decay=0.3, clip_norm=0.5)
    normal = lambda: {
        "matrix": rng.normal(size=(4, 3)).astype(np.float32),
        "gain": rng.normal(size=3).astype(np.float32),
    }
    params, gradients = normal(), [normal() for _ in range(5)]
    optimizer = learner.make_optimizer(cfg, 5, {"matrix": True, "gain": False})
    ours = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(ours)
    for grads in gradients:
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)

    def theirs(dtype):
        found = {n: torch.tensor(p, dtype=dtype, requires_grad=True) for n, p in params.items()}
        groups = [
            {"params": [found["matrix"]], "weight_decay": 0.3},
            {"params": [found["gain"]], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-8)
        for grads in gradients:
            for n, p in found.items():
                p.grad = torch.tensor(grads[n], dtype=dtype)
            torch.nn.utils.clip_grad_norm_(found.values(), 0.5)
            adamw.step()
        return {n: p.detach().numpy() for n, p in found.items()}

    single, double = theirs(torch.float32), theirs(torch.float64)
    for n in params:
        assert_as_close(ours[n], single[n], double[n])


def test_schedule_warms_up_then_decays_and_is_constant_by_default(loaded):
    def rates(**settings):
        """Learning rates, read off unit gradients: Adam's update is -lr there, at every step."""
        optimizer = learner.make_optimizer(
            config.Optimizer(lr=1.0, weight_decay=0, eps=0, **settings), 8, {"x": True}
        )
        params, found = {"x": jnp.ones(())}, []
        state = optimizer.init(params)
        for _ in range(8):
            updates, state = optimizer.update({"x": jnp.ones(())}, state, params)
            found.append(-float(updates["x"]))
        return np.array(found)

    np.testing.assert_allclose(rates(), 1, rtol=1e-4)  # the first step too
    warm = rates(warmup_updates=4, final_lr_fraction=0.1)
    np.testing.assert_allclose(warm[:4], [0.25, 0.5, 0.75, 1], rtol=1e-4)
    assert (np.diff(warm[4:]) < 0).all() and 0.1 <= warm[-1] < 0.3
    np.testing.assert_allclose(rates(warmup_updates=1), 1, rtol=1e-4)


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(loaded, rng):
    data = sequences(loaded, rng)
    state, update = make(loaded)
    state, _ = update(state, batches(data, 32, 8), 1 / (8 * LIMIT))
    before = jax.device_get(state)
    data[2][3] = np.inf
    state, metrics = update(state, batches(data, 32, 8), 1 / (8 * LIMIT))
    assert not np.isfinite(metrics["grad_norm"])
    assert int(state.skipped) == 1 and int(state.updates) == 1
    jax.tree.map(
        np.testing.assert_array_equal,
        (before.params, before.opt_state),
        jax.device_get((state.params, state.opt_state)),
    )


ROUNDED = {"dtype": "bfloat16", "lr": 1e-6, "eps": 1e-8}


def test_master_weights_keep_an_update_of_a_millionth(loaded, rng):
    """float32 masters under bfloat16 compute: lr 1e-6 moves weights that bfloat16 would leave where
    they are."""
    state, update = make(loaded, **ROUNDED)
    state, _ = update(state, batches(sequences(loaded, rng), 32, 8), 1 / (8 * LIMIT))
    before, after = (
        np.asarray(loaded.params["layers"]["up_proj"]),
        np.asarray(state.params["layers"]["up_proj"]),
    )
    assert after.dtype == np.float32 and (before != after).mean() > 0.5
    assert (before.astype("bfloat16") == after.astype("bfloat16")).mean() > 0.98


def test_first_ratio_is_one_in_bfloat16_too(loaded, rng):
    """Scored with the weights cast beforehand, updated with weights cast at use: the same bfloat16
    numbers."""
    network = Network(loaded.cfg, "bfloat16")
    prompts, answers, advantages, _, ref = sequences(loaded, rng)
    packed, layout = packing.pack(prompts, answers, 32, 8)
    cast = jax.tree.map(lambda x: x.astype("bfloat16"), loaded.params)
    old = packing.from_grid(
        jax.device_get(score.make_score(network, 8)(cast, packed).logps), layout
    )
    state, update = make(loaded, **ROUNDED)
    _, metrics = update(
        state, batches((prompts, answers, advantages, old, ref), 32, 8), 1 / (8 * LIMIT)
    )
    assert (
        metrics["ratio"] / sum(map(len, answers)) == pytest.approx(1, abs=2e-3)
        and metrics["clip_ratio"] == 0
    )


def test_the_sums_are_those_of_the_losses_and_gradients(loaded, rng):
    """Of two micro-batches, on top of what was there."""
    state, update = make(loaded)
    micro = batches(sequences(loaded, rng), 32, 4)[:2]
    assert len(micro) == 2
    loss_fn = learner.make_policy_loss(loaded.network, config.Loss(kl=0.1), 8)
    gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    sums = update.zeros(state.params, micro[0], jnp.float32(1), {})
    assert all(not np.any(x) for x in jax.tree.leaves(sums))
    expected = jax.tree.map(np.asarray, sums)
    for batch in micro:
        sums = update.accumulate(state.params, sums, batch, jnp.float32(0.01), {})
        (loss, metrics), grads = gradient(state.params, batch, jnp.float32(0.01))
        expected = jax.tree.map(np.add, expected, (grads, {"loss": loss, **metrics}))
    jax.tree.map(assert_same, sums[0], expected[0])
    assert_same_numbers(sums[1], expected[1], scale=0.1)


def test_gradients_are_added_where_the_sums_are(loaded):
    """With narrow rows nearly all memory is the parameters and their like: of these there are no
    more than go in."""
    cfg = dataclasses.replace(
        loaded.cfg, num_layers=24, layer_kinds=loaded.cfg.layer_kinds[:1] * 24, ffw_dim=4096
    )
    options = config.TrainConfig(packing=config.Packing(row_tokens=16, rows_per_microbatch=1))
    options.model.dtype = "float32"
    described = programs.describe(options, cfg, sharding.make_mesh(1, 1, 1, jax.devices()[:1]))
    gradient = described.programs["gradient"]
    with jax.sharding.use_abstract_mesh(gradient.mesh.abstract_mesh):
        memory = gradient.lower().compile().memory_analysis()
    size = 4 * parameters.count_params(cfg)
    assert memory.alias_size_in_bytes == pytest.approx(size, rel=0.01)  # the sums
    assert memory.temp_size_in_bytes < 0.5 * size


HALF = {"mu_dtype": "bfloat16"}


def test_one_compilation_for_any_number_of_micro_batches(loaded, rng):
    state, update = make(loaded, **HALF)  # settings with which no test has rows of other sizes
    for count in (2, 5, 8):
        data = sequences(loaded, rng, count)
        state, _ = update(state, batches(data, 32, 4), 1.0)
    functions = (update.zeros, update.accumulate, update.apply)
    assert [function._cache_size() for function in functions] == [1, 1, 1]


def test_group_advantages_sum_to_zero(rng):
    advantages = advantages_lib.group_advantages(rng.normal(size=(5, 4)))
    np.testing.assert_allclose(advantages.sum(axis=1), 0, atol=1e-12)


def test_a_rounded_first_moment_is_half_as_large_and_hardly_another_update(loaded, rng):
    """Of `mu_dtype`: the moments' dtypes, and a second update, which is the first to read what was
    rounded."""
    micro = batches(sequences(loaded, rng), 32, 4)

    def after_two(**settings):
        state, update = make(loaded, **settings)
        for _ in range(2):
            state, _ = update(state, micro, 1 / (8 * LIMIT))
        dtypes = {str(x.dtype) for x in jax.tree.leaves(state.opt_state) if x.ndim}
        return jax.device_get(state.params), dtypes

    (whole, whole_types), (rounded, rounded_types) = after_two(), after_two(**HALF)
    assert whole_types == {"float32"} and rounded_types == {"float32", "bfloat16"}
    start = jax.device_get(loaded.params)
    for a, b, s in zip(*map(jax.tree.leaves, (whole, rounded, start))):
        moved = np.abs(a - s).max()
        assert np.abs(a - b).max() < 0.02 * moved + 1e-9
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(rounded)))
