"""A run on one slice: what its programs take, by the compiler, and how long a step takes at least.

    programs.describe   every jitted function of a step, as shapes
    compiling           compiles them for the slice: the compiler's own memory plan, and the
                        collectives in its text; or finds what was compiled before
    roofline            flops by hand, bytes, published limits -> seconds

Memory is the compiler's, not an estimate; seconds are, at the chip's limits. Nothing is run.
"""

import dataclasses
import math
import pathlib
from typing import Any

import jax

from sar_jax import config as config_lib
from sar_jax.model import download, families, hf, known, parameters
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import chips, sharding
from sar_jax.planning import compiling, programs, roofline
from sar_jax.planning.kept import Kept
from sar_jax.planning.measured import SILENT, Head, Measured, Watch
from sar_jax.training.own import families as own_families


@dataclasses.dataclass(frozen=True)
class Time:
    """A program in a step. compute, memory, network: seconds of a call at each limit.

    network   None where what is sent is not known: the seconds leave it out
    """

    calls: float
    flops: float
    compute: float
    memory: float
    network: float | None
    seconds: float  # of all calls


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run on one slice; bytes on one device.

    hbm               that programs may use
    overrides         of the config, that a run on this slice needs
    rows              a micro-batch, with them
    slots             of the decoder; as many as fit where the config says auto
    filled            share of computed positions that are tokens, for answers of these lengths
    parameters        of the model
    cache             of all slots
    decoding_copies   of the model, among the devices
    peak              of the largest program
    tokens_per_second, hours, chip_hours   of answers; of the whole run: at the chip's limits
    """

    topology: str
    chips: int
    devices: int
    hbm: float
    overrides: list[str]
    rows: int
    slots: int
    filled: float
    programs: dict[str, Measured]
    parameters: int
    residents: programs.Residents
    cache: int
    decoding_copies: int
    peak: float
    times: dict[str, Time]
    step_seconds: float
    tokens_per_second: float
    hours: float
    chip_hours: float

    def fits(self) -> bool:
        return self.peak <= self.hbm

    def to_json(self) -> dict[str, Any]:
        """As --json writes it; null where there is no number."""
        finite = lambda x: None if isinstance(x, float) and math.isinf(x) else x
        found = dataclasses.asdict(self) | {"residents": self.residents._asdict()}
        found["programs"] = {
            name: {key: finite(value) for key, value in program.items()}
            for name, program in found["programs"].items()
        }
        return found | {"peak": finite(self.peak)}


def read_model(config: config_lib.TrainConfig) -> ModelConfig:
    """The model's description: of its folder, of the models that are known here, or of the hub."""
    own_families.use(config.model.families)
    path, longest = config.model.path, config_lib.max_length(config)
    if path in known.CONFIGS and not pathlib.Path(path).exists():
        return families.parse(known.CONFIGS[path], longest)
    return hf.load_config(download.locate(path), longest)


def estimate(
    config: config_lib.TrainConfig,
    cfg: ModelConfig,
    topology: str,
    prompt_tokens: float,
    answer_tokens: float,
    kept: Kept | None = None,
    watch: Watch = SILENT,
) -> Plan:
    """The plan of a run on a slice like "v6e:2x4".

    prompt_tokens, answer_tokens   mean lengths, for the estimate of seconds
    kept                           what was compiled before is taken from there
    watch                          hears how far it is

    Raises `UserError` where the slice is not known, or does not fit the model.
    """
    watch.tell(f"describing {topology}")
    tpus = compiling.describe(topology)
    count = len(tpus.devices)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, tpus.devices)
    sharding.check_tensor(mesh, cfg.num_kv_heads)
    config, overrides = with_rows_that_fit(config, mesh)
    is_fitted = config.rollout.slots == "auto"
    config = programs.fitted(config, cfg, mesh, tpus.device.hbm)
    described = programs.describe(config, cfg, mesh)
    head = _head(config, tpus, described, overrides, is_fitted)
    watch.begin(head)
    measured = compiling.measure_all(described.programs, kept, watch)
    shapes = described.shapes
    work = roofline.Work(prompt_tokens, answer_tokens, shapes.rows * shapes.width, count)
    rows = roofline.packed_rows(config, work, described.assembly.base.kernel)
    calls = roofline.step_calls(config, described.assembly.base, described.residents, work, rows)
    times = {name: _time(call, measured.get(name), tpus.device) for name, call in calls.items()}
    step = sum(t.seconds for t in times.values())
    hours = step * config.steps / 3600
    return Plan(
        *head[:4],
        overrides,
        config.packing.rows_per_microbatch,
        config.rollout.slots,
        rows.filled,
        measured,
        parameters.count_params(cfg),
        described.residents,
        described.cache,
        head.decoding_copies,
        peak=max(p.total for p in measured.values()),
        times=times,
        step_seconds=step,
        tokens_per_second=config.rollout.questions * config.rollout.samples * answer_tokens / step,
        hours=hours,
        chip_hours=hours * tpus.chips,
    )


def _head(
    config: config_lib.TrainConfig,
    tpus: chips.Slice,
    described: programs.Described,
    overrides: list[str],
    is_fitted: bool,
) -> Head:
    return Head(
        tpus.name,
        tpus.chips,
        len(tpus.devices),
        tpus.device.hbm,
        decoding_copies=len(tpus.devices) // described.assembly.decoding.shape["tensor"],
        overrides=overrides,
        slots=config.rollout.slots,
        slots_are_fitted=is_fitted,
        programs=list(described.programs),
    )


def with_rows_that_fit(
    config: config_lib.TrainConfig, mesh: jax.sharding.Mesh
) -> tuple[config_lib.TrainConfig, list[str]]:
    """The config with as many rows as the devices can share, and the override that a run needs.

    The decoder rounds its slots up by itself.
    """
    old, devices = config.packing.rows_per_microbatch, sharding.batch_devices(mesh)
    new = math.ceil(old / devices) * devices
    if new == old:
        return config, []
    packing = dataclasses.replace(config.packing, rows_per_microbatch=new)
    override = f"--config.packing.rows_per_microbatch={new}"
    return dataclasses.replace(config, packing=packing), [override]


def _time(call: roofline.Call, program: Measured | None, device: chips.Chip) -> Time:
    # decode sends in its loop's body, which is one token; what is not compiled copies nothing
    limits = roofline.limits(call, program.sent if program else 0.0, device)
    return Time(call.calls, call.flops, *limits, seconds=call.calls * limits.longest)
