"""The tiny model in sar_jax/assets/tiny, from scratch.

python -m sar_jax.pretrain --config=configs/tiny_pretrain.py --output=/tmp/tiny
"""

from sar_jax.config import (
    Architecture,
    Checkpoint,
    Data,
    Model,
    Optimizer,
    Packing,
    PretrainConfig,
    Prompt,
)


def get_config() -> PretrainConfig:
    return PretrainConfig(
        steps=1500,
        batch_examples=64,
        # so that the model has seen answers without a question when it computes ppl(a)
        empty_question_fraction=0.1,
        max_answer_tokens=96,
        eval_batch=256,
        model=Model(dtype="float32", remat="none"),
        architecture=Architecture(
            num_layers=3,
            embed_dim=128,
            num_heads=4,
            num_kv_heads=2,
            head_dim=32,
            ffw_dim=384,
            vocab_size=512,
        ),
        data=Data(train="arithmetic", eval="arithmetic", eval_questions=512, max_prompt_tokens=80),
        prompt=Prompt(
            system="Solve the question by reasoning.", instruction="Explain your reasoning."
        ),
        # The rate does not fall to 0: reinforcement learning is to find something to improve.
        optimizer=Optimizer(
            lr=3e-3, b2=0.95, weight_decay=0.1, warmup_updates=100, final_lr_fraction=0.3
        ),
        packing=Packing(row_tokens=288, rows_per_microbatch=8),
        checkpoint=Checkpoint(every_steps=500, keep=1),
    )
