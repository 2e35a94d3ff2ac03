"""SA-GRPO on Gemma-3-1B with the published settings (arXiv 2509.05489).

    python -m sar_jax.train --config=configs/gemma3_1b.py --workdir=DIR

Step    128 questions x 6 answers, 1,024 + 4,096 tokens
Model   google/gemma-3-1b-it from the hub, or a folder (--config.model.path=FOLDER)
Data    the published mix from the hub, or local copies: math=FOLDER+numina=FOLDER+gsm8k=FOLDER in
        --config.data.train and --config.data.eval; or your own JSONL with "question" and "answer"
        on each line (docs/data.md)
Chips   8 of v5e, one host (v5e:2x4: 4.6 of 15.7 GiB a chip), by the TPU compiler
        (docs/slices.md has other slices; nothing has run on a TPU yet)
Result  published, after 500 steps, average of five mathematics sets: accuracy
        22.56 -> 32.24 %, 1,097 -> 1,017 tokens

The paper does not say whether it took the base or the instruction-tuned model; this is the
latter.
"""

from sar_jax.config import Data, Model, Packing, TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig()  # the defaults are the published settings
    config.model = Model(path="google/gemma-3-1b-it")
    # the train and test splits of these sets
    config.data = Data(train="math+numina+gsm8k", eval="math+numina+gsm8k")
    config.packing = Packing(row_tokens=5120, rows_per_microbatch=16, narrowest=4)
    return config
