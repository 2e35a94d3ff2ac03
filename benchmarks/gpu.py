"""What cuDNN's attention saves on GPUs: the memory of score and gradient with each kernel, by XLA's
GPU compiler.

    JAX_PLATFORMS=cpu python benchmarks/gpu.py [--configs=qwen3_4b] [--gpus=8] [--rows=2]

Needs `pip install '.[gpu]'` and no GPU: the programs are compiled for H100s that are described to
the compiler, and not run. Prints Markdown; GiB a GPU. Gemma 3 cannot be compiled like this: JAX
asks the GPU itself whether it takes heads of 256."""

import argparse
import re
import runpy
from pathlib import Path

import jax
from jax.experimental import topologies

from sar_jax.parallel import sharding
from sar_jax.planning import estimate, programs

CONFIGS = Path(__file__).parent.parent / "configs"
# NVIDIA's H100 data sheet and the CUDA programming guide's table of compute capability 9.0.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132 fpus_per_core: 128 threads_per_warp: 32 clock_rate_ghz: 1.98
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  l2_cache_size: 52428800 memory_bandwidth: 3350000000000 device_memory_size: 85899345920
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 12 patch: 0 }
runtime_version { major: 13 minor: 0 patch: 0 }
"""


def describe(name: str, kernel: str, gpus: int, rows: int) -> dict[str, programs.Program]:
    """The programs of a shipped config with `rows` rows a GPU in a micro-batch."""
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    config.model.attention, config.packing.rows_per_microbatch = kernel, rows * gpus
    devices = topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=H100, topology=f"1x1x{gpus}"
    ).devices
    mesh = sharding.make_mesh(1, gpus, 1, list(devices))
    return programs.describe(config, estimate.read_model(config), mesh).programs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", default="qwen3_4b,qwen3_1p7b,phi35_mini")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2)
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {options.gpus} H100, {options.rows} rows a GPU\n")
    print(
        "| config | program | attention | temporary | all of it | calls of cuDNN |\n"
        "|---|---|---|---|---|---|"
    )
    for name in options.configs.split(","):
        for kernel in ("xla", "cudnn"):
            described = describe(name, kernel, options.gpus, options.rows)
            for which in ("score", "gradient"):
                program = described[which]
                with jax.sharding.use_abstract_mesh(program.mesh.abstract_mesh):
                    compiled = program.lower().compile()
                memory = compiled.memory_analysis()
                own = (
                    memory.argument_size_in_bytes
                    + memory.output_size_in_bytes
                    - memory.alias_size_in_bytes
                    + memory.temp_size_in_bytes
                )
                calls = len(re.findall(r'custom_call_target="__cudnn\$fmha', compiled.as_text()))
                print(
                    f"| {name} | {which} | {kernel} | {memory.temp_size_in_bytes / 2**30:.2f} | "
                    f"{(own + program.beside) / 2**30:.2f} | {calls} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
