"""Is what `plan --advise` finds the best there is? Every setting that it knows, compiled.

    python benchmarks/advice.py --config=configs/tiny.py --slices=v6e:2x2 [--answer_tokens=60]

One line of JSON a slice: the settings that the search chose after compiling a few, the best of all
of them compiled, and how far the arithmetic was from the compiler, as ratios of seconds and of the
largest memory. For a model of billions of parameters this takes days; what was compiled is kept.
"""

import argparse
import itertools
import json
import runpy

import numpy as np

from sar_jax.errors import UserError
from sar_jax.planning import estimate, search
from sar_jax.planning.kept import Kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/tiny.py")
    parser.add_argument("--slices", default="v5e:2x2,v6e:2x2")
    parser.add_argument("--prompt_tokens", type=float, default=150)
    parser.add_argument("--answer_tokens", type=float, default=900)
    options = parser.parse_args()
    config = runpy.run_path(options.config)["get_config"]()
    cfg, kept = estimate.read_model(config), Kept.at(None)
    asked = search.Asked(config, cfg, options.prompt_tokens, options.answer_tokens)
    for topology in options.slices.split(","):
        found, compiled = search.candidates(asked, topology), itertools.count()
        make = lambda candidate, count=compiled: (
            next(count) >= 0 and search.plan_of(asked, candidate, kept)
        )
        (chosen,) = search.Search({topology: found}, make).best(lambda c: c.hours)
        tried, plans = next(compiled), []
        for candidate in found:
            try:
                plans.append((candidate, make(candidate)))
            except UserError as error:  # not a number of rows or devices that a run takes
                print(f"{candidate.overrides}: {error}", flush=True)
        fitting = [(c, plan) for c, plan in plans if plan.fits()]
        best = min(fitting, key=lambda pair: pair[1].step_seconds)
        ratios = lambda values: [round(float(q), 3) for q in np.quantile(values, (0, 0.5, 1))]
        print(
            json.dumps(
                {
                    "slice": topology,
                    "settings": len(found),
                    "compiled_by_the_search": tried,
                    "chosen": [chosen.overrides, chosen.plan.step_seconds],
                    "best": [best[0].overrides, best[1].step_seconds],
                    "chosen_to_best": chosen.plan.step_seconds / best[1].step_seconds,
                    "seconds_arithmetic_to_compiler": ratios(
                        [c.guess.seconds / plan.step_seconds for c, plan in fitting]
                    ),
                    "memory_arithmetic_to_compiler": ratios(
                        [c.guess.memory / plan.peak for c, plan in fitting]
                    ),
                    "settings_that_did_not_fit": len(plans) - len(fitting),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
