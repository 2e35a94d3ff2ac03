"""SA-GRPO on Phi-3.5-mini with the published settings (arXiv 2509.05489): 128 questions x 6
answers, 1,024 + 4,096 tokens.

    python -m sar_jax.train --config=configs/phi35_mini.py --workdir=DIR

The model comes from the hub (microsoft/Phi-3.5-mini-instruct) or a folder
(--config.model.path=FOLDER). Data: the published mix, from the hub or local copies
(--config.data.train=math=FOLDER+numina=FOLDER+gsm8k=FOLDER, data.eval likewise; docs/data.md), or
your own JSONL with "question" and "answer" on each line. Hardware: 8 chips of v6e (v6e:2x4: 27.1 of
31.2 GiB a chip), by the TPU compiler: `python -m sar_jax.plan` and docs/tpu.md have other slices.
Not run on a TPU yet. A sequence may have 5,120 tokens, more than the 4,096 of LongRoPE's short
factors: the long ones hold for the whole run. Published result after 500 steps, average of five
mathematics sets: accuracy 35.15 -> 46.19 %, 850 -> 368 tokens."""

from sar_jax.config import Data, Model, Packing, TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig()  # the defaults are the published settings
    config.model = Model(path="microsoft/Phi-3.5-mini-instruct")
    config.data = Data(
        train="math+numina+gsm8k", eval="math+numina+gsm8k"
    )  # their train and test splits
    config.rollout.slots = (
        48  # of 32 kv heads, four times those of Qwen3-4B: the cache of 96 would not fit v6e:2x4
    )
    config.packing = Packing(row_tokens=5120, rows_per_microbatch=16)
    return config
