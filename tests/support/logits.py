"""Our logits of packed rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sar_jax.model import network as network_lib
from sar_jax.structs import Packed


@functools.partial(jax.jit, static_argnums=0)
def all_logits(network, params, tokens, positions, segment_ids):
    return network_lib.unembed(
        network, params, network_lib.forward(network, params, tokens, positions, segment_ids)
    )


def our_logits(loaded, packed, network=None) -> np.ndarray:
    return np.asarray(
        all_logits(network or loaded.network, loaded.params, *map(jnp.asarray, packed[:3]))
    )


def one_row(ids, left: int = 0, right: int = 0) -> Packed:
    """A sequence alone in a row, with padding on both sides."""
    pad = lambda x: np.pad(np.asarray(x, np.int32), (left, right))[None]
    return Packed(
        pad(ids), pad(np.arange(len(ids))), pad(np.ones(len(ids))), pad(np.ones(len(ids))) > 0
    )
