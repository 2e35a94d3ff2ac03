"""sar_jax: reinforcement learning with the self-aligned reward, in JAX, for TPUs."""

__version__ = "0.1.0"
