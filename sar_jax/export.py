"""Trained parameters -> a Hugging Face folder that `transformers` and vLLM load.

    python -m sar_jax.export --workdir=DIR [--step=N] --output=HF_DIR
                             [--dtype=bfloat16] [--max-shard-size=5GB] [--adapter]
                             [--push=USER/NAME]

Only what training changed is written: the weights, and config.json where their dtype is another.
Tokenizer, chat template, generation config and the rest are the base's files, byte for byte, and
of a multimodal model so are the weights that see images. README.md states the run's settings and
results. Of a run with adapters (LoRA) --adapter writes a folder for PEFT, without the base.

Reads the checkpoint's parameters alone, in the dtype that is written, so the host needs memory for
these and one shard. The folder is written under a temporary name next to its destination and moved
into place when it is complete; --push then sends it to the hub.
"""

import pathlib

from absl import flags
from etils import epath

from sar_jax import cli
from sar_jax.errors import UserError
from sar_jax.training.commands import exported


def main() -> None:
    values = flags.FLAGS
    if not values.workdir or not values.output:
        raise UserError("both --workdir and --output are required (see --help)")
    workdir, output = epath.Path(values.workdir), pathlib.Path(values.output)
    exported.check_output(output)
    if values.push:
        exported.check_push(values.push)
    written = exported.export(
        workdir,
        output,
        values.step,
        dtype=values.dtype,
        max_shard_size=values["max-shard-size"].value,
        adapter=values.adapter,
        name=values.push or "",
    )
    what = "the adapters of " if values.adapter else ""
    print(f"wrote {what}step {written.step} of {workdir} to {output} ({written.dtype})")
    if values.push:
        message = f"Step {written.step}, by sar_jax"
        print(f"sent to {exported.push(output, values.push, message)}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Workdir of a training run.")
    flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest by default.")
    flags.DEFINE_string(
        "output", None, "Hugging Face folder to write; it must not hold anything yet."
    )
    flags.DEFINE_string(
        "dtype",
        None,
        "Number format of the weights: float32, bfloat16 or float16. Default: that of the base "
        "model.",
    )
    flags.DEFINE_string(
        "max-shard-size", "5GB", "Largest size of a weight file, such as 5GB or 500MB."
    )
    flags.DEFINE_bool("adapter", False, "Write a run's adapters alone, as PEFT keeps them.")
    flags.DEFINE_string("push", None, "Id on the hub that the folder is sent to, USER/NAME.")
    cli.run(main, __doc__)
