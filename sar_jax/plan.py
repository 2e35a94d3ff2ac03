"""Will a run fit a TPU slice, and how long will it take? Answered without one, by the real TPU
compiler.

    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4 [--json=FILE]
    python -m sar_jax.plan --config=configs/qwen3_4b.py --sweep=v5e:4x4,v6e:2x4,v5p:4x4x4      one table

    programs.describe   every jitted function of a step, as shapes
    compile             for the slice: the compiler's own memory plan, and the collectives in its text
    roofline            flops by hand, bytes, published limits -> seconds

Memory is the compiler's, not an estimate; seconds are, at the chip's limits. Nothing is run. Needs
`pip install libtpu`, and some minutes of processor time for a model of billions of parameters."""

import importlib.metadata
import json
import math
import pathlib
import time
from typing import Any

import jax
from absl import flags
from rich.console import Console

from sar_jax import checks, cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import download, families, hf, known, parameters
from sar_jax.model import network as network_lib
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import chips, sharding
from sar_jax.planning import hlo, programs, roofline, tables
from sar_jax.rollout import shapes as shapes_lib

_TOPOLOGY = flags.DEFINE_string("topology", None, "A slice, like v6e:2x4.")
_SWEEP = flags.DEFINE_list("sweep", None, "Several slices, separated by commas; prints one table.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")
_ANSWER = flags.DEFINE_float(
    "answer_tokens", 900, "Mean length of an answer, for the estimate of seconds.", lower_bound=1
)
_PROMPT = flags.DEFINE_float(
    "prompt_tokens", 150, "Mean length of a prompt, for the estimate of seconds.", lower_bound=1
)


def read_model(config: config_lib.TrainConfig) -> ModelConfig:
    """The model's description: of its folder, of a model that comes described along, or of the
    hub's."""
    path, longest = config.model.path, config_lib.max_length(config)
    if path in known.CONFIGS and not pathlib.Path(path).exists():
        return families.parse(known.CONFIGS[path], longest)
    return hf.load_config(download.locate(path), longest)


def fit_rows(config: config_lib.TrainConfig, mesh: jax.sharding.Mesh) -> list[str]:
    """Raises the count of rows, in place, to what the devices can share; returns the override that
    a run would need. (The decoder rounds its slots up by itself.)"""
    old, devices = config.packing.rows_per_microbatch, sharding.batch_devices(mesh)
    config.packing.rows_per_microbatch = math.ceil(old / devices) * devices
    new = config.packing.rows_per_microbatch
    return [] if new == old else [f"--config.packing.rows_per_microbatch={new}"]


def plan(
    config: config_lib.TrainConfig,
    cfg: ModelConfig,
    topology: str,
    prompt_tokens: float,
    answer_tokens: float,
) -> dict[str, Any]:
    """Bytes a device, bytes sent and seconds of every program on one slice, and of a step; shown by
    `planning`."""
    chip, devices = chips.describe(topology)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, devices)
    sharding.check_tensor(mesh, cfg.num_kv_heads)
    decoding = sharding.decoding_mesh(mesh, config.rollout.tensor, cfg.num_kv_heads)
    found: dict[str, Any] = {
        "topology": topology,
        "chips": len(devices) // chip.devices,
        "devices": len(devices),
        "hbm": chip.hbm,
        "overrides": fit_rows(config, mesh),
        "programs": {},
    }
    described, residents = programs.describe(config, cfg, mesh)
    found |= {
        "parameters": parameters.count_params(cfg),
        "residents": residents._asdict(),
        "cache": programs.cache_bytes(config, cfg, decoding),
        "decoding_copies": len(devices) // decoding.shape["tensor"],
    }
    for name, program in described.items():
        found["programs"][name] = _compile(program)
    found["peak"] = max(p["total"] for p in found["programs"].values())
    shapes = shapes_lib.of_config(
        config, network_lib.pick_kernel(config.model, cfg, mesh), sharding.batch_devices(decoding)
    )
    calls = roofline.step_calls(
        config,
        cfg,
        len(devices),
        residents,
        prompt_tokens,
        answer_tokens,
        shapes.rows * shapes.width,
    )
    times = {}
    for name, call in calls.items():
        sent = (
            found["programs"].get(name, {}).get("sent") or 0
        )  # decode: in its loop's body, which is one token
        limits = roofline.seconds(call, sent, chip)
        times[name] = {
            "calls": call.calls,
            "flops": call.flops,
            **limits,
            "seconds": call.calls * max(limits.values()),
        }
    step = sum(t["seconds"] for t in times.values())
    tokens = config.rollout.questions * config.rollout.samples * answer_tokens
    return found | {
        "times": times,
        "step_seconds": step,
        "tokens_per_second": tokens / step,
        "hours": step * config.steps / 3600,
        "chip_hours": step * config.steps / 3600 * found["chips"],
    }


def _compile(program: programs.Program) -> dict[str, Any]:
    start = time.process_time()
    try:
        with jax.sharding.use_abstract_mesh(program.mesh.abstract_mesh):
            compiled = program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {
            "total": math.inf,
            "temporary": math.inf,
            "beside": program.beside,
            "sent": None,
            "collectives": None,
            "compile_seconds": time.process_time() - start,
            "compiler": str(error).splitlines()[0],
        }
    memory = compiled.memory_analysis()
    own = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    spent = time.process_time() - start
    try:
        collectives = hlo.collective_bytes(compiled.as_text(), program.mesh.size)
    except jax.errors.JaxRuntimeError:  # jax 0.10 cannot print some programs with fused attention
        collectives = None
    return {
        "total": own + program.beside,
        "beside": program.beside,
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "collectives": collectives,
        "sent": None if collectives is None else sum(collectives.values()),
        "compile_seconds": spent,
    }


def main(get_config) -> None:
    if bool(_TOPOLOGY.value) == bool(_SWEEP.value):
        raise UserError("give --topology=v6e:2x4, or --sweep=v6e:2x4,v5e:4x4 for several")
    console, found = Console(), []
    for topology in _SWEEP.value or [_TOPOLOGY.value]:
        config = config_lib.from_dict(
            config_lib.TrainConfig, json.loads(config_lib.to_json(get_config()))
        )
        config.data.train = config.data.train or "arithmetic"  # a plan needs no data
        checks.check(config)
        found.append(plan(config, read_model(config), topology, _PROMPT.value, _ANSWER.value))
        if not _SWEEP.value:
            tables.show(console, config, found[-1])
    if _SWEEP.value:
        tables.show_sweep(console, found)
    if _JSON.value:
        about = {
            "jax": jax.__version__,
            "libtpu": importlib.metadata.version("libtpu"),
            "answer_tokens": _ANSWER.value,
        }
        text = json.dumps({**about, "slices": found}, indent=2)
        pathlib.Path(_JSON.value).write_text(text.replace("Infinity", "null") + "\n")
        print(f"wrote {_JSON.value}")


if __name__ == "__main__":
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
