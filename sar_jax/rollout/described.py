"""The decoder's programs from shapes alone, before any array exists: what a call of it compiles.

    Decoder.of(config, network, mesh).programs(weights, stop_ids, sampling)

    name      arguments                           what else of the decoder is in memory meanwhile
    prefill   weights, packed questions           cache
    insert    cache, packed keys and values       weights
    decode    weights, cache                      keys and values of questions that wait
    shrink    cache                               weights; keys and values of questions, while all
                                                  shapes are compiled

Copies of the smaller sizes are left out: they need less.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sar_jax.config import TrainConfig
from sar_jax.model import cache as cache_lib
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout import slots
from sar_jax.structs import Sampling


class Program(NamedTuple):
    """A function to compile.

    lower    traces it, under the decoder's mesh
    beside   bytes a device that the decoder has in memory beside its arguments
    """

    lower: Callable[[], jax.stages.Lowered]
    beside: int


class Decoder(NamedTuple):
    """The decoder with all its slots and all their columns. mesh: its devices need not exist."""

    network: Network
    mesh: Mesh
    shapes: shapes_lib.Shapes
    state: slots.State

    @staticmethod
    def of(config: TrainConfig, network: Network, mesh: Mesh) -> "Decoder":
        """network: as the decoder has it."""
        shapes = shapes_lib.of_config(config, network, sharding.batch_devices(mesh))
        dtype = config.rollout.cache_dtype or network.dtype
        create = lambda: slots.create(network, shapes.sizes[0], shapes.columns[-1], dtype)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            state = jax.eval_shape(create)
            whole = cache_lib.axes(network)
        cut = {1: (sharding.BATCH,), 2: (sharding.BATCH, None), len(whole): whole}
        spread = lambda x: NamedSharding(mesh, P(*cut[x.ndim]))
        place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spread(x))
        return Decoder(network, mesh, shapes, jax.tree.map(place, state))

    def programs(
        self, weights: Any, stop_ids: tuple[int, ...], sampling: Sampling
    ) -> dict[str, Program]:
        """What `sample` calls. weights: described."""
        network, mesh, shapes, state = self
        packed = self._packed()
        everywhere = sharding.replicated(mesh)
        same = lambda *shape, dtype=jnp.int32: jax.ShapeDtypeStruct(
            shape, dtype, sharding=everywhere
        )
        rows = jax.ShapeDtypeStruct(
            (shapes.rows, shapes.width), jnp.int32, sharding=sharding.by_rows(mesh)
        )
        begin = slots.Begin(slots.Entries(0, 0, 0, 0), 0, 0, 0)
        begin = jax.tree.map(lambda _: same(slots.ENTRIES), begin)
        steps, until, greedy = same(), same(), same(dtype=jnp.bool_)
        prefill = lambda: slots.prefill.lower(network, weights, rows, rows, rows)
        insert = lambda: slots.insert.lower(
            network, state, packed, packed, begin, same(), same(2, dtype=jnp.uint32)
        )
        decode = lambda: slots.decode.lower(
            network, weights, state, steps, until, greedy, stop_ids=stop_ids, sampling=sampling
        )
        held, cached = sharding.bytes_each(weights), sharding.bytes_each(state)
        waiting = sharding.bytes_each((packed, packed))
        found = {
            "prefill": Program(prefill, cached),
            "insert": Program(insert, held),
            "decode": Program(decode, waiting),
        }
        if len(shapes.sizes) > 1:
            shrink = lambda: slots.resize.lower(
                network, state, same(shapes.sizes[1]), shapes.columns[-1]
            )
            found["shrink"] = Program(shrink, held + waiting)
        return found

    def _packed(self) -> jax.ShapeDtypeStruct:
        """The keys, or the values, of packed questions."""
        cfg, mesh = self.network.cfg, self.mesh
        K, shapes = cfg.num_kv_heads, self.shapes
        heads = "tensor" if K % mesh.shape["tensor"] == 0 else None
        return jax.ShapeDtypeStruct(
            (shapes.rows, cfg.num_layers, K, shapes.width, cfg.head_dim),
            self.network.dtype,
            sharding=NamedSharding(mesh, P(None, None, heads, None, None)),
        )
