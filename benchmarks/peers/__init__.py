"""Programs that do the same work, each in a process of its own, timed in turn.

    work      the work: which rows, at which lengths                     (numpy alone)
    meter     processor seconds, seconds and peak memory of a call       (the standard library alone)
    models    a random model in a Hugging Face folder
    turns     starts the programs, and lets them take turns
    environments   where other projects' packages are installed
    with_sar_jax, with_torch, with_tunix   the programs

A program runs with the Python that has its packages: `with_torch` and `with_tunix` import nothing
of sar_jax.
"""
