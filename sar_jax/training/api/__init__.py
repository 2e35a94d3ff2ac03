"""`sar_jax.train` and `sar_jax.load`: what a program calls, and what it gets."""
