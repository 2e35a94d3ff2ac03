"""How fast the decoder is, on this machine's devices: refilled slots against a static batch, and
answers of one length.

    JAX_PLATFORMS=cpu python benchmarks/rollout.py lognormal
    JAX_PLATFORMS=cpu python benchmarks/rollout.py fixed

lognormal: 512 answers (128 questions x 4) whose lengths are log-normal (quantiles, in random order)
with mean 900 and limit 4,096 tokens, both divided by 8, in 64 slots. The static batch is the same
decoder without what makes it more than that: 64 answers at a time, the next 64 when the last has
ended, never in fewer slots. fixed: 16 questions x 4 samples, 64 + 256 tokens, no early end; seconds
of wall clock and processor, the best of --repeats.

Both: a random 4-layer Qwen3 of width 256, float32, and bfloat16 on accelerators; there `bandwidth`
is the share of the memory's published one that reading the weights and the live cache once a token
takes. Everything is compiled before the clock starts. A token is useful when it is part of an
answer. Prints one line of JSON a figure."""

import argparse
import time

import jax
import numpy as np
from peers import meter, models, work

from sar_jax import config
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.parallel import chips
from sar_jax.rollout import sampler
from sar_jax.rollout import shapes as shapes_lib

HEADS = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=64)
# Bytes a second of NVIDIA's data sheets; those of TPUs are in `chips`.
BANDWIDTHS = {
    "NVIDIA H100 80GB HBM3": 3.35e12,
    "NVIDIA H200": 4.8e12,
    "NVIDIA A100-SXM4-80GB": 2.039e12,
    **{chip.kind: chip.bandwidth for chip in chips.CHIPS.values()},
}


def random_model(vocabulary: int, longest: int) -> tuple[Network, parameters.Params]:
    """Of width 256, in float32 on CPUs and in bfloat16 elsewhere."""
    raw = models.describe(vocabulary, **HEADS, max_position_embeddings=longest)
    cfg, params = models.draw(raw, longest)
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    options = config.Model(dtype=dtype, remat="none")
    return Network.of(options, cfg, params["embedding"].sharding.mesh), params


def run(
    made: sampler.Sample,
    params: parameters.Params,
    questions: range,
    limits: np.ndarray,
    width: int,
) -> dict[str, float]:
    """One call with questions of `width` tokens; seconds and what the decoder says of itself."""
    tokens = (
        np.random.default_rng(0).integers(1, 500, (1000, width)).astype(np.int32)[list(questions)]
    )
    start = time.perf_counter(), time.process_time()
    found = made(
        params,
        tokens,
        np.full(len(tokens), width, np.int32),
        np.array(questions, np.int32),
        jax.random.key(1),
        limits,
    )
    assert (found.lengths == limits).all()
    return {
        "wall": time.perf_counter() - start[0],
        "cpu": time.process_time() - start[1],
        "slot_steps": made.stats.slot_steps,
        "decode": made.stats.decode,
    }


def lognormal(options: argparse.Namespace) -> None:
    questions, samples, slots, limit, mean = 128, 4, 64, 512, 900 / 8
    limits = np.random.default_rng(7).permutation(
        work.quantiles(questions * samples, mean, options.sigma, limit)
    )
    network, params = random_model(options.vocabulary, 1024)

    def refilled() -> list[dict[str, float]]:
        return [run(made, params, range(questions), limits, 32) | {"tokens": limits.sum()}]

    def static() -> list[dict[str, float]]:
        parts = []
        for q in range(0, options.batches * slots // samples, slots // samples):
            own = limits[q * samples : q * samples + slots]
            parts.append(
                run(made, params, range(q, q + slots // samples), own, 32) | {"tokens": own.sum()}
            )
        return parts

    shrinking = shapes_lib.LEAST_SLOTS
    for name, function in (("refilled", refilled), ("static", static)):
        shapes_lib.LEAST_SLOTS = shrinking if name == "refilled" else slots  # no smaller batch
        made = sampler.Sample(network, (-1,), samples, limit, slots=slots)
        run(made, params, range(slots // samples), np.full(slots, 2), 32)  # compiles
        parts = function()
        total = {key: sum(part[key] for part in parts) for key in parts[0]}
        setting = dict(mode="lognormal", of=name, vocabulary=options.vocabulary)
        figures = {
            "tokens": (total["tokens"] / total["wall"], "useful tokens/s"),
            "wall": (total["wall"], "s"),
            "processor": (total["cpu"], "s"),
            "occupancy": (total["tokens"] / total["slot_steps"], "share"),
        }
        for what, (value, unit) in figures.items():
            meter.figure(f"rollout.{what}", value, unit, **setting)


def fixed(options: argparse.Namespace) -> None:
    network, params = random_model(options.vocabulary, 320)
    made = sampler.Sample(network, (-1,), 4, 256, slots=64)
    run(made, params, range(16), np.full(64, 2), 64)  # compiles
    found = [run(made, params, range(16), np.full(64, 256), 64) for _ in range(options.repeats)]
    setting = dict(mode="fixed", vocabulary=options.vocabulary, dtype=network.dtype)
    for field, name in (("wall", "wall"), ("cpu", "processor")):
        meter.figure(f"rollout.{name}", min(f[field] for f in found), "s", **setting)
    if bandwidth := BANDWIDTHS.get(jax.devices()[0].device_kind):
        spent = moved(network, params, slots=64, prompt=64, answer=256)
        seconds = min(f["decode"] for f in found)
        meter.figure("rollout.bandwidth", spent / seconds / bandwidth, "share", **setting)


def moved(
    network: Network, params: parameters.Params, slots: int, prompt: int, answer: int
) -> float:
    """Bytes that decoding has to read: all weights and every slot's live cache, once a token."""
    cfg, size = network.cfg, np.dtype(network.dtype).itemsize
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    column = 2 * len(cfg.layer_kinds) * cfg.num_kv_heads * cfg.head_dim * size
    columns = sum(prompt + step for step in range(answer))
    return float(answer * weights + slots * columns * column)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=("lognormal", "fixed"))
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--sigma", type=float, default=1.0, help="of the logarithm of the lengths")
    parser.add_argument("--batches", type=int, default=8, help="static batches to run, of 8")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    {"lognormal": lognormal, "fixed": fixed}[options.mode](options)


if __name__ == "__main__":
    main()
