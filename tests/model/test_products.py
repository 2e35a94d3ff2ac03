"""A product and its gradient against numpy in float64, whichever operand comes first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sar_jax.config import Model
from sar_jax.model.network import Network
from sar_jax.model.products import product

PRODUCTS = {  # x's and w's shapes; wider results, narrower ones, several shared and free letters
    "...D,DF->...F": ((2, 5, 4), (4, 9)),
    "...F,FD->...D": ((2, 5, 9), (9, 4)),
    "...D,DNH->...NH": ((2, 5, 4), (4, 3, 2)),
    "...NH,NHD->...D": ((2, 5, 3, 2), (3, 2, 4)),
    "...D,VD->...V": ((2, 5, 4), (11, 4)),
    "...NH,NHr->...r": ((7, 3, 2), (3, 2, 1)),
    "...r,rNH->...NH": ((1, 2, 2, 1), (1, 3, 2)),
}


def by_hand(equation, x, w, weights):
    """The product, and the gradient of its sum with these weights, by numpy."""
    inputs, w_letters, outputs = equation.replace("->", ",").replace("...", "xyz").split(",")
    front = x.ndim - len(inputs) + 3
    inputs, outputs = ("xyz"[:front] + letters[3:] for letters in (inputs, outputs))
    y = np.einsum(f"{inputs},{w_letters}->{outputs}", x, w)
    dx = np.einsum(f"{outputs},{w_letters}->{inputs}", weights, w)
    dw = np.einsum(f"{inputs},{outputs}->{w_letters}", x, weights)
    return y, dx, dw


@pytest.mark.parametrize("narrow_first", [False, True])
@pytest.mark.parametrize("equation", PRODUCTS)
def test_a_product_and_its_gradient_are_those_of_numpy(equation, narrow_first, rng):
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in PRODUCTS[equation])
    y = jax.jit(lambda x, w: product(equation, x, w, narrow_first=narrow_first))(x, w)
    weights = rng.normal(size=y.shape)

    def total(x, w):
        return (product(equation, x, w, narrow_first=narrow_first) * weights).sum()

    found = (y, *jax.jit(jax.grad(total, argnums=(0, 1)))(x, w))
    for ours, theirs in zip(found, by_hand(equation, *map(np.float64, (x, w)), weights)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_rounded_product_has_a_float32_result_and_rounded_gradients(rng):
    """The logits: bfloat16 operands, a float32 product; each gradient has its operand's dtype."""
    x, w = (rng.normal(size=shape) for shape in PRODUCTS["...D,VD->...V"])
    operands = [jnp.asarray(value, jnp.bfloat16) for value in (x, w)]
    rounded = [np.float64(value) for value in operands]

    def total(x, w, narrow_first):
        y = product("...D,VD->...V", x, w, dtype=jnp.float32, narrow_first=narrow_first)
        return (y**2).sum() / 2, y

    y, dx, dw = by_hand("...D,VD->...V", *rounded, np.einsum("xyD,VD->xyV", *rounded))
    for narrow_first in (False, True):
        grads, ours = jax.grad(total, argnums=(0, 1), has_aux=True)(*operands, narrow_first)
        assert ours.dtype == jnp.float32 and {g.dtype.name for g in grads} == {"bfloat16"}
        np.testing.assert_allclose(ours, y, rtol=1e-5, atol=1e-5)
        for found, expected in zip(grads, (dx, dw)):
            assert np.abs(np.float64(found) - expected).max() < 0.01 * np.abs(expected).max()


def test_the_narrower_operand_comes_first():
    """In the gradient of a feed-forward's weights: [D, tokens] x [tokens, F]."""

    def free_columns(equation, narrow_first):
        """Of the first operand."""
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in PRODUCTS[equation]]
        total = lambda x, w: product(equation, x, w, narrow_first=narrow_first).sum()
        eqns = jax.make_jaxpr(jax.grad(total, argnums=1))(*shapes).eqns
        (*_, dot) = [eqn for eqn in eqns if eqn.primitive.name == "dot_general"]
        return dot.invars[0].aval.shape[-1]

    assert free_columns("...D,DF->...F", False) == 9 and free_columns("...D,DF->...F", True) == 4
    assert free_columns("...F,FD->...D", True) == 4


def test_a_network_on_cpus_has_it(loaded, mesh):
    assert Network.of(Model(), loaded.cfg, mesh).narrow_first
