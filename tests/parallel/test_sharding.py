"""Meshes and what is spread over them: eight devices compute what one does, in every family;
decoding gathers no weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.oracle import assert_same

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.planning import hlo, programs
from sar_jax.rl import packing
from sar_jax.rollout import sampler, slots
from sar_jax.structs import Batch, Sampling
from sar_jax.training import handover, learner, score

MESHES = [(1, 8, 1), (2, 2, 2), (1, 4, 2)]  # test_train and test_score use others of them


def test_a_decoding_mesh_holds_the_same_devices_in_the_same_order():
    for sizes in MESHES:
        mesh = sharding.make_mesh(*sizes)
        for tensor in (1, 2, 4):
            made = sharding.decoding_mesh(mesh, tensor, 8)
            assert list(made.devices.flat) == list(mesh.devices.flat)
            assert made.shape["tensor"] == tensor and made.shape["data"] == sizes[0]


@pytest.mark.parametrize("kv_heads, expected", [(1, 1), (2, 2), (6, 2), (8, 8), (32, 8)])
def test_by_default_as_many_devices_share_a_copy_as_divide_the_kv_heads(kv_heads, expected):
    assert (
        sharding.decoding_mesh(sharding.make_mesh(1, 8, 1), -1, kv_heads).shape["tensor"]
        == expected
    )


@pytest.mark.parametrize("tensor, kv_heads", [(16, 16), (3, 3), (4, 2), (8, 4)])
def test_a_decoding_mesh_that_cannot_be_is_refused(tensor, kv_heads):
    with pytest.raises(
        UserError, match=f"config.rollout.tensor is {tensor}: it must divide the 8 devices"
    ):
        sharding.decoding_mesh(sharding.make_mesh(1, 8, 1), tensor, kv_heads)


def test_more_tensor_devices_than_kv_heads_are_refused():
    sharding.check_tensor(sharding.make_mesh(1, 4, 2), 2)
    with pytest.raises(UserError, match="config.mesh.tensor is 4: the model has 2 kv heads"):
        sharding.check_tensor(sharding.make_mesh(1, 2, 4), 2)


@pytest.mark.parametrize("sizes", [(3, -1, 1), (-1, -1, 1), (0, 8, 1), (2, 2, 1), (16, 1, 1)])
def test_a_mesh_that_does_not_multiply_to_the_devices_is_refused(sizes):
    with pytest.raises(UserError, match="config.mesh"):
        sharding.make_mesh(*sizes)


@pytest.mark.few_families
@pytest.mark.parametrize(
    "sizes, tensor",
    [((1, 8, 1), -1), ((2, 4, 1), 2), ((1, 4, 2), 2), ((2, 2, 2), 1), ((1, 1, 2), -1)],
)
def test_handed_over_weights_are_the_cast_masters(each_family, sizes, tensor):
    cfg = each_family.cfg
    mesh = sharding.make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    if tensor > 1 and cfg.num_kv_heads % tensor:
        tensor = 1
    decoding = sharding.decoding_mesh(mesh, tensor, cfg.num_kv_heads)
    masters = jax.device_put(each_family.params, each_family.shardings(mesh))
    hand_over = handover.make_hand_over(cfg, mesh, decoding, "bfloat16")
    hand_over = hand_over or handover.make_cast(parameters.param_specs(cfg), mesh, "bfloat16")
    weights = hand_over(masters)
    for master, weight in zip(jax.tree.leaves(each_family.params), jax.tree.leaves(weights)):
        np.testing.assert_array_equal(np.asarray(weight), np.asarray(master.astype(jnp.bfloat16)))
        assert all(
            axis in (None, "tensor") or decoding.shape[axis] == 1 for axis in weight.sharding.spec
        )


def test_what_changes_nothing_is_no_function(loaded, mesh):
    """float32 weights are the masters; on the same mesh, the decoder takes what the scorer does."""
    specs = parameters.param_specs(loaded.cfg)
    assert handover.make_cast(specs, mesh, "float32") is None
    cast = handover.make_cast(specs, mesh, "bfloat16")
    for master, weight in zip(*map(jax.tree.leaves, (loaded.params, cast(loaded.params)))):
        np.testing.assert_array_equal(np.asarray(weight), np.asarray(master.astype(jnp.bfloat16)))
    assert handover.make_hand_over(loaded.cfg, mesh, mesh, "bfloat16") is None


def big_enough(cfg):
    """The same family with sizes that eight devices divide."""
    sizes = {"embed_dim": 64, "num_heads": 8, "num_kv_heads": 8, "ffw_dim": 64, "vocab_size": 320}
    return cfg.__class__(**{**vars(cfg), **sizes})


def test_the_hand_over_moves_what_changes_hands_and_no_more(loaded):
    """From eight blocks along one dimension to eight along another: seven eighths of a device's own
    part."""
    cfg = big_enough(loaded.cfg)
    mesh = sharding.make_mesh(1, 8, 1)
    decoding = sharding.decoding_mesh(mesh, 8, 8)
    hand_over = handover.make_hand_over(cfg, mesh, decoding, "float32")
    masters = parameters.describe_params(
        cfg, sharding.param_shardings(parameters.param_specs(cfg), mesh)
    )
    sent = hlo.collective_bytes(hand_over.lower(masters).compile().as_text(), 8)
    size = 4 * parameters.count_params(cfg) / 8
    assert 0.7 * size < sum(sent.values()) < 1.1 * size


def test_decoding_gathers_no_weights(loaded):
    """What a decoding step sends grows with the answers, not with the model."""
    cfg = big_enough(loaded.cfg)
    mesh = sharding.decoding_mesh(sharding.make_mesh(1, 8, 1), 8, 8)
    params = parameters.describe_params(
        cfg, sharding.param_shardings(parameters.param_specs(cfg), mesh, sharding.DECODING_RULES)
    )
    network = Network(cfg, "float32")

    with jax.set_mesh(mesh):
        state = slots.create(network, 2, 16, "float32")
        text = (
            slots.decode.lower(
                network,
                params,
                state,
                np.int32(4),
                np.int32(0),
                np.bool_(False),
                stop_ids=(1,),
                sampling=Sampling(),
            )
            .compile()
            .as_text()
        )
    a_step = hlo.collective_bytes(text, 8)  # the loop's body: how often it runs is not known before
    assert a_step.get("all-gather", 0) < 0.05 * 4 * parameters.count_params(cfg)
    assert sum(a_step.values()) > 0


def places(mesh, packed, extra=()):
    return sharding.place((packed, *extra), sharding.by_rows(mesh))


@pytest.mark.few_families
def test_eight_devices_compute_what_one_does(each_family, rng):
    """Scores, gradients and greedy answers of every family; sizes that do not divide are
    replicated. The eight keep their logits."""
    loaded = each_family
    sizes = (2, 2, 2) if loaded.cfg.num_kv_heads > 1 else (2, 4, 1)
    prompts = [
        rng.integers(0, loaded.cfg.vocab_size, rng.integers(3, 12)).tolist() for _ in range(80)
    ]
    answers = [
        rng.integers(0, loaded.cfg.vocab_size, rng.integers(3, 12)).tolist() for _ in range(80)
    ]
    packed, _ = packing.pack(prompts, answers, 160, 8)
    grid = rng.normal(size=packed.tokens.shape).astype(np.float32)
    scorer = score.make_score(loaded.network, 64)
    ids = np.array([p[:3] for p in prompts[:8]], np.int32)
    decode = sampler.Sample(loaded.network, loaded.stop, 1, 6, greedy=True, slots=8)
    rows = (ids, np.full(8, 3, np.int32), np.arange(8, dtype=np.int32))

    def everything(mesh, decoding):
        params = jax.device_put(loaded.params, loaded.shardings(mesh))
        with jax.set_mesh(mesh):
            placed = places(mesh, packed)[0]
            scores = jax.device_get(scorer(params, placed))
            batch = Batch(*places(mesh, packed, (grid, scores.logps + 0.1 * grid, scores.logps)))
            network = dataclasses.replace(loaded.network, keep_logits=mesh.size > 1)
            loss = learner.make_policy_loss(network, config_lib.Loss(kl=0.1), 64)
            gradient = jax.jit(jax.value_and_grad(lambda p, b: loss(p, b, jnp.float32(0.01))[0]))
            value, grads = jax.device_get(gradient(params, batch))
        hand_over = handover.make_hand_over(loaded.cfg, mesh, decoding, "float32")
        weights = hand_over(params) if hand_over else params
        return scores, value, grads, decode(weights, *rows, jax.random.key(0))

    mesh = sharding.make_mesh(*sizes)
    one = everything(loaded.mesh, loaded.mesh)
    eight = everything(mesh, sharding.decoding_mesh(mesh, -1, loaded.cfg.num_kv_heads))
    assert_same(eight[0].logps, one[0].logps)
    assert_same(eight[1], one[1], scale=0.01 * np.abs(grid).sum())
    jax.tree.map(assert_same, eight[2], one[2])
    np.testing.assert_array_equal(eight[3].tokens, one[3].tokens)
    assert_same(eight[3].logps, one[3].logps)


@pytest.mark.parametrize("sizes", [(1, 8, 1), (1, 4, 2)])
def test_a_lookups_gradient_is_not_put_together(sizes, rng):
    """It is what one device computes, and under half of the table is sent; that of a constraint
    sends most of it twice."""
    mesh, V, D = sharding.make_mesh(*sizes), 512, 32
    table, down = (
        rng.normal(size=(V, D)).astype(np.float32),
        rng.normal(size=(8, 4, D)).astype(np.float32),
    )
    tokens = rng.integers(0, V, (8, 4))
    expected = np.zeros_like(table)
    np.add.at(expected, tokens, down)

    def gradient(table, tokens, down):
        look_up = lambda table: sharding.gathered(table, (None, None), (None, "fsdp"))[tokens]
        return jax.vjp(look_up, table)[1](sharding.constrain(down, sharding.BATCH, None, None))[0]

    parts = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "fsdp"))
    arrays = jax.device_put(table, parts), *sharding.place((tokens, down), sharding.by_rows(mesh))
    with jax.set_mesh(mesh):
        compiled = jax.jit(gradient).lower(*arrays).compile()
        found = compiled(*arrays)
    assert found.sharding.is_equivalent_to(parts, 2)
    assert_same(found, expected)
    assert sum(hlo.collective_bytes(compiled.as_text(), 8).values()) < 0.5 * table.nbytes


def test_of_the_embedding_only_the_tokens_gradients_are_sent(loaded):
    """All other parameters' gradients are summed over the devices (on CPUs by all-reduces)."""
    cfg = dataclasses.replace(loaded.cfg, vocab_size=8192, tied=False)
    config = config_lib.TrainConfig(
        packing=config_lib.Packing(row_tokens=32, rows_per_microbatch=8)
    )
    config.model.dtype = "float32"
    gradient = programs.describe(config, cfg, sharding.make_mesh(1, 8, 1)).programs["gradient"]
    with jax.sharding.use_abstract_mesh(gradient.mesh.abstract_mesh):
        sent = hlo.collective_bytes(gradient.lower().compile().as_text(), 8)
    others = parameters.count_params(cfg) - cfg.vocab_size * cfg.embed_dim
    assert sent["all-reduce"] == pytest.approx(4 * others * 2 * 7 / 8, rel=0.05)
