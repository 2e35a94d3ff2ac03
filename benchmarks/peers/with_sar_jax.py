"""sar_jax's rollout, score and update, by the functions of a run: packed, scored, updated.

python -m peers.with_sar_jax WORK_AS_JSON
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import yaml

from peers import meter
from peers import work as work_lib
from peers.work import Work
from sar_jax import config as config_lib
from sar_jax import fields
from sar_jax.model import hf, parameters
from sar_jax.parallel import sharding
from sar_jax.rl import losses
from sar_jax.rl.advantages import Credit
from sar_jax.rollout.sampler import Sample
from sar_jax.structs import Rollouts
from sar_jax.text.prompts import Question
from sar_jax.text.tasks.example import Example
from sar_jax.training import grids, learner, minibatches
from sar_jax.training.assembly import assemble
from sar_jax.training.rollouts import Tools
from sar_jax.training.settings import checks


def configure(work: Work) -> config_lib.TrainConfig:
    """The config that a user would write for this work: the defaults, but for model and sizes.

    The self-aligned reward is off: other programs have no pass without the question.
    """
    P, A = work.widths
    config = config_lib.TrainConfig(
        model=config_lib.Model(path=work.model, dtype=work.dtype),
        data=config_lib.Data(train="arithmetic", max_prompt_tokens=P),
        rollout=config_lib.Rollout(
            questions=work.questions,
            samples=work.samples,
            slots=min(work.questions * work.samples, config_lib.Rollout().slots),
            max_answer_tokens=A,
        ),
        rewards=config_lib.Rewards(self_aligned=0.0),
        loss=config_lib.Loss(minibatch_questions=work.minibatch, kl=work_lib.KL),
        packing=config_lib.Packing(row_tokens=5120 // work.divisor if work.divisor else P + A),
    )
    override(config, work.overrides)
    checks.check(config)
    return config


def override(config: config_lib.TrainConfig, words: Sequence[str]) -> None:
    """Sets fields of a config. words: such as "packing.rows_per_microbatch=16".

    Raises `UserError` for what is no field, or no value of one.
    """
    for word in words:
        path, _, value = word.partition("=")
        fields.check_path(config_lib.TrainConfig, path)
        *sections, name = path.split(".")
        section = functools.reduce(getattr, sections, config)
        is_text = isinstance(getattr(section, name), str)
        setattr(section, name, value if is_text else yaml.safe_load(value))


class Program:
    """A run's score and update, with what they need and no more."""

    def __init__(self, work: Work):
        self.config, self.task = configure(work), work.task
        self.cfg = hf.load_config(work.model, config_lib.max_length(self.config))
        self.mesh = sharding.make_mesh(**dataclasses.asdict(self.config.mesh))
        self.assembly = assemble(self.config, self.cfg, self.mesh)
        specs = parameters.param_specs(self.cfg)
        params = hf.load_params(work.model, self.cfg, sharding.param_shardings(specs, self.mesh))
        unused: dict[str, Any] = dict.fromkeys(Tools._fields)
        own = dict(config=self.config, mesh=self.mesh, score=self.assembly.score)
        self.tools = Tools(**unused | own)
        found = work_lib.sequences(work, self.cfg.vocab_size)
        self.questions = [question(prompt) for prompt in found.prompts]
        self.rollouts = rollouts_of(found.answers, work.widths[1])
        self.advantages = work_lib.advantages(work)
        self.params, self.state, self.scored = params, None, None
        if work.task == "update":
            with jax.set_mesh(self.mesh):
                self.score()
        if work.task == "rollout":
            self._prepare_sampler()
        if work.task in ("update", "step"):
            self.state = learner.init_state(params, self.assembly.optimizer)
            self.params = None

    def _prepare_sampler(self) -> None:
        rollout = self.config.rollout
        self.sample = Sample(
            self.assembly.decoder,
            (-1,),  # no token ends an answer
            rollout.samples,
            rollout.max_answer_tokens,
            slots=rollout.slots,
            cache_dtype=rollout.cache_dtype,
        )
        prompts = [question.prompt for question in self.questions]
        self.prompts = _rectangle(prompts, self.config.data.max_prompt_tokens)
        self.lengths = np.array([len(prompt) for prompt in prompts], np.int32)

    def rollout(self) -> float:
        """Answers to every question; returns their tokens."""
        weights = self.assembly.decoding_weights(self.params, {})
        numbers = np.arange(len(self.lengths), dtype=np.int32)
        found = self.sample(weights, self.prompts, self.lengths, numbers, jax.random.key(1))
        return float(found.lengths.sum())

    def score(self) -> float:
        """Scores all answers; returns the sum of their logprobs, in nats."""
        masters = self.params if self.state is None else self.state.params
        packed = grids.pack(self.config, [0], self.questions, self.rollouts)
        weights = self.assembly.scoring_weights(masters, {})
        self.scored = packed, grids.fetch(grids.start(self.tools, packed, weights, None, None))
        return float(sum(logps.sum() for logps in self.scored[1].logps))

    def update(self) -> float:
        """Every update of the answers that were scored; returns the last one's loss."""
        packed, scored = self.scored
        compared = [np.full_like(x, work_lib.REFERENCE_LOGP) for x in scored.logps]
        scored = scored._replace(ref_logps=compared)
        credit, trained = Credit(self.advantages, (), {}), np.ones(len(compared))
        for grid in packed.asked:
            made = minibatches.make(self.config, grid, scored, credit, trained, scored.logps)
            divide = losses.DIVISORS[self.config.loss.average]
            divisor = divide(made.answers, made.tokens, self.config.rollout.max_answer_tokens)
            placed = sharding.place(made.microbatches, sharding.by_rows(self.mesh))
            self.state, metrics = self.assembly.update(self.state, placed, 1 / divisor, {})
        jax.block_until_ready(self.state)
        return float(metrics["loss"])

    def __call__(self) -> float:
        """The task; returns the sum of logprobs, or the loss or tokens where nothing else is
        done."""
        with jax.set_mesh(self.mesh):
            if self.task == "step":
                total = self.score()
                self.update()
                return total
            return {"score": self.score, "update": self.update, "rollout": self.rollout}[
                self.task
            ]()


def _rectangle(sequences: list[np.ndarray], width: int) -> np.ndarray:
    """Sequences as rows, padded with 0 on the right."""
    found = np.zeros((len(sequences), width), np.int32)
    for row, sequence in zip(found, sequences, strict=True):
        row[: len(sequence)] = sequence
    return found


def question(prompt: np.ndarray) -> Question:
    """A question whose text nobody asks for."""
    return Question(Example("", "", "0"), prompt.tolist())


def rollouts_of(answers: list[np.ndarray], width: int) -> Rollouts:
    """Answers as the decoder gives them; width: their limit."""
    tokens = _rectangle(answers, width)
    lengths = np.array([len(answer) for answer in answers], np.int32)
    empty = np.zeros(tokens.shape, np.float32)
    return Rollouts(tokens, lengths, empty, np.ones(len(answers), bool), empty)


def main() -> None:
    output, work = meter.channel(), Work.from_json(sys.argv[1])
    call: Callable[[], float] = Program(work)
    device = jax.devices()[0]
    meter.serve(output, call, work.warm_ups, device.device_kind, meter.of_jax(device))


if __name__ == "__main__":
    main()
