"""Decoding with a cache: questions are read into keys and values, and answers a token at a time.

    prefill   packed questions -> the keys and values of all layers
    decode    the next token of every slot -> its hidden state, and the cache with it

Letters: R rows, T tokens a row, S slots, D embed, K kv heads, H head dim, L layers.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sar_jax.model import cache as cache_lib
from sar_jax.model import network as network_lib
from sar_jax.model import rope
from sar_jax.model.network import Network
from sar_jax.model.parameters import Params
from sar_jax.parallel.sharding import constrain, dividing


def prefill(
    network: Network,
    params: Params,
    tokens: Int[Array, "R T"],
    positions: Int[Array, "R T"],
    segment_ids: Int[Array, "R T"],
) -> tuple[Float[Array, "R L K T H"], Float[Array, "R L K T H"]]:
    """The keys and values of packed rows, to be put into a cache.

    They are whole on every device but for the kv heads, which may be spread over "tensor".
    """
    _, (k, v) = network_lib.read(network, params, tokens, positions, segment_ids, keep=True)

    def heads_first(x: Array) -> Array:
        heads = dividing("tensor", x.shape[3])
        return constrain(jnp.einsum("LRTKH->RLKTH", x), None, None, heads, None, None)

    return heads_first(k), heads_first(v)


def apart(params: Params) -> list[Params]:
    """The parameters of each layer by itself.

    Made once, before a loop that reads them again and again.
    """
    stacked = params["layers"]
    return [{name: x[l] for name, x in stacked.items()} for l in range(len(stacked["o_proj"]))]


def decode(
    network: Network,
    params: Params,
    layers: list[Params] | None,
    tokens: Int[Array, " S"],
    positions: Int[Array, " S"],
    cache: cache_lib.Cache,
) -> tuple[Float[Array, "S D"], cache_lib.Cache]:
    """Reads the next token of every slot: its hidden state, and the cache with it.

    layers      those of `apart`, to go through them one by one; None scans over the stacked ones
    positions   of the tokens in their sequences
    """
    cfg = network.cfg
    cos, sin = rope.tables([kind.rope for kind in cfg.kinds], positions)
    places = cache_lib.places(network)

    def step(layer, kind, carry, place):
        # The cache is carried whole and updated in place: as a scanned input it would be copied.
        x, cache = carry
        q, k, v = layer.project(x, cos[kind], sin[kind])
        attended, cache = cache_lib.write(network, cache, q, k, v, positions, *place)
        return (layer.combine(x, attended), cache), None

    x = network_lib.embed(network, params, tokens)
    if layers is None:
        order = tuple(jnp.array(column, jnp.int32) for column in zip(*places))
        (x, cache), _ = network_lib.scan(network, params, step, (x, cache), order)
    else:
        for own, kind, place in zip(layers, cfg.layer_kinds, places):
            layer = network_lib.bind(network, own)
            (x, cache), _ = step(layer, kind, (x, cache), place)
    return network_lib.finish(network, params, x), cache
