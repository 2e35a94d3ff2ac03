"""A tracker of one's own, in `logging.to`: a function or a class (docs/plugins.md).

    def log(step, metrics):
        print(step, metrics["accuracy"])

A class has `write(step, metrics)`, and may have the other methods of `trackers.Tracker`.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text import plugins
from sar_jax.text.plugins import Plugin
from sar_jax.training.reporting.trackers import Begun, Opened, Table

WHERE = "config.logging.to"


def load(name: str) -> Plugin:
    """The function or class. Raises `UserError` where it cannot be used."""
    plugin = plugins.load(plugins.parse(name, WHERE), WHERE)
    value, params = plugin.value, plugin.spec.params
    if inspect.isclass(value):
        if not callable(getattr(value, "write", None)):
            raise UserError(f"{WHERE}: the class {name} has no method write(step, metrics)")
        arguments: tuple[Any, ...] = ()
    else:
        arguments = 1, {}
    try:
        inspect.signature(value).bind(*arguments, **params)
    except TypeError as error:
        raise UserError(
            f"{WHERE}: {name} cannot be called with step and metrics ({error})"
        ) from None
    except ValueError:  # of a callable that Python cannot look into
        pass
    return plugin


class OwnTracker:
    """A function or class as a `Tracker`; called by a thread of `loggers`."""

    def __init__(self, name: str):
        self.plugin = load(name)
        self.made: Any = None

    def open(self, begun: Begun) -> Opened:
        value, params = self.plugin.value, self.plugin.spec.params
        if inspect.isclass(value):
            self.made = value(**params)
        self._call("open", begun)
        return Opened(begun.id or begun.name, "a function of your own")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self.made is None:
            self.plugin.value(step, dict(values), **self.plugin.spec.params)
        else:
            self.made.write(step, dict(values))

    def answers(self, step: int, name: str, table: Table) -> None:
        self._call("answers", step, name, table)

    def alert(self, step: int, text: str) -> None:
        self._call("alert", step, text)

    def close(self, finished: bool) -> None:
        self._call("close", finished)

    def _call(self, method: str, *arguments: Any) -> None:
        if callable(found := getattr(self.made, method, None)):
            found(*arguments)
