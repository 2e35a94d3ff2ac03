"""What `plan --advise` says: slices in order, what they cost, and the commands that start a run."""

import math
import shlex
from collections.abc import Callable, Iterable, Sequence

from sar_jax.planning.prices import Prices
from sar_jax.planning.search import Candidate

Value = Callable[[Candidate], float]


def rankings(prices: Prices, capacity: str, deadline: float | None) -> dict[str, Value]:
    """What candidates are compared by, by a heading.

    capacity   how chips are lent, which gives their price
    deadline   hours of the whole run; a slice that takes longer is out of the question
    """
    within = lambda value: lambda c: value(c) if not deadline or c.hours <= deadline else math.inf
    return {
        "chip-hours": within(lambda c: c.chip_hours),
        f"list price ({capacity})": within(lambda c: _cost(c, prices, capacity)),
        "hours": within(lambda c: c.hours),
    }


def _version(candidate: Candidate) -> str:
    return candidate.topology.partition(":")[0]


def _cost(candidate: Candidate, prices: Prices, capacity: str) -> float:
    """Infinite where the price is not known."""
    price = prices.of(_version(candidate), capacity)
    return math.inf if price is None else price * candidate.chip_hours


def lines(
    heading: str,
    best: Sequence[Candidate],
    prices: Prices,
    capacity: str,
    command: Callable[[Candidate], Iterable[str]],
) -> list[str]:
    """One ranking. command: the lines of a shell that start a candidate's run."""
    found = ["", f"The best by {heading}:"]
    if not best:
        return [*found, "  none fits"]
    for i, c in enumerate(best):
        cost = _cost(c, prices, capacity)
        price = f"{cost:,.0f} {prices.currency}" if cost < math.inf else "price not known"
        found += [
            f"  {i + 1}. {c.topology}, {c.chips} chips: {c.seconds:.1f} s a step, "
            f"{c.hours:.1f} hours, {c.chip_hours:.1f} chip-hours, {price}",
            *(f"       {line}" for line in command(c)),
        ]
    return found


def source(prices: Prices) -> str:
    """What prices are, for a reader who would take them for a bill."""
    return (
        f"Prices are list prices of {prices.date} for the chips alone, from {prices.source}. "
        "--prices=FILE takes others."
    )


def words(config_words: Sequence[str], overrides: Sequence[str]) -> str:
    """The arguments of a run: those that were given, and what is advised; a later one counts."""
    names = {word.partition("=")[0] for word in overrides}
    kept = [word for word in config_words if word.partition("=")[0] not in names]
    return shlex.join([*kept, *overrides])
