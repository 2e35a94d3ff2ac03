"""The decoder, described with Flax NNX; nothing outside this file knows NNX.

    graphdef = build(cfg, dtype, remat)        the network's structure: static, hashable
    params   = parameters.init_params(...)     a plain nested dict of arrays (or loaded by `sar_jax.model.hf`)
    hidden   = forward(graphdef, params, ...)  packed rows -> final hidden states
    logits   = unembed(graphdef, params, hidden)   kept apart, so that no [tokens, vocabulary] array has to exist

One decoder for all families (`sar_jax.model.families`): what differs stands in `ModelConfig`; what
differs from layer to layer (window, rotary base) is data in the scan over the stacked layers.
Letters: R rows, T tokens a row, S slots of the decoder, D embed, N heads, K kv heads, H head dim, F
ffw, L layers, V vocabulary."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from sar_jax import config
from sar_jax.errors import UserError
from sar_jax.model import cache as cache_lib
from sar_jax.model import rope
from sar_jax.model.attention import cudnn, portable, splash
from sar_jax.model.parameters import ModelConfig, Params, param_specs
from sar_jax.parallel.sharding import BATCH, constrain, dividing, gathered

GraphDef = nnx.GraphDef


def rms_norm(x: Array, gain: Array, cfg: ModelConfig) -> Array:
    """Root-mean-square norm over the last axis, in float32. The gain comes in the compute dtype
    like every weight, so that the update, which holds float32 masters, computes what the scorer
    does."""
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + cfg.norm_eps)
    return (x32 * (cfg.norm_offset + gain.astype(jnp.float32))).astype(x.dtype)


def choose(kind: Array, branches: Sequence[Callable], *args: Any) -> Any:
    """Applies the branch of a layer's kind; no choice is compiled where there is only one kind."""
    return branches[0](*args) if len(branches) == 1 else jax.lax.switch(kind, branches, *args)


class Layer(nnx.Module):
    """One decoder layer; in `Decoder` its parameters carry a leading layer axis, in the scan they
    do not."""

    def __init__(self, cfg: ModelConfig, dtype: str):
        self.cfg, self.dtype = cfg, jnp.dtype(dtype)
        for name, spec in param_specs(cfg)["layers"].items():
            setattr(self, name, nnx.Param(jnp.zeros(spec.shape)))

    def _weight(self, name: str) -> Array:
        return getattr(self, name)[...].astype(self.dtype)

    def _norm(self, name: str, x: Array) -> Array:
        return rms_norm(x, self._weight(name), self.cfg)

    def _dense(self, equation: str, x: Array, name: str) -> Array:
        """The product of x with a matrix, and with its adapter if it has one: x W + scale (x A) B;
        or (x Q) s, rounded."""
        y, adapter = jnp.einsum(equation, x, self._weight(name)), self.cfg.adapter
        # scaled after the product was summed over the devices, which sends it in the compute dtype
        if self.cfg.int8:
            return (y.astype(jnp.float32) * getattr(self, f"{name}_scale")[...]).astype(x.dtype)
        if adapter is None or name not in adapter.targets:
            return y
        inputs, weight, outputs = equation.replace("->", ",").split(",")  # "...NH", "NHD", "...D"
        taken = "".join(letter for letter in weight if letter in inputs)
        low = jnp.einsum(f"{inputs},{taken}r->...r", x, self._weight(f"{name}_a"))
        return y + adapter.scale * jnp.einsum(
            f"...r,r{weight[len(taken) :]}->{outputs}", low, self._weight(f"{name}_b")
        )

    def project(self, x: Array, cos: Array, sin: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values of the tokens x [..., T, D], rotated by the tables [..., T,
        half]."""
        cfg, x = self.cfg, self._norm("attn_norm", x)
        q = self._dense("...D,DNH->...NH", x, "q_proj")
        k = self._dense("...D,DKH->...KH", x, "k_proj")
        v = self._dense("...D,DKH->...KH", x, "v_proj")
        if cfg.qkv_bias:
            q, k, v = (
                q + self._weight("q_bias"),
                k + self._weight("k_bias"),
                v + self._weight("v_bias"),
            )
        if cfg.qk_norm:
            q, k = self._norm("q_norm", q), self._norm("k_norm", k)
        return rope.rotate(q, cos, sin), rope.rotate(k, cos, sin), v

    def combine(self, x: Array, attended: Array) -> Array:
        """Adds the attention's output [..., N, H] and the feed-forward to x."""
        cfg = self.cfg
        y = self._dense("...NH,NHD->...D", attended, "o_proj")
        x = x + (self._norm("attn_post_norm", y) if cfg.post_norms else y)
        y = self._norm("ffw_norm", x)
        gate = _ACTIVATIONS[cfg.activation](self._dense("...D,DF->...F", y, "gate_proj"))
        up = self._dense("...D,DF->...F", y, "up_proj")
        y = self._dense("...F,FD->...D", gate * up, "down_proj")
        return x + (self._norm("ffw_post_norm", y) if cfg.post_norms else y)


_ACTIVATIONS = {"silu": jax.nn.silu, "gelu": functools.partial(jax.nn.gelu, approximate=True)}


class Decoder(nnx.Module):
    """The network. The `step` that `scan` is given says what a layer does: training, prefill and
    decoding differ in it alone."""

    def __init__(self, cfg: ModelConfig, dtype: str, remat: bool, kernel: str):
        self.cfg, self.dtype, self.remat, self.kernel = cfg, jnp.dtype(dtype), remat, kernel
        self.embedding = nnx.Param(jnp.zeros((cfg.vocab_size, cfg.embed_dim)))
        self.layers = Layer(cfg, dtype)
        self.final_norm = nnx.Param(jnp.zeros((cfg.embed_dim,)))
        if not cfg.tied:
            self.head = nnx.Param(jnp.zeros((cfg.vocab_size, cfg.embed_dim)))

    def embed(self, tokens: Array) -> Array:
        # A table sharded over fsdp is gathered before the lookup; XLA would otherwise replicate the
        # looked-up batch.
        entries, parts = (
            dividing("tensor", self.cfg.vocab_size),
            dividing("fsdp", self.cfg.embed_dim),
        )
        table = gathered(self.embedding[...].astype(self.dtype), (entries, None), (entries, parts))
        x = table[tokens]
        return x if self.cfg.embed_scale == 1 else x * jnp.asarray(self.cfg.embed_scale, self.dtype)

    def tables(self, positions: Array) -> tuple[Array, Array]:
        """cos and sin [kinds, ..., T, half] for every kind of layer."""
        return rope.tables([kind.rope for kind in self.cfg.kinds], positions)

    def scan(self, step: Callable, carry: Any, per_layer: Any = None) -> tuple[Any, Any]:
        """Runs `step(layer, kind, carry, per_layer[l]) -> carry, out` for every layer l; gathers
        the second outputs."""
        graphdef, stacked = nnx.split(self.layers)

        def body(carry, xs):
            state, kind, extra = xs
            return step(nnx.merge(graphdef, state), kind, carry, extra)

        return jax.lax.scan(
            jax.checkpoint(body) if self.remat else body,
            carry,
            (nnx.to_pure_dict(stacked), jnp.array(self.cfg.layer_kinds), per_layer),
        )

    def attentions(self) -> list[Callable]:
        """`attend` for every kind of layer."""
        return [
            functools.partial(
                _KERNELS[self.kernel],
                scale=self.cfg.query_scale,
                softcap=self.cfg.attn_softcap,
                window=kind.window,
            )
            for kind in self.cfg.kinds
        ]

    def finish(self, x: Array) -> Array:
        return rms_norm(x, self.final_norm[...].astype(self.dtype), self.cfg)

    def unembed(self, hidden: Array) -> Array:
        return self.logits(hidden, (self.embedding if self.cfg.tied else self.head)[...])

    def logits(self, hidden: Array, head: Array) -> Array:
        logits = jnp.einsum(
            "...D,VD->...V", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
        return portable.softcapped(logits, self.cfg.final_softcap)


@functools.lru_cache
def build(
    cfg: ModelConfig, dtype: str = "float32", remat: bool = True, kernel: str = "xla"
) -> GraphDef:
    """The network's structure, without parameters. dtype: of activations and matrix products;
    kernel: a name of `_KERNELS`, for attention over whole rows."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(cfg, dtype, remat, kernel)))[0]


def pick_kernel(options: config.Model, cfg: ModelConfig, mesh: jax.sharding.Mesh) -> str:
    """The attention kernel that config.model asks for; "auto" takes the fused one where the mesh's
    devices have one for this model. Raises `UserError` where they have not what is asked."""
    device = mesh.devices.flat[0]
    missing = {
        "xla": None,
        "cudnn": cudnn.lacks(device, options.dtype, cfg.head_dim, cfg.attn_softcap),
        "splash": None if device.platform == "tpu" else "the devices to be TPUs",
    }
    if options.attention == "auto":
        return next(name for name in ("splash", "cudnn", "xla") if not missing[name])
    if missing[options.attention]:
        raise UserError(
            f"config.model.attention is {options.attention!r}, which needs {missing[options.attention]}; the "
            f"devices are of type {device.device_kind!r}: leave it at 'auto'"
        )
    return options.attention


_KERNELS = {"xla": portable.attend, "splash": splash.attend, "cudnn": cudnn.attend}


def forward(
    graphdef: GraphDef,
    params: Params,
    tokens: Int[Array, "R T"],
    positions: Int[Array, "R T"],
    segment_ids: Int[Array, "R T"],
) -> Float[Array, "R T D"]:
    """Final hidden states of packed rows. Segment 0 is padding: its states have no meaning."""
    return _read(nnx.merge(graphdef, params), tokens, positions, segment_ids)[0]


def _read(
    decoder: Decoder, tokens: Array, positions: Array, segment_ids: Array, keep: bool = False
) -> tuple[Array, Any]:
    """Final hidden states [R, T, D] and, to `keep`, the keys and values [L, R, T, K, H] of all
    layers."""
    (cos, sin), attentions = decoder.tables(positions), decoder.attentions()

    def step(layer, kind, x, _):
        q, k, v = layer.project(x, cos[kind], sin[kind])
        x = layer.combine(x, choose(kind, attentions, q, k, v, segment_ids))
        return constrain(x, BATCH, None, None), (k, v) if keep else None

    x, kept = decoder.scan(step, constrain(decoder.embed(tokens), BATCH, None, None))
    return decoder.finish(x), kept


def unembed(
    graphdef: GraphDef, params: Params, hidden: Float[Array, "*B D"]
) -> Float[Array, "*B V"]:
    """Logits in float32. The head's weights are used in the dtype of `hidden`."""
    return nnx.merge(graphdef, params).unembed(hidden)


def head_chunks(
    graphdef: GraphDef,
    params: Params,
    chunk: int,
) -> tuple[Float[Array, "C v D"], Int[Array, "C v"], Callable[[Array, Array], Array]]:
    """The head's weights in C pieces of about `chunk` vocabulary entries; the entries' ids, V where
    there is padding; and `logits(hidden [..., D], piece [v, D]) -> [..., v]` in float32.

    Where the vocabulary is spread over "tensor", each piece takes its part of every device's
    entries and stays spread."""
    decoder = nnx.merge(graphdef, params)
    cfg = decoder.cfg
    V, D = cfg.vocab_size, cfg.embed_dim
    devices = jax.sharding.get_abstract_mesh().shape["tensor"] if dividing("tensor", V) else 1
    own = V // devices
    least = -(-V // chunk)
    count = next(
        (n for n in range(least, min(2 * least, own) + 1) if own % n == 0), least
    )  # without padding, if it can
    size = -(-own // count)

    def cut(x: Array, fill: int) -> Array:
        x = x.reshape(devices, own, *x.shape[1:])
        x = jnp.pad(
            x, ((0, 0), (0, count * size - own)) + ((0, 0),) * (x.ndim - 2), constant_values=fill
        )
        return (
            x.reshape(devices, count, size, *x.shape[2:])
            .swapaxes(0, 1)
            .reshape(count, devices * size, *x.shape[2:])
        )

    def logits(hidden: Array, piece: Array) -> Array:
        piece = constrain(
            piece.astype(hidden.dtype), dividing("tensor", V), None
        )  # cast, then gathered over fsdp
        return decoder.logits(hidden, piece)

    head = cut(params["embedding" if cfg.tied else "head"], 0)
    return (
        constrain(head, None, dividing("tensor", V), dividing("fsdp", D)),
        cut(jnp.arange(V), V),
        logits,
    )


def prefill(
    graphdef: GraphDef,
    params: Params,
    tokens: Int[Array, "R T"],
    positions: Int[Array, "R T"],
    segment_ids: Int[Array, "R T"],
) -> tuple[Float[Array, "R L K T H"], Float[Array, "R L K T H"]]:
    """The keys and values of packed rows, whole on every device but for the kv heads, to be put
    into a cache."""
    _, kept = _read(nnx.merge(graphdef, params), tokens, positions, segment_ids, keep=True)
    heads = dividing("tensor", kept[0].shape[3])
    return tuple(
        constrain(jnp.einsum("LRTKH->RLKTH", x), None, None, heads, None, None) for x in kept
    )


def settings(graphdef: GraphDef, params: Params) -> tuple[ModelConfig, str, str]:
    """What `build` was given: description, dtype, kernel."""
    decoder = nnx.merge(graphdef, params)
    return decoder.cfg, decoder.dtype.name, decoder.kernel


def apart(params: Params) -> list[Params]:
    """The parameters of each layer by itself: made once, before a loop that reads them again and
    again."""
    stacked = params["layers"]
    return [{name: x[l] for name, x in stacked.items()} for l in range(len(stacked["attn_norm"]))]


def decode(
    graphdef: GraphDef,
    params: Params,
    layers: list[Params] | None,
    tokens: Int[Array, " S"],
    positions: Int[Array, " S"],
    cache: cache_lib.Cache,
) -> tuple[Float[Array, "S D"], cache_lib.Cache]:
    """Reads the next token of every slot: its hidden state, and the cache with it. layers: those of
    `apart`, to go through them one by one; None to scan over the stacked ones."""
    decoder = nnx.merge(graphdef, params)
    cfg, kernel = decoder.cfg, decoder.kernel
    cos, sin = decoder.tables(positions)
    places = {
        l: (g, i)
        for g, group in enumerate(cache_lib.groups(cfg, kernel))
        for i, l in enumerate(group.layers)
    }

    def step(layer, kind, carry, place):
        x, cache = (
            carry  # carried whole, and updated in place: as a scanned input it would be copied
        )
        q, k, v = layer.project(x, cos[kind], sin[kind])
        attended, cache = cache_lib.write(cfg, kernel, cache, q, k, v, positions, *place)
        return (layer.combine(x, attended), cache), None

    x = decoder.embed(tokens)
    if layers is None:
        order = tuple(
            jnp.array([places[l][part] for l in range(cfg.num_layers)], jnp.int32)
            for part in (0, 1)
        )
        (x, cache), _ = decoder.scan(step, (x, cache), order)
    else:
        structure = nnx.split(decoder.layers)[0]
        for l, (own, kind) in enumerate(zip(layers, cfg.layer_kinds)):
            (x, cache), _ = step(nnx.merge(structure, own), kind, (x, cache), places[l])
    return decoder.finish(x), cache
