"""What a decoder consists of: its description, and each parameter's shape, axes and first values.

`param_specs` is the one place that says so: initialisation, sharding, loading, export and the
weight-decay mask derive from it. Parameters are a plain nested dict of arrays; those of the layers
are stacked on a leading axis.

Letters: D embed, N heads, K kv heads, H head dim, F ffw, L layers, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sar_jax.model.rope import Rope

Params = dict[str, Any]


class Kind(NamedTuple):
    """What may differ from layer to layer.

    window   a token sees itself and the window - 1 before it; None: all before it
    """

    rope: Rope
    window: int | None


class Adapter(NamedTuple):
    """Low-rank adapters (`sar_jax.model.lora`) of some matrices of every layer.

    scale     factor on their products
    targets   the matrices, by their names in MATRICES
    """

    rank: int
    scale: float
    targets: tuple[str, ...]


# The matrices of a layer, and how many of their dimensions (after the layer's) are inputs.
MATRICES = {
    "q_proj": 1,
    "k_proj": 1,
    "v_proj": 1,
    "o_proj": 2,
    "gate_proj": 1,
    "up_proj": 1,
    "down_proj": 1,
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything that the function which a model computes depends on, but for the parameters."""

    family: str  # model_type in config.json; names the stored tensors
    num_layers: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffw_dim: int
    vocab_size: int
    norm_eps: float
    tied: bool  # the head is the embedding table
    max_positions: int  # the longest sequence the model was made for
    kinds: tuple[Kind, ...]
    layer_kinds: tuple[int, ...]  # for each layer, which of `kinds` it is
    query_scale: float  # factor on the attention scores
    # RMS norm of queries and keys: "" none, "head" of each head, "whole" of all heads together
    qk_norm: str = ""
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    pre_norms: bool = True  # RMS norm before attention and before feed-forward
    # RMS norm after attention and after feed-forward, before they are added
    post_norms: bool = False
    norm_offset: float = 0.0  # a norm's gain is this plus what is stored
    activation: str = "silu"  # of the feed-forward's gate: or "gelu", its tanh approximation
    embed_scale: float = 1.0  # factor on the embeddings
    attn_softcap: float | None = None  # c: scores become c * tanh(scores / c)
    final_softcap: float | None = None  # the same for logits
    adapter: Adapter | None = None
    int8: bool = False  # the layers' matrices are integers with scales (`sar_jax.model.int8`)


@dataclasses.dataclass(frozen=True)
class ParamSpec:
    """One parameter.

    axes    logical ones, see sharding.RULES
    scale   standard deviation at initialisation; 0 for gains and biases, which do not decay
    mean    at initialisation
    dtype   where it is not that of the others
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    scale: float
    mean: float = 0.0
    dtype: str = ""


def param_specs(cfg: ModelConfig) -> dict[str, Any]:
    """The nested dict that `params` is, with a `ParamSpec` for each array."""
    D, V = cfg.embed_dim, cfg.vocab_size
    layers = _layer_specs(cfg)
    for name in cfg.adapter.targets if cfg.adapter else ():
        layers |= _adapter(name, layers[name], cfg.adapter.rank)
    for name in MATRICES if cfg.int8 else ():
        layers |= _rounded(name, layers[name])
    specs = {
        "embedding": ParamSpec((V, D), ("vocab", "embed"), 0.02),
        "layers": layers,
        "final_norm": ParamSpec((D,), ("embed",), 0.0, 1.0 - cfg.norm_offset),
    }
    if not cfg.tied:
        specs["head"] = ParamSpec((V, D), ("vocab", "embed"), 0.02)
    return specs


def _layer_specs(cfg: ModelConfig) -> dict[str, ParamSpec]:
    """Those of the layers, without adapters and in one dtype."""
    L, D, F = cfg.num_layers, cfg.embed_dim, cfg.ffw_dim
    N, K, H = cfg.num_heads, cfg.num_kv_heads, cfg.head_dim

    def layer(shape: tuple[int, ...], *axes: str, scale: float = 0.02) -> ParamSpec:
        return ParamSpec((L, *shape), ("layers", *axes), scale)

    def gain(size: int, axis: str) -> ParamSpec:
        return ParamSpec((L, size), ("layers", axis), 0.0, 1.0 - cfg.norm_offset)

    # so that the residual stream's variance does not grow with depth (GPT-2)
    residual = 0.02 / (2 * L) ** 0.5
    layers = {
        "q_proj": layer((D, N, H), "embed", "heads", "head_dim"),
        "k_proj": layer((D, K, H), "embed", "kv_heads", "head_dim"),
        "v_proj": layer((D, K, H), "embed", "kv_heads", "head_dim"),
        "o_proj": layer((N, H, D), "heads", "head_dim", "embed", scale=residual),
        "gate_proj": layer((D, F), "embed", "ffw"),
        "up_proj": layer((D, F), "embed", "ffw"),
        "down_proj": layer((F, D), "ffw", "embed", scale=residual),
    }
    bias = lambda shape, *axes: layer(shape, *axes, scale=0.0)
    if cfg.pre_norms:
        layers |= {"attn_norm": gain(D, "embed"), "ffw_norm": gain(D, "embed")}
    if cfg.post_norms:
        layers |= {"attn_post_norm": gain(D, "embed"), "ffw_post_norm": gain(D, "embed")}
    if cfg.qk_norm == "head":
        layers |= {"q_norm": gain(H, "head_dim"), "k_norm": gain(H, "head_dim")}
    if cfg.qk_norm == "whole":
        ones = lambda spec: dataclasses.replace(spec, mean=1.0 - cfg.norm_offset)
        layers |= {
            "q_norm": ones(bias((N, H), "heads", "head_dim")),
            "k_norm": ones(bias((K, H), "kv_heads", "head_dim")),
        }
    if cfg.qkv_bias:
        layers |= {
            "q_bias": bias((N, H), "heads", "head_dim"),
            "k_bias": bias((K, H), "kv_heads", "head_dim"),
            "v_bias": bias((K, H), "kv_heads", "head_dim"),
        }
    if cfg.o_bias:
        layers["o_bias"] = bias((D,), "embed")
    if cfg.mlp_bias:
        layers |= {
            "gate_bias": bias((F,), "ffw"),
            "up_bias": bias((F,), "ffw"),
            "down_bias": bias((D,), "embed"),
        }
    return layers


def _adapter(name: str, spec: ParamSpec, rank: int) -> dict[str, ParamSpec]:
    """The two thin matrices of one of the layers' matrices."""
    cut = 1 + MATRICES[name]
    (L, *inputs), outputs = spec.shape[:cut], spec.shape[cut:]
    deviation = math.prod(inputs) ** -0.5
    a = ParamSpec((L, *inputs, rank), (*spec.axes[:cut], "rank"), deviation)
    b = ParamSpec((L, rank, *outputs), ("layers", "rank", *spec.axes[cut:]), 0.0)
    return {f"{name}_a": a, f"{name}_b": b}


def _rounded(name: str, spec: ParamSpec) -> dict[str, ParamSpec]:
    """One of the layers' matrices as integers, and the scales of its outputs."""
    cut = 1 + MATRICES[name]
    shape, axes = (spec.shape[0], *spec.shape[cut:]), ("layers", *spec.axes[cut:])
    scale = ParamSpec(shape, axes, 0.0, dtype="float32")
    return {name: dataclasses.replace(spec, dtype="int8"), f"{name}_scale": scale}


def spec_map(f: Callable[..., Any], specs: Any, *rest: Any) -> Any:
    """`jax.tree.map` over a tree whose leaves are `ParamSpec`s."""
    return jax.tree.map(f, specs, *rest, is_leaf=_is_spec)


def _is_spec(x: Any) -> bool:
    return isinstance(x, ParamSpec)


def describe_params(cfg: ModelConfig, shardings: Any, dtype: Any = jnp.float32) -> Params:
    """The parameters' shapes, dtypes and shardings, without their memory."""
    return describe(param_specs(cfg), shardings, dtype)


def describe(specs: Any, shardings: Any, dtype: Any = jnp.float32) -> Params:
    """The same for any tree of specs."""
    one = lambda spec, s: jax.ShapeDtypeStruct(spec.shape, spec.dtype or dtype, sharding=s)
    return spec_map(one, specs, shardings)


def init_params(cfg: ModelConfig, key: jax.Array) -> Params:
    """Random float32 parameters; every leaf draws from its own key."""
    leaves, treedef = jax.tree.flatten(param_specs(cfg), is_leaf=_is_spec)
    keys = jax.random.split(key, len(leaves))

    def draw(spec: ParamSpec, key: jax.Array) -> jax.Array:
        if spec.scale == 0:
            return jnp.full(spec.shape, spec.mean)
        return spec.scale * jax.random.normal(key, spec.shape)

    return treedef.unflatten([draw(spec, own) for spec, own in zip(leaves, keys)])


def count_params(cfg: ModelConfig) -> int:
    specs = jax.tree.leaves(param_specs(cfg), is_leaf=_is_spec)
    return sum(math.prod(spec.shape) for spec in specs)


def decayed(cfg: ModelConfig) -> dict[str, Any]:
    """True for the parameters that weight decay shrinks: matrices, not gains or biases."""
    return decays(param_specs(cfg))


def decays(specs: Any) -> Any:
    """The same for any tree of specs; what begins at 0 does not decay either."""
    return spec_map(lambda s: s.scale != 0, specs)
