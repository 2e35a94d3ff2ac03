"""What people wrote and models answered: tasks, prompts, final answers. No JAX anywhere below."""
