"""The self-aligned reward of given answers, token by token, so that anyone can check it by hand.

    python -m sar_jax.explain --model=HF_DIR|WORKDIR --input=answers.jsonl --output=scored.jsonl
                              [--html=FILE] [--png=FILE] [--show=N] [--config=FILE]
    python -m sar_jax.explain --model=HF_DIR|WORKDIR --answer_types=gsm8k:200 --html=FILE

Reads lines {"question", "answer", optional "id"}, a parquet file with these columns, or a run's
samples/ with all of its steps, and writes, for each, its fields and

    ppl_conditional   exp(-mean_j log P(a_j | q, a_<j))            over the answer and its EOS
    ppl_standalone    exp(-mean_j log P(a_j | a_<j))               in place of the question
    self_aligned      clip((ppl_standalone - ppl_conditional) / ppl_standalone, -1, 1)
    tokens            the answer's pieces as text
    token_values      v_j = log P(a_j | q, a_<j) - log P(a_j | a_<j), in nats
    token_logps, token_logps_standalone     the two logprobs of each token
    token_copied                 is the token in a run of 8 or more that its prompt has too?
    self_aligned_without_copies  the reward with v = 0 at these (config.self_aligned.copied_run)

through the same `score` as training. --html is one page that needs no network: the answers, each
token coloured by v, sorted and filtered by reward, verdict and length. --png draws the first ones,
and --show prints them.

--answer_types takes a data set with worked solutions in place of --input, makes answers of eight
kinds of each (concise, redundant, half right, an echo of the question, ...; docs/answer_types.md),
and prints what each kind earns: R_SA, the advantage that each design of the rewards would give it,
and v along the answer.

A workdir brings its own prompt and dtype, an exported model its prompt; for another folder they
come from --config, or are the defaults (in float32). The command prints which prompt it used.
"""

import json
import pathlib
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console

from sar_jax import cli, files
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import plots
from sar_jax.evaluation.pages import heatmap
from sar_jax.parallel import backend, compiled, progress, sharding
from sar_jax.text import answer_types as types_lib
from sar_jax.text import tasks
from sar_jax.text.tasks import given
from sar_jax.training.commands import answer_types, explained
from sar_jax.training.commands import trained as trained_lib

_DRAWN = 6  # answers in a picture


def main(get_config) -> None:
    values = flags.FLAGS
    if not values.model:
        raise UserError("--model is missing (see --help)")
    if bool(values.input) == bool(values.answer_types):
        several = "given with --answer_types: leave one out" if values.input else "missing"
        raise UserError(f"--input is {several} (see --help)")
    outputs = [path and pathlib.Path(path) for path in (values.output, values.html, values.png)]
    if not any(outputs):
        raise UserError("--output is missing, or --html or --png (see --help)")
    for name, output in zip(("output", "html", "png"), outputs):
        if output and output.exists():
            raise UserError(f"{output} exists: nothing is overwritten, choose another --{name}")
    if values.png:
        plots.figure()  # before the scoring: is there matplotlib?
    rows = given.read(values.input) if values.input else _made(values.answer_types)
    config = get_config() if flags.FLAGS["config"].present else None
    if config is not None and trained_lib.is_workdir(values.model):
        raise UserError(f"{values.model} is a workdir with a config of its own: leave out --config")
    scored = _scored(values.model, rows, config)
    kinds = answer_types.summarise(scored) if values.answer_types else []
    for output in filter(None, outputs):
        output.parent.mkdir(parents=True, exist_ok=True)
    jsonl, html, png = outputs
    if jsonl:
        files.write_atomically(jsonl, "".join(json.dumps(row) + "\n" for row in scored))
    if html:
        title = f"R_SA by token: {pathlib.Path(values.input or values.answer_types).name}"
        shown = answer_types.as_json(kinds)
        files.write_atomically(html, heatmap.answers_page(title, scored, shown))
    if png:
        heatmap.picture(scored[:_DRAWN], png)
    console = Console()
    for row in scored[: values.show]:
        console.print(heatmap.terminal_text(row))
    if kinds:
        print(answer_types.to_markdown(kinds) + "\n")
    mean = float(np.mean([row["self_aligned"] for row in scored]))
    written = ", ".join(str(output) for output in outputs if output)
    print(f"{len(scored)} answers, mean self-aligned reward {mean:.4f}; wrote {written}")


def _made(name: str) -> list[dict[str, Any]]:
    """Answers of every kind to the questions of a data set. Raises `UserError` without any."""
    rows, left_out = types_lib.make(tasks.load(name, "test"))
    if not rows:
        raise UserError(
            f"--answer_types: {name} has no two rows with different numbers as answers and worked "
            "solutions of two or more steps (see docs/answer_types.md)"
        )
    kinds = len(types_lib.KINDS)
    told = f"; {left_out} rows were left out, having no solution of two steps" if left_out else ""
    print(f"{len(rows) // kinds} questions, {kinds} kinds of answers{told}", flush=True)
    return rows


def _scored(
    model: str, rows: list[dict[str, Any]], config: config_lib.TrainConfig | None
) -> list[dict[str, Any]]:
    found = trained_lib.locate(model, config, _default_config())
    print(found.told(), flush=True)
    backend.open_backend()
    compiled.keep(flags.FLAGS.compilation_cache)
    params = trained_lib.load_params(found, sharding.make_mesh(1, -1, 1), "float32")
    with progress.bar("scoring", "tokens") as bar:
        return explained.explain(
            rows, params, found.cfg, found.tokenizer, found.config, found.day, bar.advance
        )


def _default_config() -> config_lib.TrainConfig:
    config = config_lib.TrainConfig()
    config.model.dtype = "float32"
    return config


if __name__ == "__main__":
    flags.DEFINE_string(
        "model",
        None,
        "A Hugging Face folder, or a training run's workdir, whose latest step is used.",
    )
    flags.DEFINE_string(
        "input",
        None,
        "A JSONL or parquet file with question and answer in each row, or a folder of parquet "
        "files, such as a run's samples/.",
    )
    flags.DEFINE_string(
        "answer_types",
        None,
        "A data set with worked solutions, named as in docs/data.md, such as arithmetic:200: "
        "answers of eight kinds are made of its test rows and take the place of --input.",
    )
    flags.DEFINE_string("output", None, "JSONL file to write; it must not exist yet.")
    flags.DEFINE_string("html", None, "Page to write; it must not exist yet.")
    flags.DEFINE_string("png", None, "Picture of the first answers; it must not exist yet.")
    flags.DEFINE_integer("show", 3, "How many answers are printed.", lower_bound=0)
    flags.DEFINE_string("compilation_cache", None, compiled.OPTION)
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
