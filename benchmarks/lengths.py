"""How full packed rows are, with a reasoning model's published lengths.

    JAX_PLATFORMS=cpu python benchmarks/lengths.py [--rows=8,16,32] [--divisor=8]

128 questions of 60 to 400 tokens with 6 answers each, whose lengths are log-normal with mean 900
and limit 4,096; with the defaults of a config, but for packing.rows_per_microbatch, which is each
of --rows in turn. Prints one line of JSON a figure: rows, and the share of computed positions that
are tokens, after the question, standalone and of all, weighted by rows. `padded` is the share that
there would be if every answer had a row of its own, as long as question and answer may be. Host
code alone."""

import dataclasses

import numpy as np
from peers import meter
from peers import options as options_lib
from peers import work as work_lib
from peers.with_sar_jax import configure, question, rollouts_of
from peers.work import Work

from sar_jax.training import grids

STANDALONE = 40  # tokens of the context that replaces the question


def filled(found: list[grids.Grid]) -> float:
    return grids.filled(grids.Grids(found, []))


def main() -> None:
    parser = options_lib.parser(__doc__)
    add = parser.add_argument
    add("--rows", default="8,16,32", help="rows of a micro-batch, with commas between them")
    add("--divisor", type=int, default=1, help="what the lengths are divided by")
    add("--questions", type=int, default=128, help="of a step; its updates have half of them")
    options = parser.parse_args()
    work = Work(
        model="none",
        task="step",
        questions=options.questions,
        samples=6,
        minibatch=options.questions // 2,
        divisor=options.divisor,
        overrides=("rewards.self_aligned=0.2", *options.overrides),
    )
    found = work_lib.sequences(work, 4096)
    prompts, answers = work_lib.lengths(work)
    tokens = (np.repeat(prompts, work.samples) + answers).sum()
    meter.figure("lengths.padded", tokens / len(answers) / sum(work.widths), "share")
    for rows in options.rows.split(","):
        own = (*work.overrides, f"packing.rows_per_microbatch={rows}")
        config = configure(dataclasses.replace(work, overrides=own))
        packed = grids.pack(
            config,
            [0] * max(STANDALONE // work.divisor, 1),
            [question(prompt) for prompt in found.prompts],
            rollouts_of(found.answers, work.widths[1]),
        )
        setting = dict(rows_per_microbatch=int(rows), row_tokens=config.packing.row_tokens)
        setting["narrowest"] = config.packing.narrowest
        kinds = {"asked": packed.asked, "alone": packed.alone, "all": packed.asked + packed.alone}
        for name, kind in kinds.items():
            count = sum(len(grid.packed.tokens) for grid in kind)
            meter.figure(f"lengths.{name}.rows", count, "rows", **setting)
            meter.figure(f"lengths.{name}.filled", filled(kind), "share", **setting)


if __name__ == "__main__":
    main()
