"""SA-GRPO on Qwen3-4B with the published settings (arXiv 2509.05489).

    python -m sar_jax.train --config=configs/qwen3_4b.py --workdir=DIR

Step    128 questions x 6 answers, 1,024 + 4,096 tokens
Model   Qwen/Qwen3-4B-Base from the hub, or a folder (--config.model.path=FOLDER)
Data    the published mix from the hub, or local copies: math=FOLDER+numina=FOLDER+gsm8k=FOLDER in
        --config.data.train and --config.data.eval; or your own JSONL with "question" and "answer"
        on each line (docs/data.md)
Chips   8 of v6e (v6e:2x4: 18.8 of 31.2 GiB a chip) or 16 of v5e (v5e:4x4: 9.9 of 15.7 GiB a
        chip), by the TPU compiler
        (docs/slices.md has other slices; nothing has run on a TPU yet)
Result  published, after 500 steps, average of five mathematics sets: accuracy
        53.03 -> 71.41 %, 765 -> 894 tokens
"""

from sar_jax.config import Data, Model, Packing, TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig()  # the defaults are the published settings
    config.model = Model(path="Qwen/Qwen3-4B-Base")
    # the train and test splits of these sets
    config.data = Data(train="math+numina+gsm8k", eval="math+numina+gsm8k")
    config.packing = Packing(row_tokens=5120, rows_per_microbatch=16, narrowest=4)
    return config
