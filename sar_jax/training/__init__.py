"""One step, and one run."""
