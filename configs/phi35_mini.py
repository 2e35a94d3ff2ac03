"""SA-GRPO on Phi-3.5-mini with the published settings (arXiv 2509.05489): 128 questions x 6 answers, 1,024 + 4,096 tokens.

    python -m sar_jax.train --config=configs/phi35_mini.py --workdir=DIR

The model comes from the hub (microsoft/Phi-3.5-mini-instruct) or a folder (--config.model.path=FOLDER). Data: the
published mix, from the hub or local copies (--config.data.train=math=FOLDER+numina=FOLDER+gsm8k=FOLDER, data.eval likewise;
docs/data.md), or your own JSONL with "question" and "answer" on each line.
Hardware: the chips of one host, 1, 2, 4, 8 or 16 of them.
Memory: float32 weights, gradients and Adam's two moments, and bfloat16 copies of policy and reference, are 20 bytes a
parameter: 76 GB over all chips of the host, before activations and cache (an estimate; not run on a TPU yet).
A sequence may have 5,120 tokens, more than the 4,096 of LongRoPE's short factors: the long ones hold for the whole run.
Published result after 500 steps, average of five mathematics sets: accuracy 35.15 -> 46.19 %, 850 -> 368 tokens.
"""

from sar_jax.config import Data, Model, Packing, TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig()   # the defaults are the published settings
    config.model = Model(path="microsoft/Phi-3.5-mini-instruct")
    config.data = Data(train="math+numina+gsm8k", eval="math+numina+gsm8k")   # their train and test splits
    config.rollout.batch = 8   # of 32 kv heads, four times those of Qwen3-4B: 16 questions' cache would not fit v6e:2x4
    config.packing = Packing(row_tokens=5120, rows_per_microbatch=16)
    return config
