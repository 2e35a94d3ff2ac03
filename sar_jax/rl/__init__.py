"""The arithmetic of reinforcement learning: numpy and jax.numpy, no model and no files."""
