"""sar_jax's score and update, as a run does them: packed, scored, cut into micro-batches.

python -m peers.with_sar_jax WORK_AS_JSON
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
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
from sar_jax.structs import Rollouts
from sar_jax.text.prompts import Question
from sar_jax.training import checks, grids, learner, minibatches
from sar_jax.training.assembly import assemble
from sar_jax.training.rollouts import Tools


def configure(work: Work) -> config_lib.TrainConfig:
    """The config that a user would write for this work: the defaults, but for model and sizes.

    The self-aligned reward is off: other programs have no pass without the question.
    """
    P, A = work.widths
    config = config_lib.TrainConfig(
        model=config_lib.Model(path=work.model, dtype=work.dtype),
        data=config_lib.Data(train="arithmetic", max_prompt_tokens=P),
        rollout=config_lib.Rollout(
            questions=work.questions, samples=work.samples, max_answer_tokens=A
        ),
        rewards=config_lib.Rewards(self_aligned=0.0),
        loss=config_lib.Loss(minibatch_questions=work.minibatch, kl=work_lib.KL),
        packing=config_lib.Packing(row_tokens=5120 // work.divisor if work.divisor else P + A),
    )
    for override in work.overrides:
        path, _, value = override.partition("=")
        fields.check_path(config_lib.TrainConfig, path)
        *sections, name = path.split(".")
        section = functools.reduce(getattr, sections, config)
        is_text = isinstance(getattr(section, name), str)
        setattr(section, name, value if is_text else yaml.safe_load(value))
    checks.check(config)
    return config


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
        self.questions = [Question(None, prompt) for prompt in found.prompts]
        self.rollouts = _rollouts(found.answers, work.widths[1])
        self.advantages = work_lib.advantages(work)
        self.params, self.state, self.scored = params, None, None
        if work.task == "update":
            self.score()
        if work.task != "score":
            self.state = learner.init_state(params, self.assembly.optimizer)
            self.params = None

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
        """The task; returns the sum of logprobs, or the loss where nothing else is done."""
        if self.task == "update":
            return self.update()
        total = self.score()
        if self.task == "step":
            self.update()
        return total


def _rollouts(answers: list[np.ndarray], width: int) -> Rollouts:
    tokens = np.zeros((len(answers), width), np.int32)
    for row, answer in zip(tokens, answers, strict=True):
        row[: len(answer)] = answer
    lengths = np.array([len(answer) for answer in answers], np.int32)
    empty = np.zeros(tokens.shape, np.float32)
    return Rollouts(tokens, lengths, empty, np.ones(len(answers), bool), empty)


def accelerator() -> meter.Accelerator | None:
    """JAX's own count, whose peak is that since the process began."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return None
    return meter.Accelerator(lambda: None, lambda: device.memory_stats()["peak_bytes_in_use"])


def within_mesh(program: Program) -> Callable[[], float]:
    """The program's call on its mesh."""

    def call() -> float:
        with jax.set_mesh(program.mesh):
            return program()

    return call


def main() -> None:
    output, work = meter.channel(), Work.from_json(sys.argv[1])
    program = Program(work)
    meter.serve(output, within_mesh(program), work.warm_ups, accelerator())


if __name__ == "__main__":
    main()
