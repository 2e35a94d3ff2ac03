"""Will a run fit a TPU slice, and how long will it take? Answered without one.

    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4 [--json=FILE]
    python -m sar_jax.plan --config=configs/qwen3_4b.py --sweep=v5e:4x4,v6e:2x4,v5p:4x4x4

The second prints one table of several slices. Memory is what the real TPU compiler says, not an
estimate; seconds are an estimate, at the chip's limits. Nothing is run. Needs `pip install libtpu`,
and some minutes of processor time for a model of billions of parameters.
"""

import copy
import importlib.metadata
import json
import pathlib

import jax
from absl import flags
from rich.console import Console

from sar_jax import cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.planning import estimate, tables
from sar_jax.training import checks

_TOPOLOGY = flags.DEFINE_string("topology", None, "A slice, such as v6e:2x4.")
_SWEEP = flags.DEFINE_list("sweep", None, "Several slices, separated by commas; prints one table.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")
_ANSWER = flags.DEFINE_float(
    "answer_tokens", 900, "Mean length of an answer, for the estimate of seconds.", lower_bound=1
)
_PROMPT = flags.DEFINE_float(
    "prompt_tokens", 150, "Mean length of a prompt, for the estimate of seconds.", lower_bound=1
)


def main(get_config) -> None:
    if bool(_TOPOLOGY.value) == bool(_SWEEP.value):
        raise UserError(
            "give either --topology=v6e:2x4 or, for several slices, --sweep=v6e:2x4,v5e:4x4"
        )
    config = copy.deepcopy(get_config())
    config.data.train = config.data.train or "arithmetic"  # a plan needs no data
    checks.check(config)
    cfg, console, plans = estimate.read_model(config), Console(), []
    for topology in _SWEEP.value or [_TOPOLOGY.value]:
        plan = estimate.estimate(config, cfg, topology, _PROMPT.value, _ANSWER.value)
        plans.append(plan)
        if not _SWEEP.value:
            tables.show(console, config, plan)
    if _SWEEP.value:
        tables.show_sweep(console, plans)
    if _JSON.value:
        about = {
            "jax": jax.__version__,
            "libtpu": importlib.metadata.version("libtpu"),
            "answer_tokens": _ANSWER.value,
        }
        found = {**about, "slices": [plan.to_json() for plan in plans]}
        pathlib.Path(_JSON.value).write_text(json.dumps(found, indent=2) + "\n")
        print(f"wrote {_JSON.value}")


if __name__ == "__main__":
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
