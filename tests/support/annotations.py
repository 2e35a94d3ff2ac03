"""What the annotations of sar_jax say, types and shapes of arrays, is checked while tests run: at
every call of every function, for parameters and results.

`typecheck` is beartype's; an int may stand for a float, as in PEP 484."""

import importlib

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_annotations() -> None:
    """From now on, for modules of sar_jax that are imported later.

    Not the config's classes: they check their values themselves, and tests give them wrong ones.
    """
    importlib.import_module("sar_jax.config")
    install_import_hook("sar_jax", f"{__name__}.typecheck")
