"""SA-GRPO from the cold start. The folder says how the model was asked, so this config need not.

python -m sar_jax.train --config=examples/cold_start/train.py:/tmp/cold_start
"""

import pathlib

from sar_jax.config import (
    Data,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Packing,
    Rollout,
    TrainConfig,
)

ROWS = f"{pathlib.Path(__file__).parent}/rows.py:rows"


def get_config(model: str) -> TrainConfig:
    """model: what pretrain.py wrote; behind the colon of --config=FILE:FOLDER."""
    return TrainConfig(
        steps=30,
        model=Model(path=model, dtype="float32"),
        data=Data(train=ROWS, eval=ROWS, eval_questions=200, max_prompt_tokens=96),
        rollout=Rollout(questions=32, samples=8, slots=64, max_answer_tokens=48),
        loss=Loss(minibatch_questions=32),
        optimizer=Optimizer(lr=1e-4, warmup_updates=5, final_lr_fraction=0.05),
        packing=Packing(row_tokens=288, rows_per_microbatch=8),
        evaluation=Evaluation(every_steps=30),
    )
