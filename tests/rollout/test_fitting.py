"""rollout.slots="auto": as many as fit, by the compiler, and not one more."""

import dataclasses

import jax
import pytest
from support.configs import good

from sar_jax.errors import UserError
from sar_jax.model import int8, parameters
from sar_jax.parallel import memory, sharding
from sar_jax.rollout import described, fitting
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.structs import Sampling


def config_of(**rollout):
    config = good()
    config.model.dtype = "float32"
    config.rollout.questions, config.rollout.samples = 16, 4
    config.rollout.max_answer_tokens, config.data.max_prompt_tokens = 200, 56
    for name, value in rollout.items():
        setattr(config.rollout, name, value)
    return config


def taken(config, network, mesh, slots):
    """Bytes of a device during the largest of the decoder's programs."""
    specs = parameters.param_specs(network.cfg)
    placed = sharding.param_shardings(specs, mesh, sharding.DECODING_RULES)
    weights = parameters.describe(specs, placed, network.dtype)
    decoder = described.Decoder.of(fitting.with_slots(config, slots), network, mesh)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return max(
            memory.program_bytes(program.lower().compile()) + program.beside
            for program in decoder.programs(weights, (0,), Sampling.of(config)).values()
        )


@pytest.mark.parametrize("devices", [1, 4])
def test_what_fits_is_the_most_that_fits(loaded, devices):
    mesh = sharding.make_mesh(1, devices, 1, jax.devices()[:devices])
    config, network = config_of(slots="auto"), loaded.network
    free = taken(config, network, mesh, 32)
    found = fitting.fit(config, network, mesh, free)
    assert found.taken <= free and found.slots % devices == 0
    assert found.taken == taken(config, network, mesh, found.slots)
    assert 32 - 8 * devices <= found.slots <= 64  # whole eights a device, where there are more
    assert found.slots % (8 * devices) == 0 or found.slots < 8 * devices
    if found.slots < 64:
        more = max(found.slots // 16, 8 * devices) + devices
        assert taken(config, network, mesh, found.slots + more) > free
    less = fitting.fit(config, network, mesh, found.taken - 1)
    assert less.slots < found.slots and less.taken < found.taken


def test_no_more_slots_than_answers_and_none_that_do_not_fit(loaded, mesh):
    config = config_of(slots="auto")
    assert fitting.fit(config, loaded.network, mesh, 2**34).slots == 16 * 4
    with pytest.raises(UserError, match="slots is auto, but not one fits: .*precision=int8"):
        fitting.fit(config, loaded.network, mesh, 2**16)


def test_rounded_weights_and_cache_leave_room_for_more(loaded, mesh):
    plain = config_of(slots="auto")
    light = config_of(slots="auto", weights_dtype="int8", cache_dtype="int8")
    rounded = dataclasses.replace(loaded.network, cfg=int8.described(loaded.cfg, "int8"))
    free = 0.4 * taken(plain, loaded.network, mesh, 64)
    slots = [
        fitting.fit(*each, mesh, free).slots for each in ((plain, loaded.network), (light, rounded))
    ]
    assert slots[1] > 1.3 * slots[0]


def test_the_arithmetic_is_that_of_a_number_that_is_given(loaded, mesh):
    """What `most` finds, `check_slots` accepts; one more a device it refuses."""
    config, network = config_of(slots="auto"), loaded.network
    free = int(5.5 * shapes_lib.slot_bytes(fitting.with_slots(config, 64), network, 1, 1))
    found = fitting.with_slots(config, fitting.most(config, network, mesh, free))
    shapes_lib.check_slots(found, network, 1, 1, free)
    with pytest.raises(UserError, match="slots fit"):
        more = fitting.with_slots(config, found.rollout.slots + 1)
        shapes_lib.check_slots(more, network, 1, 1, free)


def test_logits_that_no_memory_holds_are_not_kept(loaded):
    """4 bytes for each of a micro-batch's tokens and entries; without keeping, the same rows are
    fine."""
    mesh = sharding.make_mesh(1, -1, 1)
    config, kept = config_of(), dataclasses.replace(loaded.network, keep_logits=True)
    available = mesh.size * shapes_lib.device_bytes(mesh)
    config.packing.row_tokens = 256
    most = available // (4 * 256 * loaded.cfg.vocab_size)
    config.packing.rows_per_microbatch = most + 1
    shapes_lib.check_microbatch(config.packing, loaded.network, mesh)
    with pytest.raises(UserError, match="^config.model.keep_logits: .* use false"):
        shapes_lib.check_microbatch(config.packing, kept, mesh)
    config.packing.rows_per_microbatch = most
    shapes_lib.check_microbatch(config.packing, kept, mesh)
