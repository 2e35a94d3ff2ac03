"""Loading a Hugging Face folder of a real model's shape: seconds, and the most memory that the
process held.

    JAX_PLATFORMS=cpu python benchmarks/loading.py [--folder=DIR] [--dtype=float32|bfloat16]
    [--devices=1]

Writes random bfloat16 weights of Qwen3-1.7B's shape to the folder (3.4 GB; kept, so that it can be
read again), loads them in a process of its own as a run does, and prints its peak resident memory,
pages of mapped files included, beside the parameters' own size. The bound to hold: the parameters
and 2 GB."""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

QWEN3_1P7B = dict(
    num_hidden_layers=28,
    hidden_size=2048,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=6144,
    vocab_size=151936,
    rope_theta=1e6,
    max_position_embeddings=40960,
    dtype="bfloat16",
)


def write(folder: pathlib.Path) -> None:
    """A folder as published: two files and their index. One file's tensors are in memory at a
    time."""
    import huggingface_hub
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file

    from sar_jax.model import families, tensors

    folder.mkdir(parents=True, exist_ok=True)
    raw = families.qwen3_json(**QWEN3_1P7B)
    cfg, rng = families.parse(raw, 5120), np.random.default_rng(0)
    plan = tensors.stored_tensors(cfg)
    split = huggingface_hub.split_state_dict_into_shards_factory(
        plan,
        get_storage_size=lambda stored: 2 * math.prod(stored.shape),
        max_shard_size="2GB",
        filename_pattern="model{suffix}.safetensors",
    )
    for file, names in split.filename_to_tensors.items():
        save_file(
            {
                n: rng.standard_normal(plan[n].shape, np.float32).astype(ml_dtypes.bfloat16)
                for n in names
            },
            folder / file,
            {"format": "pt"},
        )
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(raw))


def peak_memory() -> int:
    """Bytes; of this program alone, where getrusage would count what the process was before it
    started this one."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def load(folder: pathlib.Path, dtype: str) -> None:
    """What a run does before its first step; prints its figures as JSON."""
    import jax

    from sar_jax.model import hf, parameters
    from sar_jax.parallel import sharding

    jax.block_until_ready(jax.numpy.zeros(1))
    before = peak_memory()
    start = time.perf_counter()
    cfg = hf.load_config(folder, 5120)
    mesh = sharding.make_mesh(1, -1, 1)
    params = hf.load_params(
        folder, cfg, sharding.param_shardings(parameters.param_specs(cfg), mesh), dtype
    )
    jax.block_until_ready(params)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak": peak_memory(),
                "before": before,
                "params": sum(x.nbytes for x in jax.tree.leaves(params)),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=pathlib.Path(tempfile.gettempdir()) / "qwen3_1p7b_random",
    )
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--load", action="store_true", help="only load, in this process")
    options = parser.parse_args()
    if options.load:
        return load(options.folder, options.dtype)
    if not (options.folder / "config.json").is_file():
        write(options.folder)
    done = subprocess.run(
        [
            sys.executable,
            __file__,
            "--load",
            f"--folder={options.folder}",
            f"--dtype={options.dtype}",
        ],
        env=os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={options.devices}"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    gb = {name: value / 1e9 for name, value in figures.items() if name != "seconds"}
    more = gb["peak"] - gb["params"]
    print(
        f"{options.dtype} on {options.devices} CPU device(s): {figures['seconds']:.1f} s, "
        f"parameters {gb['params']:.2f} GB, peak {gb['peak']:.2f} GB ({more:.2f} GB more; "
        f"before loading {gb['before']:.2f} GB)"
    )


if __name__ == "__main__":
    main()
