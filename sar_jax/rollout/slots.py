"""The jitted functions of the decoder: S slots, each of which has an answer or is free.

    prefill   packed rows of questions -> their keys and values
    insert    questions' keys and values -> slots, which begin there with the question's last token
    decode    up to T tokens of every live slot, in a loop on the device; it ends early when enough
              slots have become free
    resize    fewer slots for the last answers, or more columns

A slot's next step reads `token` at `position`, so a question is inserted but for its last token,
and its answer's first token comes out of the same step as all others. The random bits of a token
depend on (key, answer's number, place in the answer) alone. Free slots keep reading their last
token; what they write is not live before it is written again.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from sar_jax.model import cache as cache_lib
from sar_jax.model import decoding
from sar_jax.model import network as network_lib
from sar_jax.model.cache import Entries
from sar_jax.model.network import Network
from sar_jax.model.parameters import Params
from sar_jax.parallel.sharding import BATCH, constrain
from sar_jax.rollout import draw
from sar_jax.structs import Sampling

STEPS = 64  # T: tokens that `decode` makes at most before the host looks
ENTRIES = 16  # answers that `insert` takes at once


class State(NamedTuple):
    """All slots.

    token    what is read next, at `position`
    count    tokens of the answer so far, at most `limit`
    live     False where the slot is free
    keys     the answers' own random bits
    """

    cache: cache_lib.Cache
    token: Int[Array, " S"]
    position: Int[Array, " S"]
    count: Int[Array, " S"]
    limit: Int[Array, " S"]
    live: Bool[Array, " S"]
    keys: UInt32[Array, "S 2"]


class Begin(NamedTuple):
    """Answers to begin.

    entries   where their questions are, and the slots that take them
    token     the question's last token
    number    the answer's number, from which it draws
    limit     tokens that it may have
    """

    entries: Entries
    token: Int[Array, " n"]
    number: Int[Array, " n"]
    limit: Int[Array, " n"]


class Report(NamedTuple):
    """What a call of `decode` did, the same on all devices.

    The new tokens of slot s are the first count[s] of its row; sampling_logps are those of the
    distribution that they were drawn from, logps those of the policy. `steps`: how often it read.
    """

    tokens: Int[Array, "S T"]
    sampling_logps: Float[Array, "S T"]
    logps: Float[Array, "S T"]
    count: Int[Array, " S"]
    live: Bool[Array, " S"]
    stopped: Bool[Array, " S"]
    steps: Int[Array, ""]


def _along_slots(x: Array) -> Array:
    """[S, ...], with the slots over the devices that share the rows."""
    return constrain(x, BATCH, *(None,) * (x.ndim - 1))


@functools.partial(jax.jit, static_argnames=("network", "slots", "columns", "dtype"))
def create(network: Network, slots: int, columns: int, dtype: str) -> State:
    """Free slots. columns: of each slot's cache; dtype: of cached keys and values."""
    zeros = lambda kind: constrain(jnp.zeros(slots, kind), BATCH)
    keys = constrain(jnp.zeros((slots, 2), jnp.uint32), BATCH, None)
    return State(
        cache_lib.create(network, slots, columns, dtype),
        *(zeros(jnp.int32) for _ in range(4)),
        zeros(bool),
        keys,
    )


prefill = jax.jit(decoding.prefill, static_argnums=0)


@functools.partial(jax.jit, static_argnames="network", donate_argnames="state")
def insert(
    network: Network,
    state: State,
    keys: Float[Array, "R L K W H"],
    values: Float[Array, "R L K W H"],
    begin: Begin,
    count: Int[Array, ""],
    key: UInt32[Array, "2"],
) -> State:
    """Begins the first `count` of the answers. key: the data of the call's random key."""
    given = jnp.arange(len(begin.token)) < count
    slot = jnp.where(given, begin.entries.slot, len(state.token))  # others: dropped

    def put(array: Array, values: Any) -> Array:
        return _along_slots(array.at[slot].set(values, mode="drop"))

    whole = jax.random.wrap_key_data(key)
    fold = lambda number: jax.random.fold_in(whole, number)
    own = jax.random.key_data(jax.vmap(fold)(begin.number))
    return State(
        cache=cache_lib.insert(network, state.cache, keys, values, begin.entries, count),
        token=put(state.token, begin.token),
        position=put(state.position, begin.entries.length),
        count=put(state.count, 0),
        limit=put(state.limit, begin.limit),
        live=put(state.live, True),
        keys=put(state.keys, own),
    )


@functools.partial(
    jax.jit, static_argnames=("network", "stop_ids", "sampling"), donate_argnames="state"
)
def decode(
    network: Network,
    params: Params,
    state: State,
    steps: Int[Array, ""],
    until: Int[Array, ""],
    greedy: Bool[Array, ""],
    *,
    stop_ids: tuple[int, ...],
    sampling: Sampling,
) -> tuple[State, Report]:
    """`steps` tokens of every live slot, or fewer: until no more than `until` slots are live.

    greedy     take the most probable token instead of drawing one
    stop_ids   tokens that end an answer
    """
    S = len(state.token)
    layers = decoding.apart(params) if cache_lib.is_apart(network) else None
    stops, began = jnp.array(stop_ids), state.count
    wide = lambda kind: constrain(jnp.zeros((S, STEPS), kind), BATCH, None)

    def more(carry):
        t, state, *_ = carry
        return (t < steps) & (state.live.sum() > until)

    def step(carry):
        t, state, written, stopped = carry
        hidden, cache = decoding.decode(
            network, params, layers, state.token, state.position, state.cache
        )
        logits = network_lib.unembed(network, params, hidden)
        keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(state.keys), state.count)
        picked = draw.pick(logits, keys, greedy, sampling)
        state, stop = _advance(state._replace(cache=cache), picked.token, stops)
        write = lambda array, new: jax.lax.dynamic_update_slice(array, new[:, None], (0, t))
        return t + 1, state, tuple(map(write, written, picked)), stopped | stop

    written = (wide(jnp.int32), wide(jnp.float32), wide(jnp.float32))
    carry = (jnp.int32(0), state, written, jnp.zeros(S, bool))
    t, state, written, stopped = jax.lax.while_loop(more, step, carry)
    report = Report(*written, state.count - began, state.live, stopped, t)
    small = {name: _along_slots(x) for name, x in state._asdict().items() if name != "cache"}
    state = state._replace(**small)  # placed as they came
    return state, jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), report)


def _advance(
    state: State, token: Int[Array, " S"], stops: Int[Array, " n"]
) -> tuple[State, Bool[Array, " S"]]:
    """The slots after each live one has got `token`, and those that it ends."""
    live, count = state.live, state.count + state.live
    stop = live & (token[:, None] == stops).any(axis=-1)
    state = state._replace(
        token=jnp.where(live, token, state.token),
        position=state.position + live,
        count=count,
        live=live & ~stop & (count < state.limit),
    )
    return state, stop


@functools.partial(jax.jit, static_argnames=("network", "columns"))
def resize(network: Network, state: State, slots: Int[Array, " s"], columns: int) -> State:
    """The slots of these numbers alone, with room for `columns`.

    Each stays on its device (`cache.resize`).
    """
    take = lambda x: _along_slots(x[slots])
    taken: Any = jax.tree.map(take, state._replace(cache=()))
    return taken._replace(cache=cache_lib.resize(network, state.cache, slots, columns))
