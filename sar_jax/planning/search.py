"""Which slice, and with which settings? Arithmetic for all, the compiler for the best of them.

    candidates   for every slice and mesh the settings that change no value, by `arithmetic`
    Search       compiles the most promising until the best three of a ranking are certain

A ranking is by chip-hours, by what they cost or by hours. What was compiled is kept, so a search
that was interrupted goes on where it was.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import chips, sharding
from sar_jax.planning import arithmetic, compiling, estimate, programs, roofline
from sar_jax.planning.arithmetic import Guess, Place, changed
from sar_jax.planning.estimate import Plan
from sar_jax.planning.tables import DECODER

BEST = 3  # of a ranking
_NARROWEST = 4
_POLICIES = ("dots", "dots_but_up", "block", "offload")  # "none" keeps what XLA likes
_GROUPS = (1, 2, 4)  # of devices that hold all parameters each
_MARGIN = 1.02  # of the memory: the arithmetic may say too much
_LEFT = 0.93  # of the memory that did not fit: the next try takes at most this
_WORTH = 0.99  # of the seconds that are certain: what may take less is compiled too
_FIELDS = (
    "mesh.data",
    "rollout.slots",
    "packing.rows_per_microbatch",
    "packing.narrowest",
    "model.remat",
    "model.offload_reference",
)


class Asked(NamedTuple):
    """A config, its model, and the lengths of prompts and answers on average."""

    config: config_lib.TrainConfig
    cfg: ModelConfig
    prompt_tokens: float
    answer_tokens: float


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A slice with settings.

    given   the config without them
    guess   by arithmetic, and the config with them
    plan    by the compiler, once it was asked
    """

    topology: str
    chips: int
    given: config_lib.TrainConfig
    guess: Guess
    plan: Plan | None = None

    @property
    def config(self) -> config_lib.TrainConfig:
        return self.guess.config

    @property
    def overrides(self) -> list[str]:
        """As options of a command."""
        return differences(self.given, self.config)

    @property
    def seconds(self) -> float:
        """Of a step, as well as they are known."""
        return self.plan.step_seconds if self.plan else self.guess.seconds

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.seconds * self.config.steps / 3600

    @property
    def chip_hours(self) -> float:
        return self.hours * self.chips


def slices(versions: Sequence[str], max_chips: int) -> list[str]:
    """The slices of these chips with at most so many of them. Raises `UserError`."""
    for version in versions:
        if version not in chips.CHIPS:
            raise UserError(f"--chips: {version!r} is no chip; there are {', '.join(chips.CHIPS)}")
    size = lambda shape: math.prod(map(int, shape.split("x")))
    found = [
        f"{version}:{shape}"
        for version in versions
        for shape in chips.CHIPS[version].slices
        if size(shape) <= max_chips
    ]
    if not found:
        raise UserError(f"--max_chips is {max_chips}, and the smallest slice has more chips")
    return found


def candidates(
    asked: Asked, topology: str, packed: dict[tuple[int, str], roofline.Rows] | None = None
) -> list[Candidate]:
    """Settings for a slice, the fastest first; none where nothing fits, by arithmetic.

    packed   holds what rows were packed before, by their number and the kernel of attention: it is
             the same for all slices, and most of the work

    Copies to and from the host's memory are not in the seconds. So settings that use it where the
    config does not come after all others.
    """
    tpus = compiling.describe(topology)
    found: list[Candidate] = []
    packed = {} if packed is None else packed
    for place, config in _places(asked, tpus):
        for made in _settings(config, sharding.batch_devices(place.described.assembly.mesh)):
            key = made.packing.rows_per_microbatch, place.described.assembly.base.kernel
            if key not in packed:
                packed[key] = roofline.packed_rows(made, place.work, key[1])
            guess = arithmetic.guess(made, place, packed[key])
            if guess is None or guess.memory > _MARGIN * tpus.device.hbm:
                continue
            found.append(Candidate(topology, tpus.chips, asked.config, guess))
    given = _hosted(asked.config)
    return sorted(found, key=lambda c: (not _hosted(c.config) <= given, c.guess.seconds))


def _hosted(config: config_lib.TrainConfig) -> set[str]:
    """What waits in the host's memory."""
    parts = {"reference": config.model.offload_reference, "layers": config.model.remat == "offload"}
    return {name for name, waits in parts.items() if waits}


def _places(asked: Asked, tpus: chips.Slice) -> Iterator[tuple[Place, config_lib.TrainConfig]]:
    """The slice with the axes that its devices may have, and the config for these."""
    given, count = asked.config.mesh, len(tpus.devices)
    for groups in {given.data} if given.data != 1 else _GROUPS:
        if count % groups or count < groups * given.tensor:
            continue
        config = changed(asked.config, mesh={"data": groups})
        try:
            mesh = sharding.make_mesh(groups, given.fsdp, given.tensor, tpus.devices)
            sharding.check_tensor(mesh, asked.cfg.num_kv_heads)
        except UserError:
            continue  # these axes do not fit this slice
        devices = sharding.batch_devices(mesh)
        described = programs.describe(
            changed(config, rollout={"slots": devices}, packing={"rows_per_microbatch": devices}),
            asked.cfg,
            mesh,
        )
        shapes = described.shapes
        lengths = asked.prompt_tokens, asked.answer_tokens
        work = roofline.Work(*lengths, shapes.rows * shapes.width, count)
        yield Place(tpus, described, work), config


def _settings(config: config_lib.TrainConfig, devices: int) -> Iterator[config_lib.TrainConfig]:
    """Those that change no value; slots are as many as fit."""
    policies = dict.fromkeys((config.model.remat, *_POLICIES))
    policies.pop("none", None)
    offloads = {config.model.offload_reference, True}
    rows = {
        -(-config.packing.rows_per_microbatch // devices) * devices,
        *(devices * n for n in (1, 2, 4)),
    }
    narrowest = max(config.packing.narrowest, _NARROWEST)
    for policy, offload, count in itertools.product(policies, offloads, rows):
        yield changed(
            config,
            model={"remat": policy, "offload_reference": offload},
            packing={"rows_per_microbatch": count, "narrowest": narrowest},
            rollout={"slots": "auto"},
        )


def differences(old: config_lib.TrainConfig, new: config_lib.TrainConfig) -> list[str]:
    """As options of a command."""
    found = []
    for path in _FIELDS:
        section, name = path.split(".")
        before, now = (getattr(getattr(config, section), name) for config in (old, new))
        if before != now:
            found.append(f"--config.{path}={str(now).lower() if isinstance(now, bool) else now}")
    return found


class Search:
    """Rankings of candidates, the best of which are compiled.

    make    the plan of a candidate, by the compiler

    What is sent is all that the arithmetic says of seconds and the compiler may contradict. So what
    would be slower if it sent nothing needs no compiling; nor does what would be slower if the
    arithmetic were as wrong about it as about compiled settings of the same mesh.
    """

    def __init__(
        self, found: dict[str, list[Candidate]], make: Callable[[Candidate], Plan]
    ) -> None:
        self._waiting = {name: list(rows) for name, rows in found.items() if rows}
        self._make = make
        self._certain: dict[str, Candidate] = {}
        self._compiled: dict[tuple[str, int], Candidate] = {}  # the last of a slice and mesh

    def best(self, value: Callable[[Candidate], float], count: int = BEST) -> list[Candidate]:
        """Those with the lowest values, one of a slice, compiled; fewer where fewer fit.

        value   infinite for what is out of the question
        """
        while True:
            order = sorted(self._current(), key=value)
            order = [candidate for candidate in order if value(candidate) < math.inf][:count]
            waiting = [c for c in order if not c.plan] or [
                other for c in order if (other := self._better(c))
            ]
            if not waiting:
                return order
            self._try(waiting[0])

    def _current(self) -> list[Candidate]:
        """Of each slice the best that is compiled, else the fastest by arithmetic."""
        waiting = {name: rows[0] for name, rows in self._waiting.items() if rows}
        return list({**waiting, **self._certain}.values())

    def _better(self, certain: Candidate) -> Candidate | None:
        """The first of the same slice that may be faster, and uses the host's memory no more."""
        hosted = _hosted(certain.config)
        for other in self._waiting[certain.topology]:
            if not _hosted(other.config) <= hosted:
                continue
            known = self._compiled.get((other.topology, other.config.mesh.data))
            guess = other.guess
            least = guess.corrected(known.guess, known.plan) if known else guess.least
            if least < _WORTH * certain.seconds:
                return other
        return None

    def _try(self, candidate: Candidate) -> None:
        topology, rows = candidate.topology, self._waiting[candidate.topology]
        rows.remove(candidate)
        plan = self._make(candidate)
        if not plan.fits():
            rows[:] = _instead(candidate, plan, rows)
            return
        made = dataclasses.replace(candidate, plan=plan)
        self._compiled[topology, candidate.config.mesh.data] = made
        before = self._certain.get(topology)
        if before is None or made.seconds < before.seconds:
            self._certain[topology] = made


def _instead(candidate: Candidate, plan: Plan, others: Sequence[Candidate]) -> list[Candidate]:
    """What to try where the arithmetic said too little of what a candidate takes."""
    over = {name for name, program in plan.programs.items() if program.total > plan.hbm}
    if not over <= set(DECODER):
        most = _LEFT * candidate.guess.gradient
        return [other for other in others if other.guess.gradient <= most]
    slots = int(_LEFT * candidate.config.rollout.slots)
    if slots < 1:
        return list(others)
    config = changed(candidate.config, rollout={"slots": slots})
    guess = candidate.guess._replace(config=config, decoding=_LEFT * candidate.guess.decoding)
    return [dataclasses.replace(candidate, guess=guess), *others]


def plan_of(asked: Asked, candidate: Candidate, *arguments: object) -> Plan:
    """By the compiler. arguments: what `estimate.estimate` takes besides."""
    lengths = asked.prompt_tokens, asked.answer_tokens
    topology, config = candidate.topology, candidate.config
    return estimate.estimate(config, asked.cfg, topology, *lengths, *arguments)
