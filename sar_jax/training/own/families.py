"""Families of one's own, `model.families`: a dict of `Family` by model_type (docs/plugins.md).

FAMILIES = {"seed_oss": Family(...)}
"""

from collections.abc import Mapping

from sar_jax.errors import UserError
from sar_jax.model import families
from sar_jax.text import plugins

WHERE = "config.model.families"


def use(named: str) -> None:
    """Makes the families known that a config names, if it names any. Raises `UserError`."""
    if not named:
        return
    plugin = plugins.load(plugins.parse(named, WHERE), WHERE, "a dict of Family by model_type")
    if not isinstance(plugin.value, Mapping) or not plugin.value:
        kind = type(plugin.value).__name__
        raise UserError(f"{WHERE}: {named} must be a dict of Family by model_type, and is a {kind}")
    for kind, family in plugin.value.items():
        try:
            families.add(kind, family)
        except UserError as error:
            raise UserError(f"{WHERE}: {named}: {error}") from None
