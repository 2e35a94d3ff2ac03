"""The decoder, described with Flax NNX; nothing outside this file knows NNX.

    graphdef = build(cfg, dtype, remat)        the network's structure: static, hashable
    params   = init_params(cfg, key)           a plain nested dict of arrays (or loaded by `sar_jax.hf`)
    hidden   = forward(graphdef, params, ...)  packed rows -> final hidden states
    logits   = unembed(params, hidden)         kept apart, so that no [tokens, vocabulary] array has to exist

`param_specs` is the one place that says each parameter's shape, logical axes and initial scale: initialisation,
sharding, loading, export and the weight-decay mask derive from it. Layers are stacked on a leading axis and scanned.
Letters: R rows, T tokens a row, Q questions, M samples, P prompt width, A answer width, D embed, N heads, K kv heads,
H head dim, F ffw, L layers, V vocabulary.

Architecture: Qwen3 (dense): RMS norms before attention and feed-forward, RMS norm of each query and key head, rotary
positions, grouped queries, SiLU-gated feed-forward, tied or untied head.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sar_jax import attention
from sar_jax.sharding import BATCH, constrain

Params = dict[str, Any]
GraphDef = nnx.GraphDef


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    num_layers: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffw_dim: int
    vocab_size: int
    rope_theta: float
    norm_eps: float
    tied: bool            # the head is the embedding table
    max_positions: int    # the longest sequence the model was made for


@dataclasses.dataclass(frozen=True)
class ParamSpec:
    shape: tuple[int, ...]
    axes: tuple[str, ...]     # logical axes, see sharding.RULES
    scale: float | None       # standard deviation at initialisation; None = ones (a norm's gain)


class Cache(NamedTuple):
    """Keys and values of all layers during decoding; M answers share their question's part.

    question_k, question_v: [L, Q, P, K, H]; visible: [Q, P], True where the question has a token;
    answer_k, answer_v: [L, Q, M, A, K, H]; lengths: [Q] tokens of each question.
    """
    question_k: Float[Array, "L Q P K H"]
    question_v: Float[Array, "L Q P K H"]
    visible: Bool[Array, "Q P"]
    lengths: Int[Array, " Q"]
    answer_k: Float[Array, "L Q M A K H"]
    answer_v: Float[Array, "L Q M A K H"]


def param_specs(cfg: ModelConfig) -> dict[str, Any]:
    """Shape, logical axes and initial scale of every parameter, as the nested dict that `params` is."""
    L, D, N, K, H, F, V = (cfg.num_layers, cfg.embed_dim, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, cfg.ffw_dim,
                           cfg.vocab_size)

    def layer(shape: tuple[int, ...], *axes: str, scale: float | None = 0.02) -> ParamSpec:
        return ParamSpec((L, *shape), ("layers", *axes), scale)

    residual = 0.02 / (2 * L) ** 0.5   # so that the residual stream's variance does not grow with depth (GPT-2)
    specs = {
        "embedding": ParamSpec((V, D), ("vocab", "embed"), 0.02),
        "layers": {
            "attn_norm": layer((D,), "embed", scale=None),
            "q_proj": layer((D, N, H), "embed", "heads", "head_dim"),
            "k_proj": layer((D, K, H), "embed", "kv_heads", "head_dim"),
            "v_proj": layer((D, K, H), "embed", "kv_heads", "head_dim"),
            "q_norm": layer((H,), "head_dim", scale=None),
            "k_norm": layer((H,), "head_dim", scale=None),
            "o_proj": layer((N, H, D), "heads", "head_dim", "embed", scale=residual),
            "ffw_norm": layer((D,), "embed", scale=None),
            "gate_proj": layer((D, F), "embed", "ffw"),
            "up_proj": layer((D, F), "embed", "ffw"),
            "down_proj": layer((F, D), "ffw", "embed", scale=residual),
        },
        "final_norm": ParamSpec((D,), ("embed",), None),
    }
    if not cfg.tied:
        specs["head"] = ParamSpec((V, D), ("vocab", "embed"), 0.02)
    return specs


def spec_map(f: Callable[..., Any], specs: Any, *rest: Any) -> Any:
    """`jax.tree.map` over a tree whose leaves are `ParamSpec`s."""
    return jax.tree.map(f, specs, *rest, is_leaf=lambda s: isinstance(s, ParamSpec))


def describe_params(cfg: ModelConfig, shardings: Any) -> Params:
    """The float32 parameters' shapes and shardings without their memory."""
    return spec_map(lambda spec, s: jax.ShapeDtypeStruct(spec.shape, jnp.float32, sharding=s), param_specs(cfg), shardings)


def init_params(cfg: ModelConfig, key: jax.Array) -> Params:
    """Random float32 parameters; every leaf draws from its own key."""
    specs = param_specs(cfg)
    leaves, treedef = jax.tree.flatten(specs, is_leaf=lambda s: isinstance(s, ParamSpec))
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten([jnp.ones(s.shape) if s.scale is None else s.scale * jax.random.normal(k, s.shape)
                              for s, k in zip(leaves, keys)])


def decayed(cfg: ModelConfig) -> dict[str, Any]:
    """True for the parameters that weight decay shrinks: matrices, not norms' gains."""
    return spec_map(lambda s: s.scale is not None, param_specs(cfg))


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    """Root-mean-square norm over the last axis, in float32."""
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    return x32.astype(x.dtype) * gain.astype(x.dtype)


def rotate(x: Float[Array, "... T N H"], positions: Int[Array, "... T"], theta: float) -> Float[Array, "... T N H"]:
    """Rotary position embedding (Su et al., arXiv 2104.09864), halves rotated as in Hugging Face's models."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    x1, x2 = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)


class Layer(nnx.Module):
    """One decoder layer; in `Decoder` its parameters carry a leading layer axis, in the scan they do not."""

    def __init__(self, cfg: ModelConfig, dtype: str):
        self.cfg, self.dtype = cfg, jnp.dtype(dtype)
        for name, spec in param_specs(cfg)["layers"].items():
            setattr(self, name, nnx.Param(jnp.zeros(spec.shape)))

    def _weight(self, name: str) -> Array:
        return getattr(self, name)[...].astype(self.dtype)

    def project(self, x: Array, positions: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values of the tokens x [..., T, D] at positions [..., T]."""
        eps, theta = self.cfg.norm_eps, self.cfg.rope_theta
        x = rms_norm(x, self.attn_norm[...], eps)
        q = jnp.einsum("...D,DNH->...NH", x, self._weight("q_proj"))
        k = jnp.einsum("...D,DKH->...KH", x, self._weight("k_proj"))
        v = jnp.einsum("...D,DKH->...KH", x, self._weight("v_proj"))
        q = rotate(rms_norm(q, self.q_norm[...], eps), positions, theta)
        k = rotate(rms_norm(k, self.k_norm[...], eps), positions, theta)
        return q, k, v

    def combine(self, x: Array, attended: Array) -> Array:
        """Adds the attention's output [..., N, H] and the feed-forward to x."""
        x = x + jnp.einsum("...NH,NHD->...D", attended, self._weight("o_proj"))
        y = rms_norm(x, self.ffw_norm[...], self.cfg.norm_eps)
        gate = jax.nn.silu(jnp.einsum("...D,DF->...F", y, self._weight("gate_proj")))
        up = jnp.einsum("...D,DF->...F", y, self._weight("up_proj"))
        return x + jnp.einsum("...F,FD->...D", gate * up, self._weight("down_proj"))


class Decoder(nnx.Module):
    """The network. `step(layer, x, per_layer) -> x, out` says what a layer does: training, prefill and decoding
    differ in it alone."""

    def __init__(self, cfg: ModelConfig, dtype: str, remat: bool):
        self.cfg, self.dtype, self.remat = cfg, jnp.dtype(dtype), remat
        self.embedding = nnx.Param(jnp.zeros((cfg.vocab_size, cfg.embed_dim)))
        self.layers = Layer(cfg, dtype)
        self.final_norm = nnx.Param(jnp.zeros((cfg.embed_dim,)))
        if not cfg.tied:
            self.head = nnx.Param(jnp.zeros((cfg.vocab_size, cfg.embed_dim)))

    def embed(self, tokens: Array) -> Array:
        # A table sharded over fsdp is gathered before the lookup; XLA would otherwise replicate the looked-up batch.
        table = constrain(self.embedding[...].astype(self.dtype), "tensor" if _divides(self.cfg) else None, None)
        return table[tokens]

    def scan(self, step: Callable, carry: Any, per_layer: Any = None) -> tuple[Any, Any]:
        """Runs `step(layer, carry, per_layer[l])` for every layer l; gathers the second outputs."""
        graphdef, stacked = nnx.split(self.layers)

        def body(carry, xs):
            state, extra = xs
            return step(nnx.merge(graphdef, state), carry, extra)

        return jax.lax.scan(jax.checkpoint(body) if self.remat else body, carry,
                            (nnx.to_pure_dict(stacked), per_layer))

    def finish(self, x: Array) -> Array:
        return rms_norm(x, self.final_norm[...], self.cfg.norm_eps)


def _divides(cfg: ModelConfig) -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and cfg.vocab_size % mesh.shape["tensor"] == 0


@functools.lru_cache
def build(cfg: ModelConfig, dtype: str = "float32", remat: bool = True) -> GraphDef:
    """The network's structure, without parameters. `dtype`: of activations and matrix products."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(cfg, dtype, remat)))[0]


def forward(graphdef: GraphDef, params: Params, tokens: Int[Array, "R T"], positions: Int[Array, "R T"],
            segment_ids: Int[Array, "R T"]) -> Float[Array, "R T D"]:
    """Final hidden states of packed rows. Segment 0 is padding: its states have no meaning."""
    decoder = nnx.merge(graphdef, params)

    def step(layer, x, _):
        q, k, v = layer.project(x, positions)
        x = layer.combine(x, attention.attend(q, k, v, segment_ids))
        return constrain(x, BATCH, None, None), None

    x, _ = decoder.scan(step, constrain(decoder.embed(tokens), BATCH, None, None))
    return decoder.finish(x)


def unembed(params: Params, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
    """Logits in float32. The head's weights are used in the dtype of `hidden`."""
    head = params.get("head", params["embedding"]).astype(hidden.dtype)
    return jnp.einsum("...D,VD->...V", hidden, head, preferred_element_type=jnp.float32)


def prefill(graphdef: GraphDef, params: Params, tokens: Int[Array, "Q P"], lengths: Int[Array, " Q"], samples: int,
            answer_width: int) -> tuple[Float[Array, "Q D"], Cache]:
    """Reads Q questions once. Returns the hidden state of each one's last token and a cache for `samples` answers."""
    decoder = nnx.merge(graphdef, params)
    Q, P = tokens.shape
    visible = jnp.arange(P) < lengths[:, None]
    positions = jnp.broadcast_to(jnp.arange(P), (Q, P))

    def step(layer, x, _):
        q, k, v = layer.project(x, positions)
        x = layer.combine(x, attention.attend(q, k, v, visible.astype(jnp.int32)))
        return constrain(x, BATCH, None, None), (k, v)

    x, (k, v) = decoder.scan(step, constrain(decoder.embed(tokens), BATCH, None, None))
    last = jnp.take_along_axis(decoder.finish(x), (lengths - 1)[:, None, None], axis=1)[:, 0]
    answers = constrain(jnp.zeros((k.shape[0], Q, samples, answer_width, *k.shape[3:]), k.dtype), None, BATCH)
    return last, Cache(k, v, visible, lengths, answers, answers)


def decode(graphdef: GraphDef, params: Params, tokens: Int[Array, "Q M"], t: Int[Array, ""],
           cache: Cache) -> tuple[Float[Array, "Q M D"], Cache]:
    """Reads the t-th token (from 0) of every answer: its hidden state, and the cache with it."""
    decoder = nnx.merge(graphdef, params)
    positions = jnp.broadcast_to(cache.lengths[:, None] + t, tokens.shape)
    so_far = jnp.arange(cache.answer_k.shape[3]) <= t

    def step(layer, carry, per_layer):
        x, answer_k, answer_v = carry    # carried whole, and updated in place: as scanned inputs they would be copied
        l, question_k, question_v = per_layer
        q, k, v = layer.project(x, positions)
        answer_k = jax.lax.dynamic_update_slice(answer_k, k[None, :, :, None], (l, 0, 0, t, 0, 0))
        answer_v = jax.lax.dynamic_update_slice(answer_v, v[None, :, :, None], (l, 0, 0, t, 0, 0))
        attended = attention.attend_cached(q, question_k, question_v, cache.visible, answer_k[l], answer_v[l], so_far)
        return (layer.combine(x, attended), answer_k, answer_v), None

    layers = (jnp.arange(cache.answer_k.shape[0]), cache.question_k, cache.question_v)
    (x, k, v), _ = decoder.scan(step, (decoder.embed(tokens), cache.answer_k, cache.answer_v), layers)
    return decoder.finish(x), cache._replace(answer_k=k, answer_v=v)
