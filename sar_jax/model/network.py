"""The network: one decoder for every family, as functions of a description and of parameters.

    network = Network(cfg, dtype, remat, kernel)   what is computed, and how: frozen and hashable
    params  = parameters.init_params(...)          a nested dict of arrays (or loaded by `hf`)
    hidden  = forward(network, params, ...)        packed rows -> final hidden states
    logits  = unembed(network, params, hidden)     apart: no array [tokens, vocabulary] need exist

A layer is described with Flax NNX, and nothing outside this file knows NNX: `bind` makes a layer of
its parameters, in one place. What differs between families is in `ModelConfig`; what differs
between layers (window, rotary base) is data in the scan over the stacked layers. `decoding` reads
a token at a time, with a cache.

Letters: R rows, T tokens a row, S slots of the decoder, D embed, N heads, K kv heads, H head dim,
F ffw, L layers, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from sar_jax import config
from sar_jax.errors import UserError
from sar_jax.model import remat, rope
from sar_jax.model.attention import cudnn, portable, splash
from sar_jax.model.parameters import ModelConfig, Params, param_specs
from sar_jax.model.products import product
from sar_jax.parallel.sharding import BATCH, constrain, dividing, gathered


@dataclasses.dataclass(frozen=True)
class Network:
    """A decoder without its parameters. Hashable: a jitted function takes it as a static argument.

    cfg      the model
    dtype    of activations and matrix products
    remat    what the backward pass keeps of a layer (`remat.POLICIES`)
    kernel   of attention over whole rows, a name in `_KERNELS`; the cache's layout follows it
    narrow_first   how a product's gradient is computed (`products`)
    keep_logits    does the backward pass keep them?
    """

    cfg: ModelConfig
    dtype: str = "float32"
    remat: str = "block"
    kernel: str = "xla"
    narrow_first: bool = False
    keep_logits: bool = False

    @staticmethod
    def of(options: config.Model, cfg: ModelConfig, mesh: jax.sharding.Mesh) -> "Network":
        """The network that `config.model` asks for on the devices of `mesh`, which need not exist.

        Raises `UserError` where the devices have no such attention kernel.
        """
        kernel = pick_kernel(options, cfg, mesh)
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        computed = dict(dtype=options.dtype, remat=options.remat, kernel=kernel)
        return Network(cfg, **computed, narrow_first=on_cpu, keep_logits=options.keep_logits)


def pick_kernel(options: config.Model, cfg: ModelConfig, mesh: jax.sharding.Mesh) -> str:
    """The attention kernel that `config.model.attention` asks for.

    "auto" is the fused kernel where the devices of `mesh` have one for this model, else "xla".
    Raises `UserError` where the devices lack what is asked for.
    """
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
            f"config.model.attention is {options.attention!r}, which needs "
            f"{missing[options.attention]}, but the devices are of type {device.device_kind!r}: "
            "use 'auto'"
        )
    return options.attention


def rms_norm(x: Float[Array, "*B D"], gain: Float[Array, " D"], cfg: ModelConfig) -> Array:
    """Root-mean-square norm over the last axis, in float32.

    The gain comes in the compute dtype like every weight, so that the update, which holds float32
    masters, computes what the scorer does.
    """
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + cfg.norm_eps)
    return (x32 * (cfg.norm_offset + gain.astype(jnp.float32))).astype(x.dtype)


def choose(kind: Array | int, branches: Sequence[Callable], *args: Any) -> Any:
    """The result of the branch of a layer's kind; with one kind, no choice is compiled."""
    return branches[0](*args) if len(branches) == 1 else jax.lax.switch(kind, branches, *args)


class Heads(NamedTuple):
    """Queries, keys and values, the first two rotated."""

    q: Float[Array, "*B N H"]
    k: Float[Array, "*B K H"]
    v: Float[Array, "*B K H"]


class Layer(nnx.Module):
    """One decoder layer, whose parameters carry no layer axis (`bind`)."""

    def __init__(self, network: Network):
        self.cfg, self.dtype = network.cfg, jnp.dtype(network.dtype)
        self.narrow_first = network.narrow_first
        for name, spec in param_specs(network.cfg)["layers"].items():
            setattr(self, name, nnx.Param(jnp.zeros(spec.shape)))

    def _weight(self, name: str) -> Array:
        return getattr(self, name)[...].astype(self.dtype)

    def _norm(self, name: str, x: Array) -> Array:
        return rms_norm(x, self._weight(name), self.cfg)

    def _dense(self, equation: str, x: Array, name: str) -> Array:
        """The product of x with a matrix: x W.

        With an adapter x W + scale (x A) B; with a rounded matrix (x Q) s.
        """
        times = functools.partial(product, narrow_first=self.narrow_first)
        y, adapter = times(equation, x, self._weight(name)), self.cfg.adapter
        # scaled after the product was summed over the devices, which sends it in the compute dtype
        if self.cfg.int8:
            return (y.astype(jnp.float32) * getattr(self, f"{name}_scale")[...]).astype(x.dtype)
        if adapter is None or name not in adapter.targets:
            return y
        inputs, weight, outputs = equation.replace("->", ",").split(",")  # "...NH", "NHD", "...D"
        taken = "".join(letter for letter in weight if letter in inputs)
        low = times(f"{inputs},{taken}r->...r", x, self._weight(f"{name}_a"))
        return y + adapter.scale * times(
            f"...r,r{weight[len(taken) :]}->{outputs}", low, self._weight(f"{name}_b")
        )

    def _biased(self, equation: str, x: Array, name: str, biased: bool) -> Array:
        """`_dense` of the matrix `name`_proj, and its bias where there is one."""
        y = self._dense(equation, x, f"{name}_proj")
        return remat.named(y + self._weight(f"{name}_bias") if biased else y, name)

    def _whole_norm(self, name: str, x: Float[Array, "*B N H"]) -> Array:
        """The norm over all heads together."""
        flat = lambda y: y.reshape(*y.shape[:-2], -1)
        return rms_norm(flat(x), flat(self._weight(name)), self.cfg).reshape(x.shape)

    def project(self, x: Array, cos: Array, sin: Array) -> Heads:
        """Of the tokens x [..., T, D], rotated by the tables [..., T, half]."""
        cfg = self.cfg
        x = self._norm("attn_norm", x) if cfg.pre_norms else x
        q = self._biased("...D,DNH->...NH", x, "q", cfg.qkv_bias)
        k = self._biased("...D,DKH->...KH", x, "k", cfg.qkv_bias)
        v = self._biased("...D,DKH->...KH", x, "v", cfg.qkv_bias)
        if cfg.qk_norm:
            norm = self._norm if cfg.qk_norm == "head" else self._whole_norm
            q, k = norm("q_norm", q), norm("k_norm", k)
        return Heads(rope.rotate(q, cos, sin), rope.rotate(k, cos, sin), v)

    def combine(self, x: Array, attended: Array) -> Array:
        """Adds the attention's output [..., N, H] and the feed-forward to x."""
        cfg = self.cfg
        y = self._biased("...NH,NHD->...D", attended, "o", cfg.o_bias)
        x = x + (self._norm("attn_post_norm", y) if cfg.post_norms else y)
        y = self._norm("ffw_norm", x) if cfg.pre_norms else x
        gate = self._biased("...D,DF->...F", y, "gate", cfg.mlp_bias)
        up = self._biased("...D,DF->...F", y, "up", cfg.mlp_bias)
        y = _ACTIVATIONS[cfg.activation](gate) * up
        y = self._biased("...F,FD->...D", y, "down", cfg.mlp_bias)
        return x + (self._norm("ffw_post_norm", y) if cfg.post_norms else y)


_ACTIVATIONS = {"silu": jax.nn.silu, "gelu": functools.partial(jax.nn.gelu, approximate=True)}


@functools.lru_cache
def _structure(network: Network) -> nnx.GraphDef:
    """A layer without its parameters."""
    return nnx.split(nnx.eval_shape(lambda: Layer(network)))[0]


def bind(network: Network, params: Params) -> Layer:
    """The layer that has these parameters, which carry no layer axis."""
    return nnx.merge(_structure(network), params)


def scan(
    network: Network, params: Params, step: Callable, carry: Any, per_layer: Any = None
) -> tuple[Any, Any]:
    """Runs `step(layer, kind, carry, per_layer[l]) -> carry, out` for every layer l.

    Returns the last carry and the stacked outputs. The step says what a layer does: training,
    prefill and decoding differ in it alone.
    """

    def body(carry, xs):
        own, kind, extra = xs
        return step(bind(network, own), kind, carry, extra)

    kinds = jnp.array(network.cfg.layer_kinds)
    body = remat.remat(body, network.remat)
    return jax.lax.scan(body, carry, (params["layers"], kinds, per_layer))


def embed(network: Network, params: Params, tokens: Int[Array, "*B"]) -> Float[Array, "*B D"]:
    """The tokens' embeddings in the compute dtype."""
    cfg = network.cfg
    entries, parts = dividing("tensor", cfg.vocab_size), dividing("fsdp", cfg.embed_dim)
    # A table that is sharded over fsdp is gathered before the lookup: XLA would otherwise
    # replicate the batch that was looked up.
    table = params["embedding"].astype(network.dtype)
    table = gathered(table, (entries, None), (entries, parts))
    x = table[tokens]
    return x if cfg.embed_scale == 1 else x * jnp.asarray(cfg.embed_scale, network.dtype)


def finish(network: Network, params: Params, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """The norm after the last layer."""
    return rms_norm(x, params["final_norm"].astype(network.dtype), network.cfg)


def _attentions(network: Network) -> list[Callable]:
    """`attend` for every kind of layer."""
    cfg = network.cfg
    attend = functools.partial(
        _KERNELS[network.kernel], scale=cfg.query_scale, softcap=cfg.attn_softcap
    )
    return [functools.partial(attend, window=kind.window) for kind in cfg.kinds]


_KERNELS = {"xla": portable.attend, "splash": splash.attend, "cudnn": cudnn.attend}


def forward(
    network: Network,
    params: Params,
    tokens: Int[Array, "R T"],
    positions: Int[Array, "R T"],
    segment_ids: Int[Array, "R T"],
) -> Float[Array, "R T D"]:
    """Final hidden states of packed rows. Segment 0 is padding: its states have no meaning."""
    return read(network, params, tokens, positions, segment_ids)[0]


def read(
    network: Network,
    params: Params,
    tokens: Int[Array, "R T"],
    positions: Int[Array, "R T"],
    segment_ids: Int[Array, "R T"],
    keep: bool = False,
) -> tuple[Float[Array, "R T D"], Any]:
    """Final hidden states and, where `keep`, the keys and values [L, R, T, K, H] of all layers."""
    cos, sin = rope.tables([kind.rope for kind in network.cfg.kinds], positions)
    attentions = _attentions(network)

    def step(layer, kind, x, _):
        x = remat.named(x, remat.INPUT)
        q, k, v = layer.project(x, cos[kind], sin[kind])
        attended = choose(kind, attentions, q, k, v, segment_ids)
        x = layer.combine(x, remat.named(attended, remat.ATTENTION))
        return constrain(x, BATCH, None, None), (k, v) if keep else None

    x = constrain(embed(network, params, tokens), BATCH, None, None)
    x, kept = scan(network, params, step, x)
    return finish(network, params, x), kept


def _head_product(network: Network, hidden: Array, head: Array) -> Array:
    """hidden [..., D], head [V, D] -> [..., V] in float32: logits, but for their soft cap."""
    return product(
        "...D,VD->...V",
        hidden,
        head.astype(hidden.dtype),
        dtype=jnp.float32,
        narrow_first=network.narrow_first,
    )


def unembed(network: Network, params: Params, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Logits in float32. The head's weights are used in the dtype of `hidden`."""
    table = params["embedding" if network.cfg.tied else "head"]
    return portable.softcapped(_head_product(network, hidden, table), network.cfg.final_softcap)


class HeadChunks(NamedTuple):
    """The head in C pieces of the vocabulary, about equally large.

    head      the weights of each piece
    ids       the entries' ids, V where there is padding
    product   (hidden [..., D], piece [v, D]) -> [..., v] in float32: logits, but for their soft cap
    """

    head: Float[Array, "C v D"]
    ids: Int[Array, "C v"]
    product: Callable[[Array, Array], Array]


def head_chunks(network: Network, params: Params, chunk: int) -> HeadChunks:
    """The head in pieces of about `chunk` vocabulary entries.

    Where the vocabulary is spread over "tensor", each piece takes its part of every device's
    entries and stays spread.
    """
    cfg = network.cfg
    V, D = cfg.vocab_size, cfg.embed_dim
    spread = dividing("tensor", V)
    devices = jax.sharding.get_abstract_mesh().shape["tensor"] if spread else 1
    own = V // devices
    least = -(-V // chunk)
    # without padding, if some number of pieces allows it
    even = (n for n in range(least, min(2 * least, own) + 1) if own % n == 0)
    count = next(even, least)
    size = -(-own // count)

    def cut(x: Array, fill: int) -> Array:
        """[V, ...] -> [C, v, ...]"""
        rest = x.shape[1:]
        x = x.reshape(devices, own, *rest)
        padding = ((0, 0), (0, count * size - own)) + ((0, 0),) * len(rest)
        x = jnp.pad(x, padding, constant_values=fill).reshape(devices, count, size, *rest)
        return x.swapaxes(0, 1).reshape(count, devices * size, *rest)

    def times(hidden: Array, piece: Array) -> Array:
        piece = constrain(piece.astype(hidden.dtype), spread, None)  # cast, then gathered over fsdp
        return _head_product(network, hidden, piece)

    head = cut(params["embedding" if cfg.tied else "head"], 0)
    head = constrain(head, None, spread, dividing("fsdp", D))
    return HeadChunks(head, cut(jnp.arange(V), V), times)
