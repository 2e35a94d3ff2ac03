"""Benchmarks: a policy's answers, judged; accuracy with its interval, lengths, AES, tables, plots.

    python -m sar_jax.evaluate --model=HF_DIR|WORKDIR --tasks=gsm8k,math --output=DIR
        [--config=FILE] [--reference=DIR] [--samples=N --k=1,4]
    python -m sar_jax.evaluate --compare DIR DIR ... [--reference=DIR] [--output=DIR]

The first answers every question of the benchmarks with the decoder, the prompts and the verifier of
training, and writes results.json, results.md, accuracy_length.png and every answer
(answers/*.parquet) to --output. Run again, it continues where it stopped, and other benchmarks may
join.
--tasks takes the names of config.data.eval (docs/data.md): gsm8k, gsm8k=FOLDER, gsm8k:100,
mine.jsonl. A workdir brings the config of its run, unless --config is given; a model folder takes
it from --config, or the defaults. --reference is the --output of the untrained model: AES is
measured against it.

Greedy with one sample; with more, drawn as in training (config.rollout's temperature and filters),
and then also avg@n, maj@n and pass@k. The second compares results with each other and with the
published ones; without --reference the others are measured against the first folder.
"""

import functools
import pathlib

from absl import flags

from sar_jax import cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import comparison
from sar_jax.parallel import backend, compiled
from sar_jax.training.commands import evaluated


def main(get_config, words: list[str]) -> None:
    values = flags.FLAGS
    reference, output = (pathlib.Path(v) if v else None for v in (values.reference, values.output))
    if values.compare:
        return comparison.compare([pathlib.Path(word) for word in words], reference, output)
    cli.refuse_words(words)
    for name in ("model", "tasks", "output"):
        if not values[name].value:
            raise UserError(f"--{name} is missing (see --help)")
    ks = evaluated.check_options(values.tasks, values.samples, values.k)
    config = get_config() if values["config"].present else None
    backend.open_backend()
    compiled.keep(values.compilation_cache)
    evaluated.evaluate(
        values.model,
        values.tasks,
        output,
        config,
        values.step,
        values.samples,
        ks,
        reference,
    )


if __name__ == "__main__":
    flags.DEFINE_string(
        "model",
        None,
        "A Hugging Face folder, the hub's id of a model, or the workdir of a training run.",
    )
    flags.DEFINE_integer("step", None, "Step of a workdir's checkpoint; the latest by default.")
    flags.DEFINE_list("tasks", [], "Benchmarks, separated by commas, named as in docs/data.md.")
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the results. If it holds some of them already, the rest is added.",
    )
    flags.DEFINE_string(
        "reference",
        None,
        "The --output folder of the untrained model's evaluation, which AES is measured against.",
    )
    flags.DEFINE_integer(
        "samples",
        1,
        "Answers to each question. One answer is greedy; more are sampled as in training.",
    )
    flags.DEFINE_list(
        "k",
        [],
        "Values of k for pass@k, separated by commas, each at most --samples. Default: 1 and "
        "--samples.",
    )
    flags.DEFINE_boolean(
        "compare", False, "Compare the results in the folders given after the options."
    )
    flags.DEFINE_string("compilation_cache", None, compiled.OPTION)
    cli.run(functools.partial(main, cli.config_flag(config_lib.TrainConfig)), __doc__, words=True)
