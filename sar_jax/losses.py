"""The losses, per token and pure. Sums over tokens and their divisors belong to the caller.

Keeping numerator and divisor apart is what makes the value independent of micro-batches, packing and devices: every loss
here is a plain sum over scored tokens, divided once by a number of the whole mini-batch.
Letters: R packed rows, T tokens a row.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

_LOG_RATIO_LIMIT = 20.0
_KL_LIMIT = 10.0


def group_advantages(rewards: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
    """Reward minus the mean of its question's group; no division by the deviation (Dr.GRPO, arXiv 2503.20783)."""
    return rewards - rewards.mean(axis=1, keepdims=True)


def clipped_policy_loss(logps: Float[Array, "R T"], old_logps: Float[Array, "R T"], advantages: Float[Array, "R T"],
                        clip_low: float, clip_high: float, dual_clip: float,
                        ) -> tuple[Float[Array, "R T"], Bool[Array, "R T"]]:
    """Each token's -min(r A, clip(r) A), with r = pi / pi_old, and True where the clip cut it (arXiv 1707.06347, eq. 7).

    Where A < 0 the loss is at most -dual_clip * A (dual clip, arXiv 1912.09729, eq. 5).
    """
    ratio = jnp.exp(jnp.clip(logps - old_logps, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT))
    plain = -advantages * ratio
    clipped = -advantages * jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
    loss = jnp.maximum(plain, clipped)
    capped = jnp.minimum(loss, -advantages * dual_clip)
    return jnp.where(advantages < 0, capped, loss), clipped > plain


def kl_k3(logps: Float[Array, "R T"], ref_logps: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """Each token's estimate of KL(policy || reference): exp(d) - d - 1, d = ref - policy, never negative.

    Schulman's k3 (joschu.net/blog/kl-approx.html); d and the result are clamped as in the reference trainer.
    """
    d = jnp.clip(ref_logps - logps, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    return jnp.clip(jnp.exp(d) - d - 1, -_KL_LIMIT, _KL_LIMIT)


def clipped_value_loss(values: Float[Array, "R T"], old_values: Float[Array, "R T"], returns: Float[Array, "R T"],
                       clip: float) -> tuple[Float[Array, "R T"], Bool[Array, "R T"]]:
    """Each token's half squared error to the return, and True where the clip decided it.

    The larger one of the errors of V and of V kept within `clip` of what it was before the step (PPO's value clipping; Huang
    et al., "The 37 implementation details of PPO", no. 9).
    """
    kept = old_values + jnp.clip(values - old_values, -clip, clip)
    plain, clipped = (values - returns) ** 2, (kept - returns) ** 2
    return 0.5 * jnp.maximum(plain, clipped), clipped > plain
