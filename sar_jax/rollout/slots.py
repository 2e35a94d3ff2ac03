"""The jitted functions of the decoder: S slots, each with an answer that goes on, or free.

    prefill   packed rows of questions -> their keys and values
    insert    questions' keys and values -> slots, which begin there with the question's last token
    decode    up to T tokens of every live slot, in a loop on the device; ends early when enough slots have become free
    resize    fewer slots for the last answers, or more columns

A slot's next step reads `token` at `position`, so a question is inserted but for its last token,
and its answer's first token comes out of the same step as all others. The random bits of a token
depend on (key, answer's number, place in the answer) alone. Free slots go on reading their last
token; what they write is not live before it is written again."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sar_jax.model import cache as cache_lib
from sar_jax.model import network as network_lib
from sar_jax.model import parameters
from sar_jax.model.cache import Entries
from sar_jax.parallel.sharding import BATCH, constrain
from sar_jax.rollout import draw
from sar_jax.structs import Sampling

STEPS = 64  # T: tokens that `decode` makes at most before the host looks
ENTRIES = 16  # answers that `insert` takes at once


class State(NamedTuple):
    """token: to be read next, at `position`; count: tokens of the answer so far, `limit`: at most;
    keys: the answers' own random bits."""

    cache: cache_lib.Cache
    token: Int[Array, " S"]
    position: Int[Array, " S"]
    count: Int[Array, " S"]
    limit: Int[Array, " S"]
    live: Bool[Array, " S"]
    keys: Array


class Begin(NamedTuple):
    """Answers to begin: where their question stands, its last token, the answer's number and its
    limit in tokens."""

    entries: Entries
    token: Int[Array, " n"]
    number: Int[Array, " n"]
    limit: Int[Array, " n"]


class Report(NamedTuple):
    """What a call of `decode` did, the same on all devices. steps: how many tokens; those of slot s
    are the first count[s] of its row."""

    tokens: Int[Array, "S T"]
    logps: Float[Array, "S T"]
    policy_logps: Float[Array, "S T"]
    count: Int[Array, " S"]
    live: Bool[Array, " S"]
    stopped: Bool[Array, " S"]
    steps: Int[Array, ""]


@functools.partial(jax.jit, static_argnames=("cfg", "kernel", "slots", "columns", "dtype"))
def create(cfg: parameters.ModelConfig, kernel: str, slots: int, columns: int, dtype: str) -> State:
    """Free slots."""
    zeros = lambda kind: constrain(jnp.zeros(slots, kind), BATCH)
    keys = constrain(jnp.zeros((slots, 2), jnp.uint32), BATCH, None)
    return State(
        cache_lib.create(cfg, kernel, slots, columns, dtype),
        *(zeros(jnp.int32) for _ in range(4)),
        zeros(bool),
        keys,
    )


prefill = jax.jit(network_lib.prefill, static_argnums=0)


@functools.partial(jax.jit, static_argnames=("cfg", "kernel"), donate_argnames="state")
def insert(
    cfg: parameters.ModelConfig,
    kernel: str,
    state: State,
    keys: Array,
    values: Array,
    begin: Begin,
    count: Int[Array, ""],
    key: Int[Array, "2"],
) -> State:
    """Begins the first `count` of the answers. key: the data of the call's."""
    slot = jnp.where(
        jnp.arange(len(begin.token)) < count, begin.entries.slot, len(state.token)
    )  # others: dropped
    put = lambda array, values: constrain(
        array.at[slot].set(values, mode="drop"), BATCH, *(None,) * (array.ndim - 1)
    )
    whole = jax.random.wrap_key_data(key)
    own = jax.random.key_data(
        jax.vmap(lambda number: jax.random.fold_in(whole, number))(begin.number)
    )
    return State(
        cache_lib.insert(cfg, kernel, state.cache, keys, values, begin.entries, count),
        put(state.token, begin.token),
        put(state.position, begin.entries.length),
        put(state.count, 0),
        put(state.limit, begin.limit),
        put(state.live, True),
        put(state.keys, own),
    )


@functools.partial(
    jax.jit, static_argnames=("graphdef", "stop_ids", "sampling"), donate_argnames="state"
)
def decode(
    graphdef: network_lib.GraphDef,
    params: parameters.Params,
    state: State,
    steps: Int[Array, ""],
    until: Int[Array, ""],
    greedy: Bool[Array, ""],
    *,
    stop_ids: tuple[int, ...],
    sampling: Sampling,
) -> tuple[State, Report]:
    """`steps` tokens of every live slot, or fewer: until no more than `until` are live."""
    S = len(state.token)
    kernel = network_lib.settings(graphdef, params)[2]
    layers = network_lib.apart(params) if cache_lib.is_apart(kernel) else None
    stops, began = jnp.array(stop_ids), state.count
    wide = lambda kind: constrain(jnp.zeros((S, STEPS), kind), BATCH, None)

    def more(carry):
        t, state, *_ = carry
        return (t < steps) & (state.live.sum() > until)

    def step(carry):
        t, state, written, stopped = carry
        hidden, cache = network_lib.decode(
            graphdef, params, layers, state.token, state.position, state.cache
        )
        keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(state.keys), state.count)
        picked = draw.pick(network_lib.unembed(graphdef, params, hidden), keys, greedy, sampling)
        live, count = state.live, state.count + state.live
        stop = live & (picked.token[:, None] == stops).any(axis=-1)
        written = tuple(
            jax.lax.dynamic_update_slice(array, new[:, None], (0, t))
            for array, new in zip(written, picked)
        )
        state = State(
            cache,
            jnp.where(live, picked.token, state.token),
            state.position + live,
            count,
            state.limit,
            live & ~stop & (count < state.limit),
            state.keys,
        )
        return t + 1, state, written, stopped | stop

    carry = (
        jnp.int32(0),
        state,
        (wide(jnp.int32), wide(jnp.float32), wide(jnp.float32)),
        jnp.zeros(S, bool),
    )
    t, state, written, stopped = jax.lax.while_loop(more, step, carry)
    report = Report(*written, state.count - began, state.live, stopped, t)
    small = {
        name: constrain(x, BATCH, *(None,) * (x.ndim - 1))
        for name, x in state._asdict().items()
        if name != "cache"
    }
    state = state._replace(**small)  # placed as they came
    return state, jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), report)


@functools.partial(jax.jit, static_argnames=("cfg", "kernel", "columns"))
def resize(
    cfg: parameters.ModelConfig, kernel: str, state: State, slots: Int[Array, " s"], columns: int
) -> State:
    """The slots of these numbers alone, with room for `columns`. Each stays on its device
    (`cache.resize`)."""
    taken: Any = jax.tree.map(
        lambda x: constrain(x[slots], BATCH, *(None,) * (x.ndim - 1)), state._replace(cache=())
    )
    return taken._replace(cache=cache_lib.resize(cfg, kernel, state.cache, slots, columns))
