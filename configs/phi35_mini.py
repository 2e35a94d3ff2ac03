"""SA-GRPO on Phi-3.5-mini with the published settings (arXiv 2509.05489).

    python -m sar_jax.train --config=configs/phi35_mini.py --workdir=DIR

Step    128 questions x 6 answers, 1,024 + 4,096 tokens
Model   microsoft/Phi-3.5-mini-instruct from the hub, or a folder (--config.model.path=FOLDER)
Data    the published mix from the hub, or local copies: math=FOLDER+numina=FOLDER+gsm8k=FOLDER in
        --config.data.train and --config.data.eval; or your own JSONL with "question" and "answer"
        on each line (docs/data.md)
Chips   8 of v6e (v6e:2x4: 27.2 of 31.2 GiB a chip), by the TPU compiler
        (docs/slices.md has other slices; nothing has run on a TPU yet)
Result  published, after 500 steps, average of five mathematics sets: accuracy
        35.15 -> 46.19 %, 850 -> 368 tokens

A sequence may have 5,120 tokens, more than the 4,096 of LongRoPE's short factors: the long ones
hold for the whole run.
"""

from sar_jax.config import Data, Model, Packing, TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig()  # the defaults are the published settings
    config.model = Model(path="microsoft/Phi-3.5-mini-instruct")
    # the train and test splits of these sets
    config.data = Data(train="math+numina+gsm8k", eval="math+numina+gsm8k")
    # 32 kv heads, four times those of Qwen3-4B: the cache of 96 slots would not fit v6e:2x4
    config.rollout.slots = 48
    config.packing = Packing(row_tokens=5120, rows_per_microbatch=16, narrowest=4)
    return config
