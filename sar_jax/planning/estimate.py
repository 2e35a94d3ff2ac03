"""A run on one slice: what its programs take, by the compiler, and how long a step takes at least.

    programs.describe   every jitted function of a step, as shapes
    measure             compiles one for the slice: the compiler's own memory plan, and the
                        collectives in its text
    roofline            flops by hand, bytes, published limits -> seconds

Memory is the compiler's, not an estimate; seconds are, at the chip's limits. Nothing is run.
"""

import dataclasses
import math
import pathlib
import time
from typing import Any

import jax

from sar_jax import config as config_lib
from sar_jax.model import download, families, hf, known, parameters
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import chips, memory, progress, sharding
from sar_jax.planning import hlo, programs, roofline
from sar_jax.training.own import families as own_families


@dataclasses.dataclass(frozen=True)
class Measured:
    """One compiled program; bytes on one device. Infinite where the compiler finds no room for it.

    total             arguments, results, temporaries, code, and what is beside them
    beside            what is in memory meanwhile
    arguments         of the program; temporary: its temporaries
    collectives       bytes sent in a call, by kind; None where the program cannot be printed
    sent              their sum
    compile_seconds   of a processor
    compiler          what the compiler says where it finds no room
    """

    total: float
    beside: int
    temporary: float
    arguments: int | None = None
    collectives: dict[str, float] | None = None
    sent: float | None = None
    compile_seconds: float = 0.0
    compiler: str | None = None


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
) -> Plan:
    """The plan of a run on a slice like "v6e:2x4".

    prompt_tokens, answer_tokens   mean lengths, for the estimate of seconds

    Raises `UserError` where the slice is not known, or does not fit the model.
    """
    tpus = chips.describe(topology)
    count = len(tpus.devices)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, tpus.devices)
    sharding.check_tensor(mesh, cfg.num_kv_heads)
    config, overrides = with_rows_that_fit(config, mesh)
    config = programs.fitted(config, cfg, mesh, tpus.device.hbm)
    described = programs.describe(config, cfg, mesh)
    measured = {}
    with progress.bar(f"compiling for {topology}", "programs", len(described.programs)) as bar:
        for name, program in described.programs.items():
            bar.tell(f"({name})")
            measured[name] = measure(program)
            bar.advance()
    shapes = described.shapes
    work = roofline.Work(prompt_tokens, answer_tokens, shapes.rows * shapes.width, count)
    rows = roofline.packed_rows(config, work, described.assembly.base.kernel)
    calls = roofline.step_calls(config, described.assembly.base, described.residents, work, rows)
    times = {name: _time(call, measured.get(name), tpus.device) for name, call in calls.items()}
    step = sum(t.seconds for t in times.values())
    hours = step * config.steps / 3600
    return Plan(
        topology,
        tpus.chips,
        count,
        tpus.device.hbm,
        overrides,
        config.packing.rows_per_microbatch,
        config.rollout.slots,
        rows.filled,
        measured,
        parameters.count_params(cfg),
        described.residents,
        described.cache,
        decoding_copies=count // described.assembly.decoding.shape["tensor"],
        peak=max(p.total for p in measured.values()),
        times=times,
        step_seconds=step,
        tokens_per_second=config.rollout.questions * config.rollout.samples * answer_tokens / step,
        hours=hours,
        chip_hours=hours * tpus.chips,
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


def measure(program: programs.Program) -> Measured:
    """Compiles a program."""
    start = time.process_time()
    try:
        with jax.sharding.use_abstract_mesh(program.mesh.abstract_mesh):
            compiled = program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not memory.is_exhausted(error):
            raise
        return Measured(
            total=math.inf,
            beside=program.beside,
            temporary=math.inf,
            compile_seconds=time.process_time() - start,
            compiler=str(error).splitlines()[0],
        )
    spent = time.process_time() - start
    found = compiled.memory_analysis()
    try:
        collectives = hlo.collective_bytes(compiled.as_text(), program.mesh.size)
    except jax.errors.JaxRuntimeError:  # jax 0.10 cannot print some programs with fused attention
        collectives = None
    return Measured(
        total=memory.program_bytes(compiled) + program.beside,
        beside=program.beside,
        temporary=found.temp_size_in_bytes,
        arguments=found.argument_size_in_bytes,
        collectives=collectives,
        sent=None if collectives is None else sum(collectives.values()),
        compile_seconds=spent,
    )
