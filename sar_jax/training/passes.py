"""The model passes of a step and their flops, of which `mfu` is the share: without padding and what
is computed again."""

from typing import NamedTuple

import numpy as np

from sar_jax.model import flops
from sar_jax.model.parameters import ModelConfig
from sar_jax.training.rollouts import Lengths
from sar_jax.training.settings import derived
from sar_jax.training.setup import Run


class Passes(NamedTuple):
    """Which passes a step makes over its sequences.

    samples      answers a question
    scores       of a question and its answer: the policy's where they are scored, and the
                 reference's where there is one
    standalone   tokens of the context without the question; None where nothing is scored after it
    learns       is the policy updated?
    frozen       the policy's matrices have no gradient of their own (adapters)
    critic       values for everything trained on, and their update
    """

    samples: int
    scores: int
    standalone: int | None
    learns: bool
    frozen: bool
    critic: bool


def of_run(run: Run, scored: bool, learns: bool) -> Passes:
    """Those of a run's step.

    scored   does the policy score answers after their questions, or are the sampler's logps taken?
    learns   is the policy updated, and not the critic alone?
    """
    config = run.config
    alone = len(run.tools.prompter.standalone) if derived.needs_standalone(config) else None
    return Passes(
        samples=config.rollout.samples,
        scores=scored + (run.reference is not None),
        standalone=alone,
        learns=learns,
        frozen=bool(run.frozen),
        critic=run.assembly.critic is not None,
    )


def model_flops(cfg: ModelConfig, passes: Passes, sampled: Lengths, trained: Lengths) -> float:
    """Flops of a step's passes.

    sampled   tokens of all questions and answers that were sampled
    trained   of those that were scored and trained on

    A question is read once for all its answers. Logits are computed for answers' tokens alone. A
    backward pass takes twice its forward pass, and once where matrices are frozen.
    """

    def forward(lengths: np.ndarray, **options) -> float:
        return flops.sequence_flops(cfg, lengths, **options)

    questions = np.repeat(sampled.prompts, passes.samples)
    found = forward(sampled.prompts, logits=0)
    found += forward(questions + sampled.answers, starts=questions)
    answers = float(trained.answers.sum())
    whole = np.repeat(trained.prompts, passes.samples) + trained.answers
    backward = 1 if passes.frozen else 2
    times = passes.scores + passes.learns * (1 + backward)
    found += times * forward(whole, logits=answers)
    if passes.standalone is not None:
        found += forward(trained.answers + passes.standalone, logits=answers)
    if passes.critic:
        found += (1 + 1 + 2) * forward(whole, logits=0)
    return found
