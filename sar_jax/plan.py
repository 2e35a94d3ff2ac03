"""Will a run fit a TPU slice, and how long will it take? Answered without one.

    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4
    python -m sar_jax.plan --config=configs/qwen3_4b.py --advise
    python -m sar_jax.plan --config=configs/qwen3_4b.py --topology=v6e:2x4 --advise
    python -m sar_jax.plan --config=configs/qwen3_4b.py --sweep=v5e:4x4,v6e:2x4,v5p:4x4x4

The second finds the best slices for the run, with settings that change no value, what they cost and
the commands that start it; the third does so for one slice; the fourth prints one table of several
slices. --json=FILE and --html=FILE keep the figures, as data and as a page. Memory is what the real
TPU compiler says, not an estimate; seconds are an estimate, at the chip's limits. Nothing is run.
Needs `pip install libtpu`, and some minutes of processor time for a model of billions of
parameters; the same programs again take seconds.
"""

import copy
import importlib.metadata
import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import flags

from sar_jax import cli

if __name__ == "__main__":
    cli.begin("loading JAX and what a run consists of")

import jax

from sar_jax import config as config_lib
from sar_jax import files
from sar_jax.errors import UserError
from sar_jax.parallel import compiled
from sar_jax.planning import estimate, page, prices, recommended, search, tables, telling
from sar_jax.planning.kept import Kept
from sar_jax.planning.measured import SILENT, Watch
from sar_jax.planning.search import Asked, Candidate
from sar_jax.training.api import calls
from sar_jax.training.settings import checks

_ANSWER_TOKENS = 900  # mean lengths, where none are given
_PROMPT_TOKENS = 150
Make = Callable[[Candidate], estimate.Plan]


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
    _check_options()
    for option in ("json", "html"):
        _check_output(option, values[option].value)
    with telling.Told(rows=bool(values.topology)) as watch:
        watch.tell("reading the config and the model")
        config = _planned(get_config())
        cfg = estimate.read_model(config)
        asked = Asked(config, cfg, values.prompt_tokens, values.answer_tokens)
        plans = _plans(asked, Kept.at(values.compilation_cache), watch)
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


_OF_ADVICE = ("chips", "max_chips", "prices", "capacity", "deadline")  # options


def _check_options() -> None:
    """Raises `UserError` where options do not go together."""
    values = flags.FLAGS
    if values.topology and values.sweep:
        raise UserError("give either --topology or --sweep: one slice, or several")
    if not (values.topology or values.sweep or values.advise):
        raise UserError(
            "give --topology=v6e:2x4, or several slices as --sweep=v6e:2x4,v5e:4x4, or --advise, "
            "which finds the best ones"
        )
    many = values.advise and not values.topology
    given = [name for name in _OF_ADVICE if values[name].present]
    if given and not many:
        raise UserError(f"--{given[0]} is for --advise without --topology: a choice among slices")
    if values.sweep and many and (values["chips"].present or values["max_chips"].present):
        raise UserError("--sweep names the slices: leave --chips and --max_chips out")


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


def _plans(asked: Asked, kept: Kept | None, watch: Watch) -> list[tuple[str, estimate.Plan]]:
    """Makes what the options ask for, and prints it; each with overrides that were advised."""
    values = flags.FLAGS
    plan = lambda topology: estimate.estimate(
        asked.config, asked.cfg, topology, *asked[2:], kept, watch
    )
    make = lambda candidate: search.plan_of(asked, candidate, kept, watch)
    if values.topology:
        found = plan(values.topology)
        _print(tables.rest(asked.config, found))
        advised = _advised(asked, found, make, watch) if values.advise else []
        return [("", found), *advised]
    if values.advise:
        return _recommended(asked, make, watch)
    plans, table = [], tables.Sweep(values.sweep)
    _print(table.header)
    for topology in values.sweep:
        plans.append(("", plan(topology)))
        _print([table.row(plans[-1][1])])
    return plans


def _advised(
    asked: Asked, plan: estimate.Plan, make: Make, watch: Watch
) -> list[tuple[str, estimate.Plan]]:
    """The plan with better settings for the same slice; none where there are no better ones."""

    def said(candidate: Candidate) -> estimate.Plan:
        _print(["", f"with {' '.join(candidate.overrides)}"])
        found = make(candidate)
        _print(tables.rest(candidate.config, found))
        return found

    watch.tell("looking for better settings by arithmetic")
    faster = [
        candidate
        for candidate in search.candidates(asked, plan.topology)
        if candidate.overrides and _better(candidate, plan)
    ]
    best = search.Search({plan.topology: faster}, said).best(lambda candidate: candidate.hours)
    if not best or not _better(best[0], plan):
        _print(["no settings that change no value are known to be faster, and to fit"])
    return [(" ".join(candidate.overrides), candidate.plan) for candidate in best]


def _better(candidate: Candidate, plan: estimate.Plan) -> bool:
    """By more than a hundredth, which an estimate may be wrong by."""
    return not plan.fits() or candidate.seconds < 0.99 * plan.step_seconds


def _recommended(asked: Asked, make: Make, watch: Watch) -> list[tuple[str, estimate.Plan]]:
    """The best slices, with settings and commands."""
    values = flags.FLAGS
    topologies = values.sweep or search.slices(values.chips, values.max_chips)
    listed = prices.read(values.prices)
    given = [word for word in sys.argv[1:] if word.startswith("--config")]
    settings = recommended.Settings(listed, values.capacity, values.deadline, given)
    plans: dict[str, tuple[str, estimate.Plan]] = {}
    first = None
    for heading, best in recommended.recommend(asked, topologies, settings, make, watch.tell):
        _print(recommended.lines(heading, best, settings, list(plans)))
        plans |= {c.topology: (" ".join(c.overrides), c.plan) for c in best}
        first = first or best[0]
    watch.tell("offers by arithmetic")
    offers = list(recommended.offers(asked, first.topology))
    if offers:
        _print(["", f"Faster on {first.topology}, but they change values:", *offers])
    _print(["", recommended.source(listed)])
    return list(plans.values())


def _print(lines: Sequence[str]) -> None:
    """At once, above the bar. Not wrapped: a terminal does that, and keeps what is copied whole."""
    print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    flags.DEFINE_boolean(
        "advise",
        False,
        "Find the best slices, or for --topology the best settings: those that change no value.",
    )
    flags.DEFINE_list(
        "chips", ["v5e", "v5p", "v6e", "tpu7x"], "Chips whose slices --advise looks at."
    )
    flags.DEFINE_integer(
        "max_chips", 64, "The most chips of a slice that --advise looks at.", lower_bound=1
    )
    flags.DEFINE_float(
        "deadline", None, "Hours that the whole run may take, for --advise.", lower_bound=0.01
    )
    flags.DEFINE_string("prices", None, "File with prices, in place of the list prices.")
    flags.DEFINE_string(
        "capacity", "on-demand", "How chips are lent, for their price: spot, flex-start, ..."
    )
    flags.DEFINE_string("topology", None, "A slice, such as v6e:2x4.")
    flags.DEFINE_list("sweep", None, "Several slices, separated by commas; in one table.")
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
