"""Benchmarks: a policy's answers, judged; accuracy with its interval, lengths, AES, tables and
plots.

    python -m sar_jax.evaluate --model=HF_DIR|WORKDIR --tasks=gsm8k,math --output=DIR [--config=FILE] [--reference=DIR]
        [--samples=N --k=1,4]
    python -m sar_jax.evaluate --compare DIR DIR ... [--reference=DIR] [--output=DIR]

The first answers every question of the benchmarks with the decoder, the prompts and the verifier of
training, and writes results.json, results.md, accuracy_length.png and every answer
(answers/*.parquet) to --output. Run again, it goes on where it stopped; other benchmarks may join.
--tasks takes the names of config.data.eval (docs/data.md): gsm8k, gsm8k=FOLDER, gsm8k:100,
mine.jsonl. A workdir brings the config of its run, unless --config is given; a model folder takes
it from --config, or the defaults. --reference is the --output of the untrained model: AES is
measured against it.

Greedy with one sample; with more, drawn as in training (config.rollout's temperature and filters),
and then also avg@n, maj@n and pass@k. The second puts results beside each other and beside the
published ones; without --reference the first folder is what the others are measured against."""

import collections
import dataclasses
import functools
import pathlib
import re
import zlib
from typing import Any, NamedTuple

import jax
from absl import flags
from tqdm import tqdm

from sar_jax import checks, cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import comparison, judged, tables
from sar_jax.evaluation import folder as folder_lib
from sar_jax.model import int8
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.rollout.sampler import Sample
from sar_jax.structs import Sampling
from sar_jax.text import prompts, tasks
from sar_jax.text.answers.verifier import Verifier
from sar_jax.training import questions as questions_lib
from sar_jax.training import trained as trained_lib


class Task(NamedTuple):
    """One benchmark: its name in results, what was given, its rows, and how many had too long a
    prompt."""

    label: str
    source: str
    rows: list[prompts.Question]
    left_out: int


def label(name: str) -> str:
    """What a data source is called in results: gsm8k=FOLDER:100 is gsm8k, data/mine.jsonl is
    mine.jsonl."""
    one = lambda part: (
        pathlib.Path(re.sub(r":\d+$", "", part)).name
        if re.search(r"\.jsonl?(:\d+)?$", part.split("=")[0])
        else re.split("[=@:]", part)[0]
    )
    return re.sub(r"[^\w.+-]", "_", "+".join(one(part) for part in name.split("+")))


def check_options(names: list[str], samples: int, ks: list[str]) -> list[int]:
    """The k of pass@k. Raises `UserError` for what cannot be."""
    repeated = [name for name, count in collections.Counter(map(label, names)).items() if count > 1]
    if repeated:
        raise UserError(f"--tasks names {repeated[0]} more than once")
    if samples < 1:
        raise UserError(f"--samples is {samples}: it must be at least 1")
    if not all(re.fullmatch(r"[1-9]\d*", k) for k in ks):
        raise UserError(f"--k is {','.join(ks)!r}: numbers like 1,4,8 are expected")
    found = sorted({int(k) for k in ks} or ({1, samples} if samples > 1 else set()))
    if found and found[-1] > samples:
        raise UserError(
            f"--k asks for pass@{found[-1]}, which needs at least as many samples a question: --samples is "
            f"{samples}"
        )
    return found


def check_config(found: trained_lib.Trained) -> None:
    """Raises `UserError` that names the first field that the evaluation cannot work with."""
    config = found.config
    for section, name in (
        ("data", "max_prompt_tokens"),
        ("rollout", "max_answer_tokens"),
        ("evaluation", "batch"),
        ("verification", "workers"),
        ("verification", "timeout"),
    ):
        value = getattr(getattr(config, section), name)
        if value <= 0:
            raise UserError(f"config.{section}.{name} is {value}: it must be greater than 0")
    if config.model.dtype not in ("float32", "bfloat16"):
        raise UserError(
            f"config.model.dtype is {config.model.dtype!r}: it must be 'float32' or 'bfloat16'"
        )
    longest = config_lib.max_length(config)
    if longest > found.cfg.max_positions:
        raise UserError(
            f"config.data.max_prompt_tokens + config.rollout.max_answer_tokens is {longest}: the model was made "
            f"for {found.cfg.max_positions} positions (max_position_embeddings)"
        )
    checks.check_rollout(config.rollout)


def decoding(config: config_lib.TrainConfig, samples: int) -> dict[str, Any]:
    """The settings that answers depend on. Batch, mesh and workers are not among them: they may
    change on the way."""
    return {
        "samples": samples,
        "decoding": "greedy" if samples == 1 else Sampling.of(config).words,
        "max_answer_tokens": config.rollout.max_answer_tokens,
        "max_prompt_tokens": config.data.max_prompt_tokens,
        "dtype": config.model.dtype,
        **({"seed": config.seed} if samples > 1 else {}),
        **{
            name: value
            for name in ("weights_dtype", "cache_dtype")
            if (value := getattr(config.rollout, name))
        },
        **{
            f"prompt.{field.name}": getattr(config.prompt, field.name)
            for field in dataclasses.fields(config.prompt)
            if field.name != "standalone_context"
        },
    }  # which no answer depends on


def load_tasks(
    names: list[str], config: config_lib.TrainConfig, prompter: prompts.Prompter
) -> list[Task]:
    """Every benchmark's test rows, so that a mistake in the last one costs nothing. Raises
    `UserError`."""
    found = []
    for name in names:
        rows, left_out = questions_lib.prepare(
            tasks.load(name, "test"), prompter, config.data.max_prompt_tokens, name
        )
        found.append(Task(label(name), name, rows, left_out))
        print(
            f"{label(name)}: {len(rows)} questions from {name}"
            + (
                f"; {left_out} left out, their prompts are longer than {config.data.max_prompt_tokens} tokens"
                if left_out
                else ""
            ),
            flush=True,
        )
    return found


def answer(
    found: trained_lib.Trained,
    prompter: prompts.Prompter,
    mesh: jax.sharding.Mesh,
    todo: dict[str, list[int]],
    by_label: dict[str, Task],
    samples: int,
    output: pathlib.Path,
) -> None:
    """Answers the questions of `todo`, label -> numbers, and writes each batch to the folder."""
    config = found.config
    rollout = config.rollout
    batch = max(
        config.evaluation.batch // samples, 1
    )  # with several samples a question, as many answers as without
    light = int8.described(found.cfg, rollout.weights_dtype)
    network = Network.of(config.model, light, mesh)
    params = trained_lib.load_params(found, mesh, config.model.dtype, sharding.DECODING_RULES)
    if light.int8:
        params = jax.jit(int8.rounded, donate_argnums=0)(params)
    decode = Sample(
        network,
        prompter.stops,
        samples,
        rollout.max_answer_tokens,
        greedy=samples == 1,
        slots=rollout.slots,
        sampling=Sampling.of(config),
        cache_dtype=rollout.cache_dtype,
    )
    limits = config.verification
    with jax.set_mesh(mesh), Verifier(limits.workers, limits.timeout) as verifier:
        decoder = judged.Decoder(
            decode, samples, batch, config.data.max_prompt_tokens, found.tokenizer, verifier
        )
        for name, numbers in todo.items():
            key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
            rows = by_label[name].rows
            with tqdm(
                total=len(rows),
                initial=len(rows) - len(numbers),
                desc=name,
                unit="question",
                disable=None,
            ) as bar:
                for part in judged.answers(decoder, params, rows, numbers, key):
                    folder_lib.write_batch(output, name, part)
                    bar.update(len(part) // samples)
            folder_lib.finish(output, name)
            print(f"{name}: answered", flush=True)


def missing(task: Task, output: pathlib.Path, samples: int) -> list[int]:
    """The numbers of the questions that are not answered yet."""
    answered = collections.Counter(a["number"] for a in folder_lib.read_answers(output, task.label))
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
    """The whole command: checks, answers what is missing, writes results. Raises `UserError`."""
    if jax.process_count() > 1:
        raise UserError(
            f"{jax.process_count()} processes: an evaluation runs on the devices of one host"
        )
    base = folder_lib.read_results(reference, "--reference") if reference else None
    found = trained_lib.locate(name, config, config_lib.TrainConfig(), step)
    mesh = sharding.decoding_mesh(
        sharding.make_mesh(**dataclasses.asdict(found.config.mesh)),
        found.config.rollout.tensor,
        found.cfg.num_kv_heads,
    )
    check_config(found)
    prompter = prompts.Prompter(found.tokenizer, found.config.prompt, found.stops)
    settings = {
        "model": trained_lib.shown(found, name),
        "decoding": decoding(found.config, samples),
    }
    old = folder_lib.read_settings(output)
    folder_lib.check(output, settings, old)
    loaded = {task.label: task for task in load_tasks(names, found.config, prompter)}
    settings["tasks"] = {
        t.label: {
            "source": t.source,
            "fingerprint": questions_lib.fingerprint(t.rows),
            "questions": len(t.rows),
            "left_out": t.left_out,
        }
        for t in loaded.values()
    }
    folder_lib.check(output, settings, old)
    if base:
        tables.check_reference(base, settings, reference)
    folder_lib.claim(output, settings, old)
    todo = {t.label: numbers for t in loaded.values() if (numbers := missing(t, output, samples))}
    if todo:
        answer(found, prompter, mesh, todo, loaded, samples, output)
    for task in loaded:
        folder_lib.finish(output, task)  # nothing was missing, but the last run ended before this
    tables.write(output, ks, base)


def main(get_config, words: list[str]) -> None:
    values = flags.FLAGS
    reference, output = (pathlib.Path(v) if v else None for v in (values.reference, values.output))
    if values.compare:
        return comparison.compare([pathlib.Path(word) for word in words], reference, output)
    cli.refuse_words(words)
    for name in ("model", "tasks", "output"):
        if not values[name].value:
            raise UserError(f"--{name} is missing (see --help)")
    ks = check_options(values.tasks, values.samples, values.k)
    config = get_config() if values["config"].present else None
    evaluate(values.model, values.tasks, output, config, values.step, values.samples, ks, reference)


if __name__ == "__main__":
    flags.DEFINE_string(
        "model",
        None,
        "A Hugging Face folder, the hub's id of a model, or the workdir of a training run.",
    )
    flags.DEFINE_integer("step", None, "Of a workdir's checkpoint; the latest by default.")
    flags.DEFINE_list("tasks", [], "Benchmarks, with commas between them.")
    flags.DEFINE_string(
        "output", None, "Folder for the results; one that holds a part of them is completed."
    )
    flags.DEFINE_string(
        "reference",
        None,
        "Results of the untrained model, for AES: the --output of its evaluation.",
    )
    flags.DEFINE_integer(
        "samples", 1, "Answers a question: 1 is greedy, more are drawn as in training."
    )
    flags.DEFINE_list("k", [], "Of pass@k, each at most --samples. Default: 1 and --samples.")
    flags.DEFINE_boolean("compare", False, "Compare the results in the folders that follow.")
    cli.run(functools.partial(main, cli.config_flag(config_lib.TrainConfig)), __doc__, words=True)
