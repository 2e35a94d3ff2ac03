"""Programs that do the same work, each in a process of its own, timed in turn.

    work           the work: which rows, at which lengths
    meter          processor seconds, seconds and peak memory of a call
    models         random models in Hugging Face folders
    turns          starts the programs, and lets them take turns
    environments   where other projects' packages are installed
    alone          a task of sar_jax without anything beside it
    with_*         the programs

A program runs with the Python that has its packages: those of other projects import `work` and
`meter` alone, which need numpy and no part of sar_jax.
"""
