"""SA-GRPO on the tiny model that comes with sar_jax: a whole run on a laptop's CPU.

    python -m sar_jax.train --config=configs/tiny.py

Plain GRPO, for comparison: --config.rewards.self_aligned=0
"""

import importlib.resources

from sar_jax.config import (
    Checkpoint,
    Data,
    Evaluation,
    Logging,
    Loss,
    Model,
    Optimizer,
    Packing,
    Prompt,
    Rewards,
    Rollout,
    TrainConfig,
)


def get_config() -> TrainConfig:
    return TrainConfig(
        steps=50,
        model=Model(
            path=str(importlib.resources.files("sar_jax") / "assets/tiny"),
            dtype="float32",
            remat="block",
        ),
        data=Data(train="arithmetic", eval="arithmetic", eval_questions=512, max_prompt_tokens=80),
        prompt=Prompt(
            system="Solve the question by reasoning.", instruction="Explain your reasoning."
        ),
        rollout=Rollout(questions=32, samples=8, slots=64, max_answer_tokens=96),
        rewards=Rewards(verifiable=1.0, self_aligned=0.2),
        loss=Loss(minibatch_questions=16),
        optimizer=Optimizer(lr=3e-4, warmup_updates=10, final_lr_fraction=0.05),
        packing=Packing(row_tokens=288, rows_per_microbatch=8),
        evaluation=Evaluation(every_steps=25),
        logging=Logging(samples_every_steps=10, samples_shown=1),
        checkpoint=Checkpoint(every_steps=25, keep=2),
    )
