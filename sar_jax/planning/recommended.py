"""What `plan --advise` says: slices in order, what they cost, and the commands that start a run."""

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sar_jax.errors import UserError
from sar_jax.parallel import slices
from sar_jax.planning.arithmetic import changed
from sar_jax.planning.estimate import Plan
from sar_jax.planning.prices import Prices
from sar_jax.planning.search import Asked, Candidate, Search, candidates
from sar_jax.planning.units import chip_time, digits, duration
from sar_jax.training.settings import derived

_LENT = ("on-demand", "spot", "flex-start")  # capacities that the launch scripts know
Value = Callable[[Candidate], float]


class Settings(NamedTuple):
    """prices, capacity, deadline: as `rankings` has them; given: the words --config... of the
    command line."""

    prices: Prices
    capacity: str
    deadline: float | None
    given: Sequence[str]


def rankings(prices: Prices, capacity: str, deadline: float | None) -> dict[str, Value]:
    """What candidates are compared by, by a heading.

    capacity   how chips are lent, which gives their price; the ranking by it is left out where
               none is known
    deadline   hours of the whole run; a slice that takes longer is out of the question
    """
    within = lambda value: lambda c: value(c) if not deadline or c.hours <= deadline else math.inf
    return {
        "chip-hours": within(lambda c: c.chip_hours),
        f"list price ({capacity})": within(lambda c: _cost(c, prices, capacity)),
        "hours": within(lambda c: c.hours),
    }


def _version(candidate: Candidate) -> str:
    return slices.parse(candidate.topology).version


def _cost(candidate: Candidate, prices: Prices, capacity: str) -> float:
    """Infinite where the price is not known."""
    price = prices.of(_version(candidate), capacity)
    return math.inf if price is None else price * candidate.chip_hours


def lines(
    heading: str, best: Sequence[Candidate], settings: Settings, said: Sequence[str] = ()
) -> list[str]:
    """One ranking. said: slices whose commands are known from another one."""
    prices, found = settings.prices, ["", f"The best by {heading}:"]
    for i, c in enumerate(best):
        cost = _cost(c, prices, settings.capacity)
        price = f"{digits(cost)} {prices.currency}" if cost < math.inf else "price not known"
        found += [
            f"  {i + 1}. {c.topology}, {c.chips} chips: {duration(c.seconds)} a step, "
            f"{duration(3600 * c.hours)}, {chip_time(c.chip_hours)}, {price}",
            *(f"       {line}" for line in commands(c, settings) if c.topology not in said),
        ]
    return found


def source(prices: Prices) -> str:
    """What prices are, for a reader who would take them for a bill."""
    return (
        f"Prices are list prices of {prices.date} for the chips alone, from {prices.source}. "
        "--prices=FILE takes others."
    )


def commands(candidate: Candidate, settings: Settings) -> list[str]:
    """The lines of a shell that start a run; PROJECT, ZONE, NAME and WORKDIR are the reader's."""
    place = slices.parse(candidate.topology)
    script = "launch/tpu_vm.sh"
    if "tpu_vm" not in slices.VERSIONS[place.version].services:
        script = "launch/gce.sh"
    lent = f" CAPACITY={settings.capacity}" if settings.capacity in _LENT else ""
    return [
        f"export ACCELERATOR={place.accelerator_type}{lent}",
        f"{script} create && {script} install",
        f"{script} run {words(settings.given, candidate.overrides)}",
    ]


def words(given: Sequence[str], overrides: Sequence[str]) -> str:
    """The arguments of a run: those that were given, and what is advised in their place."""
    names = {word.partition("=")[0] for word in overrides}
    kept = [word for word in given if word.partition("=")[0] not in names]
    return shlex.join([*kept, *overrides])


def recommend(
    asked: Asked,
    topologies: Sequence[str],
    settings: Settings,
    make: Callable[[Candidate], Plan],
    tell: Callable[[str], None],
) -> Iterator[tuple[str, list[Candidate]]]:
    """Each ranking's heading and its best, as soon as they are certain.

    make   the plan of a candidate, by the compiler
    tell   hears what is done meanwhile

    Raises `UserError` where nothing fits, or nothing is in time.
    """
    known = settings.prices.capacities()
    if settings.capacity not in known:
        raise UserError(
            f"--capacity is {settings.capacity!r}, of which no price is known; there are "
            f"{', '.join(known)}, and --prices=FILE takes others"
        )
    found, packed = {}, {}
    for i, topology in enumerate(topologies):
        tell(f"arithmetic for {topology}, {i + 1} of {len(topologies)} slices")
        found[topology] = candidates(asked, topology, packed)
    if not any(found.values()):
        raise UserError(
            f"the run fits none of {', '.join(topologies)}, with any settings that change no "
            "value; allow more chips (--max_chips), or see --config.lora.rank and "
            "--config.rollout.precision"
        )
    search = Search(found, make)
    values = rankings(settings.prices, settings.capacity, settings.deadline)
    for heading, value in values.items():
        best = search.best(value)
        if not best and heading.startswith("list price"):
            continue  # of none of these chips
        if not best:
            raise UserError(
                f"no slice is done in --deadline={settings.deadline:g} hours: the fastest takes "
                f"{duration(3600 * min(c.hours for rows in found.values() for c in rows))}; allow "
                "more chips (--max_chips) or time"
            )
        yield heading, best


_OFFERS = (
    ("rollout", {"precision": "int8"}, "answers are drawn from rounded weights and cache"),
    ("lora", {"rank": 16}, "adapters are trained, and not all weights"),
)


def offers(asked: Asked, topology: str) -> Iterator[str]:
    """What else would be faster on a slice, and changes values; by arithmetic."""
    for section, fields, means in _OFFERS:
        ((name, value),) = fields.items()
        if getattr(getattr(asked.config, section), name):
            continue  # it is set
        config = derived.spelled_out(changed(asked.config, **{section: fields}))
        found = candidates(asked._replace(config=config), topology)
        if found:
            yield (
                f"  --config.{section}.{name}={value}: {duration(found[0].seconds)} a step, by "
                f"arithmetic; {means}"
            )
