"""A policy's answers to benchmarks, judged: what `sar_jax.evaluate` does.

load_tasks   every benchmark's questions, so that a mistake in the last one costs nothing
answer       what is not answered yet, batch by batch, into the folder   (evaluation.folder)
evaluate     the checks before, both, and the results                    (evaluation.tables)
"""

import collections
import dataclasses
import datetime
import pathlib
import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import folder as folder_lib
from sar_jax.evaluation import judged, tables
from sar_jax.evaluation.records import Results, Settings, TaskInfo
from sar_jax.model import int8, parameters
from sar_jax.model.network import Network
from sar_jax.model.parameters import Params
from sar_jax.parallel import progress, sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout.sampler import Sample
from sar_jax.structs import Sampling
from sar_jax.text import plugins, prompts, tasks
from sar_jax.text.answers import chosen, model_judge
from sar_jax.training import questions as questions_lib
from sar_jax.training import slots
from sar_jax.training.commands import trained as trained_lib
from sar_jax.training.own import sources as own_sources
from sar_jax.training.settings import checks


class Task(NamedTuple):
    """One benchmark. label: its name in results; rows: its questions."""

    label: str
    info: TaskInfo
    rows: list[prompts.Question]


def label(name: str) -> str:
    """A data source's name in results: gsm8k=FOLDER:100 is gsm8k, data/mine.jsonl is mine.jsonl.

    A function's is its own: my.py:rows is rows.
    """

    def one(part: str) -> str:
        if own := tasks.functions(part):
            return plugins.parse(own[0], part).name
        if re.search(r"\.jsonl?(:\d+)?$", part.split("=")[0]):
            return pathlib.Path(re.sub(r":\d+$", "", part)).name
        return re.split("[=@:]", part)[0]

    return re.sub(r"[^\w.+-]", "_", "+".join(one(part) for part in name.split("+")))


def check_options(names: list[str], samples: int, ks: list[str]) -> list[int]:
    """The k of pass@k. Raises `UserError` for options that cannot be."""
    repeated = [name for name, count in collections.Counter(map(label, names)).items() if count > 1]
    if repeated:
        raise UserError(f"--tasks names {repeated[0]} more than once")
    if samples < 1:
        raise UserError(f"--samples is {samples}: it must be at least 1")
    if not all(re.fullmatch(r"[1-9]\d*", k) for k in ks):
        raise UserError(f"--k is {','.join(ks)!r}: give numbers separated by commas, such as 1,4,8")
    found = sorted({int(k) for k in ks} or ({1, samples} if samples > 1 else set()))
    if found and found[-1] > samples:
        raise UserError(
            f"--k asks for pass@{found[-1]}, which needs at least {found[-1]} samples a question, "
            f"but --samples is {samples}"
        )
    return found


def decoding(config: config_lib.TrainConfig, samples: int) -> dict[str, Any]:
    """The settings that answers depend on, by name.

    Batch, mesh and workers are not among them: they may change on the way.
    """
    rollout = config.rollout
    found = {
        "samples": samples,
        "decoding": "greedy" if samples == 1 else Sampling.of(config).words,
        "max_answer_tokens": rollout.max_answer_tokens,
        "max_prompt_tokens": config.data.max_prompt_tokens,
        "dtype": config.model.dtype,
    }
    if samples > 1:
        found["seed"] = config.seed
    for name in ("weights_dtype", "cache_dtype"):
        if getattr(rollout, name):
            found[name] = getattr(rollout, name)
    for field in dataclasses.fields(config.prompt):
        if field.name not in ("standalone_context", "function"):  # no answer depends on the first
            found[f"prompt.{field.name}"] = getattr(config.prompt, field.name)
    # which folders of before do not name
    later = {"prompt.function": config.prompt.function, "verifier": config.verification.verifier}
    sources = own_sources.of_answers(config)
    return found | {name: value for name, value in (later | sources).items() if value}


def load_tasks(
    names: list[str], config: config_lib.TrainConfig, prompter: prompts.Prompter
) -> dict[str, Task]:
    """Every benchmark's test rows, by label, so that a mistake in the last one costs nothing.

    Raises `UserError`.
    """
    found, longest = {}, config.data.max_prompt_tokens
    for name in names:
        share = config.data.unstated_share
        source = tasks.load(name, "test", questions_lib.columns(config.data))
        source, unstated = questions_lib.stated(source, name, share, config.verification)
        rows, left_out = questions_lib.prepare(source, prompter, longest, name)
        info = TaskInfo(name, questions_lib.fingerprint(rows), len(rows), left_out)
        found[label(name)] = Task(label(name), info, rows)
        reasons = (
            (left_out, f"their prompts are longer than {longest} tokens"),
            (unstated, "their answer states nothing that another can equal"),
        )
        told = "".join(f"; {count} left out because {why}" for count, why in reasons if count)
        print(f"{label(name)}: {len(rows)} questions from {name}{told}", flush=True)
    return found


class Candidate(NamedTuple):
    """What answers the questions. mesh: of the decoder."""

    trained: trained_lib.Trained
    prompter: prompts.Prompter
    mesh: jax.sharding.Mesh


def make_candidate(trained: trained_lib.Trained, day: datetime.date | None = None) -> Candidate:
    """On the devices that the config gives the decoder.

    day   that a template is told which asks for the date; by default today's

    Raises `UserError` where they do not fit the model, or the prompt not the tokenizer.
    """
    checks.check_positions(trained.config, trained.cfg.max_positions)
    whole = sharding.make_mesh(**dataclasses.asdict(trained.config.mesh))
    mesh = sharding.decoding_mesh(whole, trained.config.rollout.tensor, trained.cfg.num_kv_heads)
    prompter = prompts.Prompter(
        trained.tokenizer, trained.config.prompt, trained.stops, trained.cfg.vocab_size, day
    )
    network = _network(trained.config, trained.cfg, mesh)
    config = slots.of_decoder(trained.config, network, mesh)
    return Candidate(trained._replace(config=config), prompter, mesh)


def _network(
    config: config_lib.TrainConfig, cfg: parameters.ModelConfig, mesh: jax.sharding.Mesh
) -> Network:
    """As the decoder has it."""
    return Network.of(config.model, int8.described(cfg, config.rollout.weights_dtype), mesh)


def make_decoder(
    candidate: Candidate, samples: int, greedy: bool, sampling: Sampling | None = None
) -> Sample:
    """The decoder of the config.

    samples    answers a question
    greedy     the most probable token instead of a draw
    sampling   what is drawn from; by default the config's
    """
    trained = candidate.trained
    config, rollout = trained.config, trained.config.rollout
    return Sample(
        _network(config, trained.cfg, candidate.mesh),
        candidate.prompter.decoder_stops,
        samples,
        rollout.max_answer_tokens,
        greedy=greedy,
        slots=rollout.slots,
        sampling=sampling or Sampling.of(config),
        cache_dtype=rollout.cache_dtype,
        ended=candidate.prompter.stopping.length if config.prompt.stop else None,
    )


def load_weights(candidate: Candidate) -> Params:
    """The policy's weights for decoding."""
    config = candidate.trained.config
    params = trained_lib.load_params(
        candidate.trained, candidate.mesh, config.model.dtype, sharding.DECODING_RULES
    )
    if config.rollout.weights_dtype == "int8":
        params = jax.jit(int8.rounded, donate_argnums=0)(params)
    return params


def answer(
    candidate: Candidate,
    loaded: dict[str, Task],
    todo: dict[str, list[int]],
    samples: int,
    output: pathlib.Path,
    weights: Callable[[], Params],
) -> None:
    """Answers questions and writes each batch to the folder.

    todo      label -> the questions' numbers
    samples   answers a question
    weights   gives them, when everything else has been checked
    """
    trained, config = candidate.trained, candidate.trained.config
    limits, seed = config.verification, jax.random.key(config.seed)
    decode = make_decoder(candidate, samples, greedy=samples == 1)
    shapes_lib.check_cache(config, decode.network, candidate.mesh)
    verifier = chosen.verifier(limits, str(output / model_judge.name(0)))
    with verifier:
        chosen.rehearse(verifier, limits, next(iter(loaded.values())).rows[0].example)
        params = weights()
        decoder = judged.Decoder(
            decode,
            samples,
            # with several samples a question, as many answers as without
            batch=max(config.evaluation.batch // samples, 1),
            width=config.data.max_prompt_tokens,
            tokenizer=trained.tokenizer,
            verifier=verifier,
            prefix=config.prompt.assistant_prefix,
        )
        for name, numbers in todo.items():
            key = jax.random.fold_in(seed, zlib.crc32(name.encode()))
            rows = loaded[name].rows
            done = len(rows) - len(numbers)
            with (
                jax.set_mesh(candidate.mesh),
                progress.bar(name, "questions", len(rows), done) as bar,
            ):
                for part in judged.answers(decoder, params, rows, numbers, key):
                    folder_lib.write_batch(output, name, part)
                    bar.advance(len(part) // samples)
            folder_lib.finish(output, name)
            print(f"{name}: answered", flush=True)


def missing(task: Task, output: pathlib.Path, samples: int) -> list[int]:
    """The numbers of the questions that are not answered yet."""
    answered = collections.Counter(a.number for a in folder_lib.read_answers(output, task.label))
    return [number for number in range(len(task.rows)) if answered[number] < samples]


def evaluate(
    name: str,
    names: list[str],
    output: pathlib.Path,
    config: config_lib.TrainConfig | None,
    step: int | None,
    samples: int,
    ks: list[int],
    reference: pathlib.Path | None,
) -> None:
    """The whole command: checks, answers what is missing, writes results. Raises `UserError`.

    name        of the model; step: of a workdir's checkpoint
    names       of the tasks
    config      takes the place of a workdir's
    samples     answers a question; ks: of pass@k
    reference   the output of the untrained model's evaluation
    """
    check_processes()
    base = folder_lib.read_results(reference, "--reference") if reference else None
    trained = trained_lib.locate(name, config, config_lib.TrainConfig(), step)
    complete(trained, name, names, output, samples, base=base, reference=reference)
    tables.write(output, ks, base)


def check_processes() -> None:
    """Raises `UserError` where there are several."""
    if jax.process_count() > 1:
        raise UserError(
            f"this run has {jax.process_count()} processes, but an evaluation runs on one host"
        )


def complete(
    trained: trained_lib.Trained,
    name: str,
    names: list[str],
    output: pathlib.Path,
    samples: int,
    *,
    base: Results | None = None,
    reference: pathlib.Path | None = None,
    weights: Callable[[Candidate], Params] = load_weights,
) -> None:
    """Everything but the results: the folder holds an answer to each question then.

    weights     for decoding
    base        results to compare with, which are in `reference`

    Further arguments: see `evaluate`. Raises `UserError`.
    """
    old = folder_lib.read_settings(output)
    # continued on another day, an evaluation asks as it began
    began = old and old.decoding.get("day")
    day = datetime.date.fromisoformat(began) if began else trained.day
    candidate = make_candidate(trained, day)
    prompter = candidate.prompter
    print(trained.told() + prompter.told_day(), flush=True)
    model = trained_lib.shown(trained, name)
    found = decoding(trained.config, samples)
    if prompter.asks_day:
        found["day"] = prompter.day.isoformat()
    settings = Settings(model, found, {})
    folder_lib.check(output, settings, old)
    loaded = load_tasks(names, trained.config, prompter)
    settings = dataclasses.replace(settings, tasks={t: task.info for t, task in loaded.items()})
    folder_lib.check(output, settings, old)
    if base:
        tables.check_reference(base, settings, reference)
    folder_lib.claim(output, settings, old)
    todo = {label: missing(task, output, samples) for label, task in loaded.items()}
    todo = {label: numbers for label, numbers in todo.items() if numbers}
    if todo:
        answer(candidate, loaded, todo, samples, output, lambda: weights(candidate))
    for task in loaded:
        folder_lib.finish(output, task)  # nothing was missing, but the last run ended before this
