"""Will a run fit a TPU slice, and how long will it take? Answered without one.

    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4
    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4 --advise
    python -m sar_jax.plan --config=configs/qwen3_4b.py --sweep=v5e:4x4,v6e:2x4,v5p:4x4x4

The second says which settings that change no value would be faster, and plans with them; the third
prints one table of several slices. --json=FILE and --html=FILE keep the figures, as data and as a
page. Memory is what the real TPU compiler says, not an estimate; seconds are an estimate, at the
chip's limits. Nothing is run. Needs `pip install libtpu`, and some minutes of processor time for a
model of billions of parameters; the same programs again take seconds.
"""

import copy
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Sequence

from absl import flags

from sar_jax import cli

if __name__ == "__main__":
    cli.begin("loading JAX and what a run consists of")

import jax

from sar_jax import config as config_lib
from sar_jax import files
from sar_jax.errors import UserError
from sar_jax.model.parameters import ModelConfig
from sar_jax.parallel import compiled
from sar_jax.planning import advise, estimate, page, tables, telling
from sar_jax.planning.kept import Kept
from sar_jax.planning.measured import SILENT, Watch
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
    compilation_cache: str | None = None,
    progress: bool = False,
) -> estimate.Plan:
    """The plan of a run on a slice: memory by the TPU compiler, and seconds at the chip's limits.

    config                         a config, or the path of a config file
    topology                       of the slice, such as "v6e:2x4"
    prompt_tokens, answer_tokens   mean lengths, for the seconds
    compilation_cache              where what was compiled is kept: a folder, a bucket or "off"; by
                                   default as for a run
    progress                       says on stderr what is compiled, and how long it has taken

    Needs `pip install libtpu`, and no TPU. Raises `UserError`.
    """
    config = _planned(calls.as_config(config))
    if not isinstance(topology, str):
        raise UserError(f"topology is {topology!r}: give the name of a slice, such as v6e:2x4")
    for name, value in (("prompt_tokens", prompt_tokens), ("answer_tokens", answer_tokens)):
        if not isinstance(value, int | float) or not value >= 1:
            raise UserError(f"{name} is {value!r}: it must be at least 1")
    cfg, kept = estimate.read_model(config), Kept.at(compilation_cache)
    plan = lambda watch: estimate.estimate(
        config, cfg, topology, prompt_tokens, answer_tokens, kept, watch
    )
    if not progress:
        return plan(SILENT)
    with telling.Told(rows=False) as watch:
        return plan(watch)


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
    for option in ("json", "html"):
        _check_output(option, values[option].value)
    with telling.Told(rows=not values.sweep) as watch:
        watch.tell("reading the config and the model")
        config = _planned(get_config())
        cfg = estimate.read_model(config)
        plans = _plans(config, cfg, Kept.at(values.compilation_cache), watch)
    if values.json:
        about = {
            "jax": jax.__version__,
            "libtpu": importlib.metadata.version("libtpu"),
            "answer_tokens": values.answer_tokens,
            "sources": tables.SOURCES,
        }
        written = {**about, "slices": [found.to_json() for _, found in plans]}
        _write(values.json, json.dumps(written, indent=2) + "\n")
    if values.html:
        slices = ", ".join(dict.fromkeys(found.topology for _, found in plans))
        _write(
            values.html, page.plans_page(f"{config.model.path} on {slices}", plans, config.steps)
        )


def _check_output(option: str, path: str | None) -> None:
    """Raises `UserError` where no file can be written there: nobody wants to hear it at the end."""
    if path is None:
        return
    file = pathlib.Path(path).expanduser()
    if not path or file.is_dir():
        raise UserError(f"--{option} is {path!r}: name a file")
    file.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"--{option} is {path!r}: this user may not write there")


def _write(path: str, text: str) -> None:
    files.write_atomically(pathlib.Path(path).expanduser(), text)
    print(f"wrote {path}")


def _plans(
    config: config_lib.TrainConfig, cfg: ModelConfig, kept: Kept | None, watch: Watch
) -> list[tuple[str, estimate.Plan]]:
    """Makes what the options ask for, and prints it; each with overrides that were advised."""
    values = flags.FLAGS
    lengths = values.prompt_tokens, values.answer_tokens
    if values.topology:
        found = estimate.estimate(config, cfg, values.topology, *lengths, kept, watch)
        _print(tables.rest(config, found))
        advised = _advised(config, cfg, found, kept, watch) if values.advise else []
        return [("", found), *advised]
    plans, table = [], tables.Sweep(values.sweep)
    _print(table.header)
    for topology in values.sweep:
        found = estimate.estimate(config, cfg, topology, *lengths, kept, watch)
        plans.append(("", found))
        _print([table.row(found)])
    return plans


def _advised(
    config: config_lib.TrainConfig,
    cfg: ModelConfig,
    plan: estimate.Plan,
    kept: Kept | None,
    watch: Watch,
) -> list[tuple[str, estimate.Plan]]:
    """The plan with better settings, which are said first; none where there are no better ones."""
    values = flags.FLAGS
    lengths = values.prompt_tokens, values.answer_tokens
    found = advise.advise(config, cfg, plan.topology, *lengths, plan, kept, watch)
    if not found.overrides:
        _print(["no settings that change no value are known to be faster"])
        return []
    overrides = " ".join(found.overrides)
    _print(["", f"with {overrides}"])
    better = estimate.estimate(found.config, cfg, plan.topology, *lengths, kept, watch)
    _print(tables.rest(found.config, better))
    return [(overrides, better)]


def _print(lines: Sequence[str]) -> None:
    """At once, above the bar. Not wrapped: a terminal does that, and keeps what is copied whole."""
    print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    flags.DEFINE_boolean(
        "advise", False, "Find settings that change no value and are faster, and plan with them."
    )
    flags.DEFINE_string("topology", None, "A slice, such as v6e:2x4.")
    flags.DEFINE_list("sweep", None, "Several slices, separated by commas; prints one table.")
    flags.DEFINE_string("json", None, "File to write the figures to.")
    flags.DEFINE_string("html", None, "File to write a page with the figures to.")
    flags.DEFINE_string("compilation_cache", None, compiled.OPTION)
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
