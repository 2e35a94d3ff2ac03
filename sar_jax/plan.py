"""Will a run fit a TPU slice, and how long will it take? Answered without one.

    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4 [--json=FILE]
    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4 --advise
    python -m sar_jax.plan --config=configs/qwen3_4b.py --sweep=v5e:4x4,v6e:2x4,v5p:4x4x4

The second says which settings that change no value would be faster, and plans with them; the third
prints one table of several slices. Memory is what the real TPU compiler says, not an
estimate; seconds are an estimate, at the chip's limits. Nothing is run. Needs `pip install libtpu`,
and some minutes of processor time for a model of billions of parameters.
"""

import copy
import importlib.metadata
import json
import os
import pathlib

import jax
from absl import flags
from rich.console import Console

from sar_jax import cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model.parameters import ModelConfig
from sar_jax.planning import advise, estimate, tables
from sar_jax.training import calls, checks

_ANSWER_TOKENS = 900  # mean lengths, where none are given
_PROMPT_TOKENS = 150


@calls.one_line
def plan(
    config: config_lib.TrainConfig | str | os.PathLike[str],
    topology: str,
    *,
    prompt_tokens: float = _PROMPT_TOKENS,
    answer_tokens: float = _ANSWER_TOKENS,
) -> estimate.Plan:
    """The plan of a run on a slice: memory by the TPU compiler, and seconds at the chip's limits.

    config                         a config, or the path of a config file
    topology                       of the slice, such as "v6e:2x4"
    prompt_tokens, answer_tokens   mean lengths, for the seconds

    Needs `pip install libtpu`, and no TPU. Raises `UserError`.
    """
    config = _planned(calls.as_config(config))
    if not isinstance(topology, str):
        raise UserError(f"topology is {topology!r}: give the name of a slice, such as v6e:2x4")
    for name, value in (("prompt_tokens", prompt_tokens), ("answer_tokens", answer_tokens)):
        if not isinstance(value, int | float) or not value >= 1:
            raise UserError(f"{name} is {value!r}: it must be at least 1")
    cfg = estimate.read_model(config)
    return estimate.estimate(config, cfg, topology, prompt_tokens, answer_tokens)


def _planned(config: config_lib.TrainConfig) -> config_lib.TrainConfig:
    """A copy that is checked; a plan needs no data."""
    config = copy.deepcopy(config)
    config.data.train = config.data.train or "arithmetic"
    checks.check(config)
    return config


if __name__ != "__main__":
    calls.make_callable(__name__, plan)


def main(get_config) -> None:
    values = flags.FLAGS
    if bool(values.topology) == bool(values.sweep):
        raise UserError(
            "give either --topology=v6e:2x4 or, for several slices, --sweep=v6e:2x4,v5e:4x4"
        )
    if values.sweep and values.advise:
        raise UserError("--advise needs --topology: it is about one slice")
    config = _planned(get_config())
    cfg, console, plans = estimate.read_model(config), Console(), []
    for topology in values.sweep or [values.topology]:
        found = estimate.estimate(config, cfg, topology, values.prompt_tokens, values.answer_tokens)
        plans.append(found)
        if not values.sweep:
            tables.show(console, config, found)
        if values.advise:
            plans += _advised(config, cfg, console, found)
    if values.sweep:
        tables.show_sweep(console, plans)
    if values.json:
        about = {
            "jax": jax.__version__,
            "libtpu": importlib.metadata.version("libtpu"),
            "answer_tokens": values.answer_tokens,
        }
        written = {**about, "slices": [found.to_json() for found in plans]}
        pathlib.Path(values.json).write_text(json.dumps(written, indent=2) + "\n")
        print(f"wrote {values.json}")


def _advised(
    config: config_lib.TrainConfig, cfg: ModelConfig, console: Console, plan: estimate.Plan
) -> list[estimate.Plan]:
    """The plan with better settings, which are said first; none where there are no better ones."""
    values = flags.FLAGS
    lengths = values.prompt_tokens, values.answer_tokens
    found = advise.advise(config, cfg, plan.topology, *lengths, plan)
    if not found.overrides:
        console.print("no settings that change no value are known to be faster")
        return []
    console.print("\nwith " + " ".join(found.overrides), highlight=False, soft_wrap=True)
    better = estimate.estimate(found.config, cfg, plan.topology, *lengths)
    tables.show(console, found.config, better)
    return [better]


if __name__ == "__main__":
    flags.DEFINE_boolean(
        "advise", False, "Find settings that change no value and are faster, and plan with them."
    )
    flags.DEFINE_string("topology", None, "A slice, such as v6e:2x4.")
    flags.DEFINE_list("sweep", None, "Several slices, separated by commas; prints one table.")
    flags.DEFINE_string("json", None, "File to write the figures to.")
    flags.DEFINE_float(
        "answer_tokens",
        _ANSWER_TOKENS,
        "Mean length of an answer, for the estimate of seconds.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "prompt_tokens",
        _PROMPT_TOKENS,
        "Mean length of a prompt, for the estimate of seconds.",
        lower_bound=1,
    )
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
