"""Adapters: the product that they stand for, by hand; gradients by the chain rule; runs that keep
and export them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from support.commands import ROOT, run_command
from support.oracle import assert_same, assert_same_numbers, assert_same_update
from support.training import read_metrics, shipped, small

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import lora, parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.rl import packing
from sar_jax.training import learner, score
from sar_jax.training.commands import explained, exported, trained
from sar_jax.training.settings import checks

RANK, ALPHA = 3, 6.0
LETTERS = {
    "q_proj": "Dr,rNH->DNH",
    "k_proj": "Dr,rKH->DKH",
    "v_proj": "Dr,rKH->DKH",
    "o_proj": "NHr,rD->NHD",
    "gate_proj": "Dr,rF->DF",
    "up_proj": "Dr,rF->DF",
    "down_proj": "Fr,rD->FD",
}


def settings(**changes):
    return config_lib.Lora(rank=RANK, alpha=ALPHA, **changes)


def random_adapters(cfg, rng):
    """B differs from 0, so that it shows."""
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0, 0.1, x.shape), jnp.float32),
        jax.eval_shape(lambda: lora.init(cfg, jax.random.key(0))),
    )


def by_hand(base, adapters):
    """Every matrix of every layer with its product added, in numpy."""
    layers = dict(base["layers"])
    for name, letters in LETTERS.items():
        if f"{name}_a" in adapters["layers"]:
            a, b = (np.asarray(adapters["layers"][f"{name}_{part}"], np.float64) for part in "ab")
            product = np.stack([np.einsum(letters, a[l], b[l]) for l in range(len(a))])
            layers[name] = jnp.asarray(
                np.asarray(layers[name]) + ALPHA / RANK * product, jnp.float32
            )
    return base | {"layers": layers}


def rows(cfg, rng):
    ids = lambda n: rng.integers(0, cfg.vocab_size, n).tolist()
    return packing.pack([ids(5), ids(3), ids(9)], [ids(4), ids(8), ids(2)], 24, 2)[0]


@pytest.mark.few_families
def test_a_model_with_adapters_is_the_model_with_their_products_added(each_family, rng):
    cfg = lora.adapted(each_family.cfg, settings())
    adapters, packed = random_adapters(cfg, rng), rows(each_family.cfg, rng)
    scorers = {c: score.make_score(Network(c), 32) for c in (cfg, each_family.cfg)}
    logps = lambda cfg, params: np.asarray(scorers[cfg](params, packed).logps)
    ours = logps(cfg, lora.merged(each_family.params, adapters))
    expected = logps(each_family.cfg, by_hand(each_family.params, adapters))
    assert_same(ours, expected)
    folded = jax.jit(lora.folded, static_argnums=0)(cfg, each_family.params, adapters)
    assert_same(logps(each_family.cfg, folded), expected)
    plain = logps(each_family.cfg, each_family.params)
    assert np.abs(plain - expected).max() > 1e-2
    new = jax.jit(lora.init, static_argnums=0)(cfg, jax.random.key(1))
    # training begins at the base
    np.testing.assert_array_equal(logps(cfg, lora.merged(each_family.params, new)), plain)


def test_only_the_targets_have_adapters(loaded, rng):
    cfg = lora.adapted(loaded.cfg, settings(targets="q_proj, down_proj"))
    adapters = random_adapters(cfg, rng)
    assert set(adapters["layers"]) == {"q_proj_a", "q_proj_b", "down_proj_a", "down_proj_b"}
    folded = jax.jit(lora.folded, static_argnums=0)(cfg, loaded.params, adapters)
    for name, value in by_hand(loaded.params, adapters)["layers"].items():
        assert_same(folded["layers"][name], value)


def gradients(network, params, frozen, packed):
    def loss(params):
        scores = score.score_rows(network, lora.merged(frozen, params), packed, 32)
        return jnp.sin(scores.logps).sum()

    packed = jax.tree.map(jnp.asarray, packed)
    return jax.jit(jax.grad(loss))(params)


@pytest.mark.parametrize("narrow_first", [False, True])
def test_gradients_are_the_chain_rule_on_the_full_gradient(loaded, rng, narrow_first):
    """dA = scale dW B', dB = scale A' dW, with dW of the model that has the products in its
    weights."""
    cfg, packed = lora.adapted(loaded.cfg, settings()), rows(loaded.cfg, rng)
    adapters = random_adapters(cfg, rng)
    network, plain = Network(cfg, narrow_first=narrow_first), Network(loaded.cfg)
    full = gradients(plain, by_hand(loaded.params, adapters), {}, packed)["layers"]
    found = gradients(network, adapters, loaded.params, packed)["layers"]
    for name in cfg.adapter.targets:
        a, b = (np.asarray(adapters["layers"][f"{name}_{part}"]) for part in "ab")
        for l in range(len(a)):
            A, B = a[l].reshape(-1, RANK), b[l].reshape(RANK, -1)
            dW = np.asarray(full[name][l]).reshape(len(A), -1)
            assert_same(found[f"{name}_a"][l].reshape(A.shape), ALPHA / RANK * dW @ B.T)
            assert_same(found[f"{name}_b"][l].reshape(B.shape), ALPHA / RANK * A.T @ dW)
    assert max(np.abs(x).max() for x in jax.tree.leaves(found)) > 1e-2


def test_eight_devices_equal_one(loaded, rng):
    cfg, packed = lora.adapted(loaded.cfg, settings()), rows(loaded.cfg, rng)
    packed = jax.tree.map(lambda x: np.tile(x, (4, 1))[:8], packed)
    adapters = jax.device_get(random_adapters(cfg, rng))

    def updated(mesh):
        params = jax.device_put(adapters, sharding.param_shardings(lora.specs(cfg), mesh))
        base = jax.device_put(jax.device_get(loaded.params), loaded.shardings(mesh))
        optimizer = learner.make_optimizer(
            config_lib.Optimizer(lr=1e-3, eps=1e-2), 10, parameters.decays(lora.specs(cfg))
        )
        state = learner.init_state(params, optimizer)
        update = learner.make_update(
            state, optimizer, learner.make_supervised_loss(Network(cfg), 32)
        )
        with jax.set_mesh(mesh):
            state, metrics = update(
                state, [sharding.place(packed, sharding.by_rows(mesh))], 1e-2, base
            )
        return jax.device_get((state.params, metrics))

    one, eight = updated(loaded.mesh), updated(sharding.make_mesh(2, 2, 2))
    assert_same_update(adapters, one[0], eight[0])
    assert_same_numbers(one[1], eight[1])
    assert set(one[0]) == {"layers"} and one[1]["grad_norm"] > 1e-3


@pytest.mark.parametrize("targets", ["", "q_proj,head", "attn_norm", "q_bias"])
def test_targets_that_are_no_matrices(loaded, targets):
    with pytest.raises(UserError, match="config.lora.targets .* q_proj, k_proj"):
        lora.adapted(loaded.cfg, settings(targets=targets))


def test_a_reference_cannot_wait_in_host_memory():
    config = config_lib.TrainConfig(lora=config_lib.Lora(rank=4))
    config.model = dataclasses.replace(config.model, path="x", offload_reference=True)
    config.data.train = "arithmetic"
    with pytest.raises(UserError, match="offload_reference"):
        checks.check(config)


# A whole run


def test_a_run_resumes_and_exports_what_it_decoded_with(tmp_path, mesh):
    """The checkpoint holds adapters alone; the exported model is the base with their products."""
    import torch
    from transformers import AutoModelForCausalLM

    workdir, out = tmp_path / "run", tmp_path / "hf"
    train = lambda steps: run_command(
        "sar_jax.train",
        *small(f"steps={steps}", "lora.rank=4", "optimizer.lr=0.01"),
        f"--workdir={workdir}",
        check=True,
    )
    train(1)
    assert "resumed at step 1" in train(2).stdout
    lines = read_metrics(workdir)
    assert lines[-1]["step"] == 2 and lines[-1]["sampling/logp_difference/max"] < 1e-4
    assert lines[-1]["kl"] > lines[1]["kl"] >= 0 and lines[-1]["grad_norm"] > 0
    stored = sum(
        f.stat().st_size for f in (workdir / "checkpoints/00000002/state").rglob("*") if f.is_file()
    )
    base = sum(f.stat().st_size for f in (ROOT / "sar_jax/assets/tiny").glob("*.safetensors"))
    assert stored < base
    exported.export(epath.Path(workdir), out, dtype="float32")
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(f) for f in (out, ROOT / "sar_jax/assets/tiny")
    )
    changed = [
        n
        for (n, a), b in zip(ours.named_parameters(), theirs.parameters())
        if not torch.equal(a, b.to(a.dtype))
    ]
    assert changed and all("proj" in name for name in changed)
    # what the exported model says of an answer is what the run's score says
    found = []
    for source in (workdir, out):
        model = trained.locate(str(source), None, shipped("tiny"))
        params = trained.load_params(model, mesh, "float32")
        rows = [{"question": "What is 2 + 2?", "answer": "2 + 2 = 4"}]
        with jax.set_mesh(mesh):
            found += explained.explain(rows, params, model.cfg, model.tokenizer, model.config)
    assert found[0]["ppl_conditional"] == pytest.approx(found[1]["ppl_conditional"], rel=1e-5)
