"""SA-PPO on Qwen3-1.7B with the published settings (arXiv 2509.05489).

    python -m sar_jax.train --config=configs/qwen3_1p7b_ppo.py --workdir=DIR

Plain PPO, for comparison: --config.rewards.self_aligned=0

Step    128 questions, one answer each, 1,024 + 4,096 tokens
Model   Qwen/Qwen3-1.7B-Base from the hub, or a folder (--config.model.path=FOLDER)
Data    the published mix from the hub, or local copies: math=FOLDER+numina=FOLDER+gsm8k=FOLDER in
        --config.data.train and --config.data.eval; or your own JSONL with "question" and "answer"
        on each line (docs/data.md)
Chips   8 of v5e, one host (v5e:2x4: 9.9 of 15.7 GiB a chip), by the TPU compiler
        (docs/slices.md has other slices; nothing has run on a TPU yet)
Result  published, after 500 steps, average of five mathematics sets: accuracy
        41.48 -> 52.49 %, 825 -> 624 tokens
"""

from sar_jax.config import Advantage, Critic, Data, Loss, Model, Packing, Rollout, TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig()  # the defaults are the published settings that GRPO and PPO share
    config.model = Model(path="Qwen/Qwen3-1.7B-Base")
    # the train and test splits of these sets
    config.data = Data(train="math+numina+gsm8k", eval="math+numina+gsm8k")
    config.rollout = Rollout(questions=128, samples=1, slots=64)
    config.advantage = Advantage(estimator="critic")
    config.critic = Critic(lr=2e-6, value_clip=0.5)
    config.loss = Loss(minibatch_questions=64, average="tokens", kl=0.0)
    config.packing = Packing(row_tokens=5120, rows_per_microbatch=16, narrowest=4)
    return config
