"""What the backward pass finds of a layer, and what it computes again.

    none          everything that a gradient needs is kept
    dots          products with weights and attention's output; norms, rotations, activations again
    dots_but_up   as dots, but for one of the two widest products
    block         the layer's input alone: the whole layer is computed again
    offload       as block, with the inputs in the host's memory meanwhile

The names are those of `config.Model.remat`, from most memory to least. A value to keep is named
where it is made, since a policy cannot see a product within a derivative of its own (`products`).
"""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from sar_jax.model.parameters import ModelConfig

INPUT, ATTENTION = "input", "attention"
_DOTS = ("q", "k", "v", ATTENTION, "o", "gate", "up", "down")
_KEPT = {"dots": _DOTS, "dots_but_up": tuple(name for name in _DOTS if name != "up"), "block": ()}
POLICIES = ("none", *_KEPT, "offload")

named: Callable[[Array, str], Array] = checkpoint_name


def recomputed(cfg: ModelConfig, policy: str, kernel: str) -> tuple[str, ...]:
    """What the backward pass computes again, by the names of products, and of attention.

    kernel   of attention: the TPU's alone lets its results be kept
    """
    # nothing within a layer but a norm needs what it ends with
    needed = _DOTS if cfg.post_norms else _DOTS[:-1]
    again = {"none": (), "dots": (), "dots_but_up": ("up",)}.get(policy, needed)
    if policy in ("dots", "dots_but_up") and kernel != "splash":
        again = (*again, ATTENTION)
    return again


def kept(cfg: ModelConfig, policy: str) -> int:
    """Numbers that the devices keep of a token between a layer's forward and backward pass.

    Raises ValueError for "none", which leaves that to XLA.
    """
    if policy == "none":
        raise ValueError("what is kept with 'none' is not known beforehand")
    heads, kv_heads = cfg.num_heads * cfg.head_dim, cfg.num_kv_heads * cfg.head_dim
    sizes = {"q": heads, "k": kv_heads, "v": kv_heads, ATTENTION: heads, "o": cfg.embed_dim}
    sizes |= {"gate": cfg.ffw_dim, "up": cfg.ffw_dim}
    if cfg.post_norms:
        sizes["down"] = cfg.embed_dim
    inputs = 0 if policy == "offload" else cfg.embed_dim
    return inputs + sum(sizes[name] for name in _KEPT.get(policy, ()) if name in sizes)


def remat(body: Callable, policy: str) -> Callable:
    """A layer's function whose backward pass keeps what the policy says."""
    if policy == "none":
        return body
    if policy == "block":
        return jax.checkpoint(body)
    policies = jax.checkpoint_policies
    if policy == "offload":
        keep = policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        )
    else:
        keep = policies.save_only_these_names(*_KEPT[policy])
    return jax.checkpoint(body, policy=keep)
