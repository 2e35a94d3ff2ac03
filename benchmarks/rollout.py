"""How fast the decoder is, on this machine's CPU: refilled slots against a static batch, and
answers of one length.

    JAX_PLATFORMS=cpu python benchmarks/rollout.py lognormal
    JAX_PLATFORMS=cpu python benchmarks/rollout.py fixed

lognormal: 512 answers (128 questions x 4) whose lengths are log-normal (quantiles, in random order)
with mean 900 and limit 4,096 tokens, both divided by 8, in 64 slots. The static batch is the same
decoder without what makes it more than that: 64 answers at a time, the next 64 when the last has
ended, never in fewer slots. fixed: 16 questions x 4 samples, 64 + 256 tokens, no early end; seconds
of wall clock and processor, the best of --repeats.

Both: a random 4-layer Qwen3 of width 256, float32. Everything is compiled before the clock starts.
A token is useful when it is part of an answer."""

import argparse
import statistics
import time

import jax
import numpy as np

from sar_jax.model import families, parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.rollout import sampler
from sar_jax.rollout import shapes as shapes_lib


def random_model(vocabulary: int, longest: int) -> tuple[Network, parameters.Params]:
    raw = families.qwen3_json(
        num_hidden_layers=4,
        hidden_size=256,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        intermediate_size=1024,
        vocab_size=vocabulary,
        rope_theta=1e4,
        max_position_embeddings=longest,
        eos_token_id=0,
        pad_token_id=0,
    )
    cfg, mesh = families.parse(raw, longest), sharding.make_mesh(1, 1, 1, jax.devices()[:1])
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    params = jax.jit(lambda key: parameters.init_params(cfg, key), out_shardings=shardings)(
        jax.random.key(0)
    )
    return Network(cfg, remat=False), params


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
    }


def quantiles(count: int, mean: float, sigma: float, limit: int) -> np.ndarray:
    """Evenly spaced quantiles of a log-normal distribution of lengths that the limit cuts off, with
    this mean after it."""
    z = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    lengths = lambda mu: np.clip(np.rint(np.exp(mu + sigma * z)), 1, limit).astype(int)
    low, high = 0.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if lengths(middle).mean() < mean else (low, middle)
    return lengths(low)


def lognormal(options: argparse.Namespace) -> None:
    questions, samples, slots, limit, mean = 128, 4, 64, 512, 900 / 8
    limits = np.random.default_rng(7).permutation(
        quantiles(questions * samples, mean, options.sigma, limit)
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

    print(
        f"{len(limits)} answers, mean {limits.mean():.0f}, median {np.median(limits):.0f}, "
        f"longest {limits.max()}, {slots} slots"
    )
    shrinking = shapes_lib.LEAST_SLOTS
    for name, function in (("refilled", refilled), ("static", static)):
        shapes_lib.LEAST_SLOTS = shrinking if name == "refilled" else slots  # no smaller batch
        made = sampler.Sample(network, (-1,), samples, limit, slots=slots)
        run(made, params, range(slots // samples), np.full(slots, 2), 32)  # compiles
        parts = function()
        total = {key: sum(part[key] for part in parts) for key in parts[0]}
        speed = total["tokens"] / total["wall"]
        occupancy = 100 * total["tokens"] / total["slot_steps"]
        print(
            f"{name}: {speed:.0f} useful tokens/s, {total['wall']:.1f} s wall, "
            f"{total['cpu']:.1f} s processor, occupancy {occupancy:.1f} %",
            flush=True,
        )


def fixed(options: argparse.Namespace) -> None:
    network, params = random_model(options.vocabulary, 320)
    made = sampler.Sample(network, (-1,), 4, 256, slots=64)
    run(made, params, range(16), np.full(64, 2), 64)  # compiles
    found = [run(made, params, range(16), np.full(64, 256), 64) for _ in range(options.repeats)]
    wall, processor = (min(f[name] for f in found) for name in ("wall", "cpu"))
    print(
        f"16 x 4 answers of 64 + 256 tokens, vocabulary {options.vocabulary}: "
        f"{wall:.2f} s wall, {processor:.2f} s processor"
    )


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
