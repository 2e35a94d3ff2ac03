"""A model to use from Python: `sar_jax.load`. What the commands do, as methods.

    load(path)            a Hugging Face folder, the hub's id of a model, or a workdir
      .generate(...)      answers, with the prompt and the decoder of training
      .explain(...)       the self-aligned reward of given answers, as `sar_jax.explain`
      .evaluate(...)      benchmarks, as `sar_jax.evaluate`
      .export(...)        a folder, as `sar_jax.export`

`load` reads everything but the weights, so that mistakes show at once. Weights are read when they
are first needed and kept as long as the policy: those that decode in `model.dtype`, those that
score in float32.
"""

import copy
import functools
import math
import numbers
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.evaluation import folder as folder_lib
from sar_jax.evaluation import tables
from sar_jax.model.parameters import Params
from sar_jax.parallel import backend, progress, sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout import texts
from sar_jax.rollout.sampler import Sample
from sar_jax.structs import Rollouts, Sampling
from sar_jax.training.api import calls
from sar_jax.training.api.found import Evaluation, Explained, Explanations, Generated
from sar_jax.training.commands import evaluated, explained, exported
from sar_jax.training.commands import trained as trained_lib

# A question with its answer, as `explain` takes it.
Pair = tuple[str, str] | Mapping[str, Any] | Generated


@calls.one_line
def load(
    path: str | os.PathLike[str], config: TrainConfig | None = None, step: int | None = None
) -> "Policy":
    """A policy without its weights, which are read when they are first needed.

    path     a Hugging Face folder, the hub's id of a model, or the workdir of a run
    config   takes the place of a workdir's; of a folder, gives its prompt, limits and dtype
    step     of a workdir's checkpoint, by default the latest

    Raises `UserError` where something is missing or damaged.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise UserError(f"path is {path!r}: give a model's folder or hub id, or a run's workdir")
    _check_number("step", step, 0)
    name = os.path.expanduser(os.fspath(path))
    found = trained_lib.locate(name, copy.deepcopy(config), TrainConfig(), step)
    found = found._replace(asked=found.asked.replace("--", ""))  # an option is an argument here
    backend.open_backend()
    return Policy(found, name, has_config=config is not None or found.workdir is not None)


class Policy:
    """A model that answers, scores and is evaluated; `load` makes one."""

    def __init__(self, trained: trained_lib.Trained, name: str, has_config: bool):
        """trained: the model; name: as it was given; has_config: it does not have the defaults."""
        self._trained, self._name, self._has_config = trained, name, has_config
        self._decoders: dict[tuple[int, bool, Sampling], Sample] = {}

    def __repr__(self) -> str:
        step = "" if self.step is None else f", step {self.step}"
        return f"<sar_jax.Policy of {self._name}{step}>"

    @property
    def config(self) -> TrainConfig:
        """What it is used with; a copy."""
        return copy.deepcopy(self._trained.config)

    @property
    def step(self) -> int | None:
        """Of the workdir's checkpoint; None of a model folder."""
        return self._trained.step

    @functools.cached_property
    def _candidate(self) -> evaluated.Candidate:
        return evaluated.make_candidate(self._trained, self._trained.day)

    @functools.cached_property
    def _decoding(self) -> Params:
        return evaluated.load_weights(self._candidate)

    @functools.cached_property
    def _scoring(self) -> Params:
        mesh = sharding.make_mesh(1, -1, 1)
        return trained_lib.load_params(self._trained, mesh, "float32")

    @calls.one_line
    def generate(
        self,
        questions: str | Iterable[str],
        samples: int = 1,
        *,
        temperature: float | None = None,
        max_answer_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Generated]:
        """Answers, with the prompt of training: those of the first question, then of the next.

        questions           one or several
        samples             answers to each
        temperature         0 takes the most probable token each time. By default that is so with
                            one sample; several are drawn at the config's temperature
        max_answer_tokens   fewer than `rollout.max_answer_tokens`
        seed                of what is drawn, by default the config's; the same one draws the same
                            answers

        Raises `UserError`, also for a prompt longer than `data.max_prompt_tokens`.
        """
        asked, config = _questions(questions), self._trained.config
        _check_number("samples", samples, 1)
        _check_number("seed", seed, 0)
        limit = config.rollout.max_answer_tokens
        _check_number("max_answer_tokens", max_answer_tokens, 1)
        if max_answer_tokens is not None and max_answer_tokens > limit:
            raise UserError(
                f"max_answer_tokens is {max_answer_tokens}, but config.rollout.max_answer_tokens "
                f"is {limit}: load the policy with a config that has more"
            )
        decode = self._decoder(samples, temperature)
        prompts = self._prompts(asked)
        shapes_lib.check_cache(config, decode.network, self._candidate.mesh)
        key = jax.random.key(config.seed if seed is None else seed)
        batch = max(config.evaluation.batch // samples, 1)
        found: list[Generated] = []
        with progress.bar("answering", "questions", len(asked)) as bar:
            for start in range(0, len(asked), batch):
                part = range(start, min(start + batch, len(asked)))
                tokens, lengths = texts.pad_prompts(
                    [prompts[i] for i in part], config.data.max_prompt_tokens, len(part)
                )
                limits = np.full(len(part) * samples, max_answer_tokens or limit)
                rows = np.array(part, np.int32)
                rollouts = decode(self._decoding, tokens, lengths, rows, key, limits)
                found += self._generated([asked[i] for i in part], rollouts)
                bar.advance(len(part))
        return found

    def _generated(self, questions: list[str], rollouts: Rollouts) -> list[Generated]:
        count = len(rollouts.lengths)
        samples, found = count // len(questions), []
        spoken = texts.decode_texts(self._trained.tokenizer, rollouts, range(count))
        for b, (text, length) in enumerate(zip(spoken, map(int, rollouts.lengths))):
            found.append(
                Generated(
                    question=questions[b // samples],
                    sample=b % samples,
                    text=text,
                    token_ids=rollouts.tokens[b, :length].tolist(),
                    logprobs=rollouts.logps[b, :length].tolist(),
                    length=length,
                    clipped=not bool(rollouts.stopped[b]),
                )
            )
        return found

    def _decoder(self, samples: int, temperature: float | None) -> Sample:
        """One for each kind of call: a decoder remembers what it has compiled."""
        is_number = isinstance(temperature, numbers.Real) and not isinstance(temperature, bool)
        if temperature is not None and not (is_number and 0 <= temperature < math.inf):
            raise UserError(f"temperature is {temperature!r}: it must be a number, at least 0")
        greedy = samples == 1 if temperature is None else temperature == 0
        sampling = Sampling.of(self._trained.config)
        if temperature:
            sampling = sampling._replace(temperature=float(temperature))
        made = (samples, greedy, sampling)
        if made not in self._decoders:
            self._decoders[made] = evaluated.make_decoder(self._candidate, *made)
        return self._decoders[made]

    def _prompts(self, questions: list[str]) -> list[list[int]]:
        longest = self._trained.config.data.max_prompt_tokens
        found = self._candidate.prompter.prompts(questions)
        for number, (question, prompt) in enumerate(zip(questions, found), 1):
            if len(prompt) > longest:
                raise UserError(
                    f"question {number} ({question[:40]!r}): its prompt has {len(prompt)} "
                    f"tokens, but config.data.max_prompt_tokens is {longest}"
                )
        return found

    @calls.one_line
    def explain(self, pairs: Pair | Iterable[Pair]) -> list[Explained]:
        """The self-aligned reward of given answers, token by token, as `sar_jax.explain` gives it.

        pairs   (question, answer), dicts with both and maybe more, or answers of `generate`

        A model folder without a config is computed in float32. Raises `UserError` for a pair that
        is none, or has an empty part.
        """
        rows, config = _rows(pairs), self._trained.config
        if not self._has_config:
            config = copy.deepcopy(config)
            config.model.dtype = "float32"
        with progress.bar("scoring", "tokens") as bar:
            found = explained.explain(
                rows,
                self._scoring,
                self._trained.cfg,
                self._trained.tokenizer,
                config,
                self._trained.day,
                bar.advance,
            )
        return Explanations(map(Explained.of, found))

    @calls.one_line
    def evaluate(
        self,
        tasks: str | Iterable[str],
        samples: int = 1,
        output: str | os.PathLike[str] | None = None,
    ) -> Evaluation:
        """Accuracy and length of the answers to benchmarks, as `sar_jax.evaluate` measures them.

        tasks     names as in docs/data.md, such as gsm8k, gsm8k:100 or mine.jsonl
        samples   one answer to a question is greedy; several are drawn as in training
        output    a folder for results and answers, which goes on where it stopped; by default
                  nothing is kept

        Raises `UserError`.
        """
        given = tasks.split(",") if isinstance(tasks, str) else tasks
        names = [name.strip() for name in _texts("tasks", given)]
        _check_number("samples", samples, 1)
        ks = evaluated.check_options(names, samples, [])
        evaluated.check_processes()
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch if output is None else output).expanduser()
            evaluated.complete(
                self._trained,
                self._name,
                names,
                folder,
                samples,
                weights=lambda candidate: self._decoding,
            )
            if output is not None:
                tables.write(folder, ks, None)
            results = tables.collect(folder, ks, None)
            answers = {name: folder_lib.read_answers(folder, name) for name in results.tasks}
        return Evaluation.of(results, answers)

    @calls.one_line
    def export(self, path: str | os.PathLike[str], dtype: str | None = None) -> pathlib.Path:
        """Writes a Hugging Face folder and returns its path, as `sar_jax.export` does.

        path    of a folder that does not hold anything yet
        dtype   float32, bfloat16 or float16; by default that of the base model

        Raises `UserError`.
        """
        output = pathlib.Path(path).expanduser()
        exported.check_output(output)
        if self._trained.workdir is None:
            raise UserError(
                f"{self._name} is a model folder already: what is exported is the checkpoint of a "
                "run, so load its workdir"
            )
        exported.export(self._trained.workdir, output, self.step, dtype=dtype)
        return output


def _check_number(name: str, value: Any, least: int) -> None:
    """Raises `UserError` for what is no whole number of 32 bits from `least` on; None is one."""
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if value is not None and not (is_number and least <= value < 2**31):
        raise UserError(f"{name} is {value!r}: it must be a whole number, at least {least}")


def _questions(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else _texts("questions", given)


def _listed(name: str, given: Any) -> list[Any]:
    """What was given as a list. Raises `UserError` where it is none, or empty."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UserError(f"{name} is a {type(given).__name__}: give a list")
    found = list(given)
    if not found:
        raise UserError(f"{name} is empty: give at least one")
    return found


def _texts(name: str, given: Any) -> list[str]:
    found = _listed(name, given)
    for number, text in enumerate(found, 1):
        if not isinstance(text, str):
            raise UserError(f"{name}: number {number} is {text!r:.60}, which is no text")
    return [str(text) for text in found]


def _rows(pairs: Any) -> list[dict[str, Any]]:
    """Pairs of every kind as rows of `explained.explain`."""
    is_one = isinstance(pairs, Mapping | Generated) or _is_pair(pairs)
    given = [pairs] if is_one else _listed("pairs", pairs)
    return [_row(pair, number) for number, pair in enumerate(given, 1)]


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and all(isinstance(x, str) for x in given)


def _row(pair: Any, number: int) -> dict[str, Any]:
    if isinstance(pair, Generated):
        pair = (pair.question, pair.text)
    if isinstance(pair, Mapping):
        row = dict(pair)
    elif isinstance(pair, list | tuple) and len(pair) == 2:
        row = dict(zip(("question", "answer"), pair))
    else:
        raise UserError(
            f"pair {number} is {pair!r:.60}: give (question, answer), or a dict with both"
        )
    for name in ("question", "answer"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise UserError(f"pair {number}: the {name} is empty or no text")
    return row
