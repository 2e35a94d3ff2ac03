"""Products of activations with weights, whose gradient can be had with the narrower operand first.

    product("...D,DF->...F", x, w)                      as XLA likes it: TPUs and GPUs
    product("...D,DF->...F", x, w, narrow_first=True)   on CPUs

JAX puts the incoming gradient first in the gradient of a weight, and XLA's CPU backend transposes
the first operand, together with what is fused into it (such as the derivative of an activation), in
a strided loop. Where that is the wider of the two, as for the feed-forward and the logits, the
transposed copies take a third of an update (docs/performance.md). The value does not change, nor
what is summed.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def product(
    equation: str,
    x: Float[Array, "..."],
    w: Float[Array, "..."],
    *,
    dtype: DTypeLike | None = None,
    narrow_first: bool = False,
) -> Float[Array, "..."]:
    """The sum over the letters that x and w share.

    equation       as of `jnp.einsum`, such as "...NH,NHD->...D": x, w and the product, where the
                   shared letters are x's last ones and the others of w are the product's last ones
    dtype          of the product; None: of the operands
    narrow_first   see above
    """
    if narrow_first:
        return _narrow_first(equation, dtype, x, w)
    return jnp.einsum(equation, x, w, preferred_element_type=dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _narrow_first(equation: str, dtype: DTypeLike | None, x: Array, w: Array) -> Array:
    return jnp.einsum(equation, x, w, preferred_element_type=dtype)


def _forward(equation: str, dtype: DTypeLike | None, x: Array, w: Array):
    return _narrow_first(equation, dtype, x, w), (x, w)


def _backward(equation: str, dtype: DTypeLike | None, kept: tuple[Array, Array], dy: Array):
    x, w = kept
    inputs, weight, outputs = equation.replace("->", ",").split(",")
    dx = jnp.einsum(f"{outputs},{weight}->{inputs}", dy, w, preferred_element_type=dtype)
    # one axis of tokens instead of those of "..."
    inputs, outputs = inputs.replace("...", "t"), outputs.replace("...", "t")
    x = x.reshape(-1, *x.shape[x.ndim - len(inputs) + 1 :])
    dy = dy.reshape(-1, *dy.shape[dy.ndim - len(outputs) + 1 :])
    operands = sorted([(x[0].size, inputs, x), (dy[0].size, outputs, dy)], key=lambda o: o[0])
    (_, one, first), (_, other, second) = operands
    made = (one + other).replace("t", "")
    dw = jnp.einsum(f"{one},{other}->{made}", first, second, preferred_element_type=dtype)
    if made != weight:  # XLA would fold the transpose in, and swap the operands again
        dw = jnp.einsum(f"{made}->{weight}", jax.lax.optimization_barrier(dw))
    return dx.astype(x.dtype), dw.astype(w.dtype)


_narrow_first.defvjp(_forward, _backward)
