"""Properties: checked on examples picked by hand in every run, and on drawn ones by
`pytest -m explore`.

Which examples are drawn depends on the version of hypothesis and on chance, so that no other run
draws. A draw that fails belongs among the examples: hypothesis prints its values."""

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

SECONDS = 20  # that one property is explored for
settings.register_profile(
    "explore",
    max_examples=1000,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate],  # shrinking may take as long again as finding, many times over
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("explore")
_DRAWN = object()


def holds_for(examples: Sequence[Any], **strategies: SearchStrategy) -> Callable:
    """A test that its function holds for each example: a tuple of values for the names of the
    strategies, in their order; where there is one name, its value. Other parameters are fixtures or
    parametrised."""
    names = list(strategies)

    def decorate(check: Callable) -> Callable:
        others = [name for name in inspect.signature(check).parameters if name not in names]

        def test(example, **fixtures):
            if example is _DRAWN:
                _explore(check, fixtures, strategies)
            else:
                values = example if len(names) > 1 else [example]
                check(**fixtures, **dict(zip(names, values, strict=True)))

        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        test.__signature__ = inspect.Signature(
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in ["example", *others]
        )
        drawn = pytest.param(_DRAWN, marks=pytest.mark.explore, id="drawn")
        return pytest.mark.parametrize("example", [*examples, drawn])(test)

    return decorate


def _explore(check: Callable, fixtures: dict, strategies: dict[str, SearchStrategy]) -> None:
    end = time.monotonic() + SECONDS

    @given(**strategies)
    def draw(**values):
        if time.monotonic() < end:
            check(**fixtures, **values)

    draw()
