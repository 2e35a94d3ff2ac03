"""A task of sar_jax without anything beside it, on this machine's devices: what `score.py` and
`update.py` run."""

import argparse
import contextlib
import pathlib
import statistics
import tempfile

import jax
import numpy as np

from peers import meter, models
from peers import options as options_lib
from peers import work as work_lib
from peers.with_sar_jax import Program
from peers.work import Work
from sar_jax.model import flops
from sar_jax.parallel import chips

PASSES = {"score": 1, "update": 3}  # in forward passes; a backward pass is two


def parse(doc: str) -> argparse.Namespace:
    parser = options_lib.parser(doc)
    add = parser.add_argument
    add("--model", default="", help="a Hugging Face folder in place of a random model")
    add("--vocabulary", type=int, default=4096, help="of the random model")
    options_lib.add_sizes(parser)
    add("--calls", type=int, default=5, help="calls that are measured, after the first")
    return parser.parse_args()


def main(task: str, doc: str) -> None:
    """Runs a task by the options of the command line, and prints its figures."""
    options, output = parse(doc), meter.channel()
    is_cpu = jax.default_backend() == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        if not options.model:
            models.write(pathlib.Path(folder), models.describe(options.vocabulary))
        work = Work(
            model=options.model or folder,
            task=task,
            questions=options.questions,
            minibatch=options.questions,
            prompt=options.prompt,
            answer=options.answer,
            dtype=options.dtype or ("float32" if is_cpu else "bfloat16"),
            overrides=tuple(options.overrides),
        )
        program = Program(work)
    accelerator = meter.of_jax(jax.devices()[0])
    first, *used = (meter.measured(program, accelerator) for _ in range(1 + options.calls))
    with contextlib.redirect_stdout(output):
        report(program, work, first, used)


def report(program: Program, work: Work, first: meter.Used, used: list[meter.Used]) -> None:
    """Prints the figures of a task. first: its first call; used: the others."""
    task = work.task
    setting = dict(device=jax.devices()[0].device_kind, jax=jax.__version__, dtype=work.dtype)
    median = lambda name: statistics.median(getattr(u, name) for u in used)
    prompts, answers = work_lib.lengths(work)
    lengths = np.repeat(prompts, work.samples) + answers
    spent = PASSES[task] * flops.sequence_flops(program.cfg, lengths, logits=answers.sum())
    meter.figure(f"{task}.first_call", first.wall, "s", **setting)
    meter.figure(f"{task}.processor", median("processor"), "s", **setting)
    meter.figure(f"{task}.wall", median("wall"), "s", **setting)
    meter.figure(f"{task}.tokens", lengths.sum() / median("wall"), "tokens/s", **setting)
    meter.figure(f"{task}.flops", spent / median("wall") / 1e9, "Gflop/s", **setting)
    if peak := chips.peak_flops(jax.devices()):
        share = spent / median("wall") / peak / jax.device_count()
        meter.figure(f"{task}.mfu", share, "share", **setting)
    meter.figure(f"{task}.peak", max(u.peak for u in used), "GiB", **setting)
