"""SA-GRPO on a table of one's own, whose columns have other names.

python examples/own_data/make_rows.py rows
python -m sar_jax.train --config=examples/own_data/config.py:rows
"""

import importlib.resources

from sar_jax.config import (
    Data,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Packing,
    Prompt,
    Rollout,
    TrainConfig,
)

TINY = str(importlib.resources.files("sar_jax") / "assets/tiny")


def get_config(folder: str) -> TrainConfig:
    """folder: where make_rows.py wrote; behind the colon of --config=FILE:FOLDER."""
    data = Data(
        train=f"{folder}/train.parquet",
        eval=f"{folder}/test.parquet",
        question_field="problem",
        answer_field="result.value",
        max_prompt_tokens=80,
    )
    return TrainConfig(
        steps=24,
        model=Model(path=TINY, dtype="float32"),
        data=data,
        prompt=Prompt(
            system="Solve the question by reasoning.", instruction="Explain your reasoning."
        ),
        rollout=Rollout(questions=16, samples=8, slots=64, max_answer_tokens=96),
        loss=Loss(minibatch_questions=16),
        optimizer=Optimizer(lr=3e-4, warmup_updates=4, final_lr_fraction=0.05),
        packing=Packing(row_tokens=288, rows_per_microbatch=8),
        evaluation=Evaluation(every_steps=24),
    )
