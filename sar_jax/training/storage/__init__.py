"""A run's workdir: whose it is, what is kept there, and whether it is whole."""
