"""How fast sar_jax scores: logprobs of answers, packed and scored by the functions of a run.

    JAX_PLATFORMS=cpu python benchmarks/score.py [--set=packing.rows_per_microbatch=16]

64 rows of 64 + 256 tokens of a random 4-layer Qwen3 of width 256, unless the options say otherwise,
with the defaults of a config. Prints one line of JSON a figure: medians of the seconds of a call,
of the processor's too, useful tokens a second, flops of the model a second, and peak memory. The
first call compiles. Beside other programs: benchmarks/against_peers.py."""

from peers import alone

if __name__ == "__main__":
    alone.main("score", __doc__)
