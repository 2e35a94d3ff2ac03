"""A verifier of one's own, `verification.verifier`: f(text, truth, row) -> right | wrong | error.

    def check(text, truth, row):
        return "right" if text.strip().endswith(truth) else "wrong"

text    an answer, as the model wrote it
truth   the row's answer
row     its question, kind, id and other columns

It runs in the verification processes, with their limits: `verification.timeout` seconds, and
memory. True and 1 are taken for right, False and 0 for wrong. An error counts as wrong, and is
counted. No JAX.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sar_jax.errors import UserError
from sar_jax.text import plugins
from sar_jax.text.answers import model_judge

WHERE = "config.verification.verifier"
_VERDICTS = {"right": True, "wrong": False, 1: True, 0: False}  # True and 1.0 are 1 here


def loaded(text: str) -> Callable[..., bool | str]:
    """The function that a config names, as a worker calls it. Raises `UserError`.

    What it returns is True, False, or a reason in words why nobody knows.
    """
    plugin = plugins.load(plugins.parse(text, WHERE), WHERE)
    plugin = plugins.made(plugin, WHERE, plugins.IMPORT_SECONDS)
    name = "the judge" if plugin.spec.place == model_judge.__name__ else plugin.spec.text

    def judged(text: str, truth: str, row: Mapping[str, Any]) -> bool | str:
        try:
            found = plugin.value(text, truth, row, **plugin.spec.params)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            return f"{name} raised: {plugins.said_by(error, plugin.file)}"
        if inspect.iscoroutine(found):
            found.close()
            return f"{name} is async: name a plain function, which may call asyncio.run"
        found = _plain(found)
        if isinstance(found, (str, int, float)) and found in _VERDICTS:
            return _VERDICTS[found]
        if isinstance(found, str) and (found == "error" or found.startswith("error: ")):
            return f"{name} says {found[:300]}"
        hint = "; does it end without `return`?" if found is None else ""
        return f"{name} returned {found!r:.60}: it must return right, wrong or error{hint}"

    return judged


def _plain(found: Any) -> Any:
    """A verdict without what does not matter: case, blanks, numpy's types."""
    if isinstance(found, str):
        stripped = found.strip()
        return stripped.lower() if stripped.lower() in _VERDICTS else stripped
    return found.item() if getattr(found, "shape", None) == () else found


def fault(reason: str) -> UserError:
    """The error of a verifier that cannot be used."""
    return UserError(f"{WHERE}: {reason}")
