"""Bytes that a compiled program sends, against what is known by hand."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import PartitionSpec as P

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.parallel import chips, sharding
from sar_jax.planning import hlo, programs


def sent(function, *shapes, mesh=None):
    mesh = mesh or sharding.make_mesh(1, 8, 1)
    whole = jax.shard_map(
        function, mesh=mesh, in_specs=P("fsdp"), out_specs=P("fsdp"), check_vma=False
    )
    described = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    return hlo.collective_bytes(jax.jit(whole).lower(*described).compile().as_text(), 8)


def test_bytes_of_each_collective_in_a_ring_of_eight():
    part = 4 * 16 * 128  # of one device, of [128, 128] float32
    gather = lambda x: jax.lax.all_gather(x, "fsdp", tiled=True)[:16] * 2
    assert sent(gather, (128, 128)) == {"all-gather": 7 * part}
    assert sent(lambda x: jax.lax.psum(x, "fsdp"), (128, 128)) == {"all-reduce": 2 * part * 7 / 8}
    scatter = lambda x: jax.lax.psum_scatter(x, "fsdp", tiled=True)
    assert sent(scatter, (1024, 128)) == {"reduce-scatter": 7 * part}
    swap = lambda x: jax.lax.all_to_all(x, "fsdp", 1, 0, tiled=True).reshape(16, 128)
    assert sent(swap, (128, 128)) == {"all-to-all": part * 7 / 8}
    shift = lambda x: jax.lax.ppermute(x, "fsdp", [(i, (i + 1) % 8) for i in range(8)])
    assert sent(shift, (128, 128)) == {"collective-permute": part}


@pytest.mark.parametrize("trips", [1, 3, 20])
def test_a_loop_sends_as_often_as_it_runs(trips):
    body = lambda x, _: (jax.lax.psum(x, "fsdp") * 0.1, None)
    loop = lambda x: jax.lax.scan(body, x, None, length=trips)[0]
    assert sent(loop, (128, 128)) == {"all-reduce": trips * 2 * 4 * 16 * 128 * 7 / 8}


def test_only_a_group_takes_part():
    mesh = sharding.make_mesh(4, 2, 1)
    assert sent(lambda x: jax.lax.psum(x, "fsdp"), (128, 128), mesh=mesh) == {
        "all-reduce": 2 * 4 * 64 * 128 / 2
    }


SCHEDULED = """
HloModule m, is_scheduled=true
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %s = f32[] add(%a, %b)
}
%cond (state: (u32[], bf16[8,4])) -> pred[] {
  %bound = u32[]{:T(128)} constant(8)
  %state = (u32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %less = pred[]{:T(512)} compare(%i, %bound), direction=LT
}
%body (state.1: (u32[], bf16[8,4])) -> (u32[], bf16[8,4]) {
  %two = u32[]{:T(128)} constant(2)
  %state.1 = (u32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %i.1 = u32[]{:T(128)} get-tuple-element(%state.1), index=0
  %x = bf16[8,4]{1,0} get-tuple-element(%state.1), index=1
  %start = (bf16[8,4]{1,0}, bf16[8,4]{1,0}, u32[], u32[]) collective-permute-start(%x), channel_id=3
  %done = bf16[8,4]{1,0} collective-permute-done(%start)
  %f = bf16[8,4]{1,0} fusion(%done), kind=kCustom, calls=%piece.1
  %i.2 = u32[]{:T(128)} add(%i.1, %two)
  ROOT %out = (u32[]{:T(128)}, bf16[8,4]{1,0}) tuple(%i.2, %f)
}
%piece.1 (p: bf16[8,4]) -> bf16[64,4] {
  ROOT %g.1 = bf16[64,4]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['axis_0'=8] {'axis_0'}, dimensions={0}
}
%piece.2 (p.2: bf16[8,4]) -> bf16[64,4] {
  ROOT %g.2 = bf16[64,4]{1,0} all-gather(%p.2), channel_id=7, replica_groups=mesh['axis_0'=8] {'axis_0'}, dimensions={0}
}
ENTRY %main (y: bf16[8,4]) -> bf16[64,4] {
  %y = bf16[8,4]{1,0} parameter(0)
  %zero = u32[] constant(0)
  %init = (u32[], bf16[8,4]{1,0}) tuple(%zero, %y)
  %loop = (u32[]{:T(128)}, bf16[8,4]{1,0}) while(%init), condition=%cond, body=%body, metadata={op_name="x"}
  %last = bf16[8,4]{1,0} get-tuple-element(%loop), index=1
  ROOT %whole = bf16[64,4]{1,0} fusion(%last), kind=kCustom, calls=%piece.2
}
"""  # noqa: E501


def test_a_scheduled_program_s_unrolled_loop_and_its_gather_in_pieces():
    """A counter to 8 in steps of 2 is four trips; one channel in two places is one collective."""
    assert hlo.collective_bytes(SCHEDULED, 8) == {
        "collective-permute": 4 * 64,
        "all-gather": 512 * 7 / 8,
    }


# As TPU7x has them: a collective in a computation that another core of the chip is given.
ELSEWHERE = """
%sum (a: bf16[], b: bf16[]) -> bf16[] {
  ROOT %c = bf16[] add(%a, %b)
}
%called.1 (p: bf16[8,4]) -> bf16[8,4] {
  ROOT %r = bf16[8,4]{1,0} all-reduce(%p), channel_id=2, replica_groups=[1,8]<=[8], to_apply=%sum
}, execution_thread="sparsecore"
ENTRY %main (y: bf16[8,4]) -> bf16[8,4] {
  %y = bf16[8,4]{1,0} parameter(0)
  %start = ((bf16[8,4]), bf16[8,4], s32[99]) custom-call-start(%y), called_computations={%called.1}
  %update = ((bf16[8,4]), bf16[8,4], s32[99]) custom-call-update(%start)
  ROOT %done = bf16[8,4]{1,0} custom-call-done(%update)
}
"""


def test_what_another_core_sends_counts():
    assert hlo.collective_bytes(ELSEWHERE, 8) == {"all-reduce": 2 * 64 * 7 / 8}


def test_a_sum_of_which_each_chip_keeps_a_part_is_a_reduce_scatter(tpu_compiler):
    """The TPU compiler writes it as an all-reduce inside a fusion, and sends half as much."""
    mesh = sharding.make_mesh(1, 8, 1, chips.describe("v6e:2x4").devices)
    x = jax.ShapeDtypeStruct((8, 1024, 512), jnp.float32, sharding=sharding.by_rows(mesh))
    kept = jax.sharding.NamedSharding(mesh, P("fsdp"))
    text = jax.jit(lambda x: jnp.sin(x).sum(0), out_shardings=kept).lower(x).compile().as_text()
    assert " all-reduce(" in text and hlo.collective_bytes(text, 8) == {
        "reduce-scatter": 4 * 1024 * 512 * 7 / 8
    }


def test_across_slices_goes_data_and_nothing_else(tpu_compiler):
    """Two slices of eight chips: each holds all parameters; with any part of the mesh left for the
    slices it is an error."""
    chips.describe("v6e:2x2")  # or its error
    devices = list(
        topologies.get_topology_desc(platform="tpu", topology_name="v6e:2x4", num_slices=2).devices
    )
    for sizes in ((2, -1, 1), (4, 2, -1), (-1, 1, 2)):
        mesh = sharding.make_mesh(*sizes, devices)
        assert all(len({device.slice_index for device in row.flat}) == 1 for row in mesh.devices)
        assert mesh.size == 16 and set(mesh.devices.flat) == set(devices)
    for sizes in ((1, -1, 1), (1, 8, 2)):
        with pytest.raises(UserError, match="to 2 slices, so data must be a multiple of 2"):
            sharding.make_mesh(*sizes, devices)


def test_what_slices_tell_each_other_are_sums(loaded, tpu_compiler):
    """Weights are gathered within a slice; between them go the sums of gradients and metrics."""
    chips.describe("v6e:2x2")
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name="v6e:2x2", num_slices=2
    ).devices
    config = config_lib.TrainConfig(
        packing=config_lib.Packing(row_tokens=128, rows_per_microbatch=8)
    )
    mesh = sharding.make_mesh(2, -1, 1, list(devices))
    gradient = programs.describe(config, loaded.cfg, mesh).programs["gradient"]
    with jax.sharding.use_abstract_mesh(gradient.mesh.abstract_mesh):
        text = gradient.lower().compile().as_text()
    assert " all-gather(" in text
    assert set(re.findall(r'_xla_host_transfer_rendezvous="([a-z-]+)', text)) == {"all-reduce"}


@pytest.mark.parametrize("sizes", [(4, -1, 1), (2, 4, -1)])
def test_a_mesh_may_split_what_is_one_line_of_chips(tpu_compiler, sizes):
    assert sharding.make_mesh(*sizes, chips.describe("v6e:8x8").devices).size == 64
