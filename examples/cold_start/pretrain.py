"""A small model from scratch, on worked answers: the cold start.

python -m sar_jax.pretrain --config=examples/cold_start/pretrain.py --output=/tmp/cold_start
"""

import pathlib

from sar_jax.config import Architecture, Data, Model, Optimizer, Packing, PretrainConfig

ROWS = f"{pathlib.Path(__file__).parent}/rows.py:rows"


def get_config() -> PretrainConfig:
    return PretrainConfig(
        steps=300,
        batch_examples=64,
        empty_question_fraction=0.1,  # ppl(a) is of answers without their question
        max_answer_tokens=48,
        model=Model(dtype="float32"),
        architecture=Architecture(num_layers=2, embed_dim=96, ffw_dim=256, vocab_size=400),
        data=Data(train=ROWS, eval=ROWS, eval_questions=200, max_prompt_tokens=96),
        optimizer=Optimizer(lr=3e-3, b2=0.95, warmup_updates=30, final_lr_fraction=0.3),
        packing=Packing(row_tokens=288, rows_per_microbatch=8),
    )
