"""How fast sar_jax updates: the gradient of the policy's loss on packed rows, and AdamW.

    JAX_PLATFORMS=cpu python benchmarks/update.py [--set=model.remat=none]

64 rows of 64 + 256 tokens of a random 4-layer Qwen3 of width 256, unless the options say otherwise,
with the defaults of a config. Prints one line of JSON a figure: medians of the seconds of a call,
of the processor's too, useful tokens a second, flops of the model a second (without what is
recomputed), and peak memory. The first call compiles. Beside other programs:
benchmarks/against_peers.py."""

from peers import alone

if __name__ == "__main__":
    alone.main("update", __doc__)
