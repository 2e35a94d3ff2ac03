"""GRPO with two rewards of one's own, in rewards.py, on the tiny model.

python -m sar_jax.train --config=examples/own_reward/config.py
"""

import importlib.resources
import pathlib

from sar_jax.config import (
    Data,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Packing,
    Prompt,
    Rewards,
    Rollout,
    TrainConfig,
)

TINY = str(importlib.resources.files("sar_jax") / "assets/tiny")
HERE = pathlib.Path(__file__).parent


def get_config() -> TrainConfig:
    own = f"{HERE}/rewards.py:no_filler=0.1, {HERE}/rewards.py:shortest_right=0.05"
    return TrainConfig(
        steps=24,
        model=Model(path=TINY, dtype="float32"),
        data=Data(train="arithmetic", eval="arithmetic", eval_questions=128, max_prompt_tokens=80),
        prompt=Prompt(
            system="Solve the question by reasoning.", instruction="Explain your reasoning."
        ),
        rollout=Rollout(questions=16, samples=8, slots=64, max_answer_tokens=96),
        rewards=Rewards(verifiable=1.0, self_aligned=0.0, custom=own),
        loss=Loss(minibatch_questions=16),
        optimizer=Optimizer(lr=3e-4, warmup_updates=4, final_lr_fraction=0.05),
        packing=Packing(row_tokens=288, rows_per_microbatch=8),
        evaluation=Evaluation(every_steps=24),
    )
