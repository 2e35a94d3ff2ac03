"""SA-GRPO on Gemma 3 270M (base) after a cold start: a real model on a laptop's CPU.

    python -m sar_jax.train --config=configs/gemma3_270m.py --config.model.path=HF_DIR

Step    4 questions x 8 answers, 48 + 96 tokens
Model   what configs/gemma3_270m_pretrain.py has written; launch/reproduce_real.sh does both
Data    `arithmetic`, generated
Result  sampled answers of steps 16 to 25, two seeds: GRPO's have 59 and 49 tokens, those with
        rewards.self_aligned=1 48 and 36; with the paper's 0.2, as here, they are 4 tokens shorter
        than GRPO's in steps 51 to 75 (docs/results.md); a step takes 35 to 41 s on two cores

Adapters learn, there is no KL, and the logprobs after the question are the decoder's: so a step
computes no gradient of 270 million weights, no reference's logprobs, and half as many of its own.
"""

from sar_jax.config import (
    Checkpoint,
    Data,
    Evaluation,
    Logging,
    Lora,
    Loss,
    Model,
    Optimizer,
    Packing,
    Prompt,
    Rollout,
    TrainConfig,
)


def get_config() -> TrainConfig:
    return TrainConfig(
        steps=25,
        model=Model(path="google/gemma-3-270m", dtype="float32", remat="dots", keep_logits=True),
        lora=Lora(rank=16, alpha=32.0),
        data=Data(train="arithmetic", eval="arithmetic", eval_questions=256, max_prompt_tokens=48),
        prompt=Prompt(format="plain", system="", instruction=""),
        rollout=Rollout(questions=4, samples=8, slots=32, max_answer_tokens=96),
        loss=Loss(minibatch_questions=4, kl=0.0, old_logps="sampled"),
        # at 1e-3 hardly an answer is right after 12 steps, and at 3e-4 fewer than before
        optimizer=Optimizer(lr=1e-4, warmup_updates=4),
        packing=Packing(row_tokens=576, rows_per_microbatch=1, narrowest=4),
        evaluation=Evaluation(batch=64, every_steps=25),
        logging=Logging(samples_every_steps=10, samples_shown=1),
        checkpoint=Checkpoint(every_steps=10, keep=2),
    )
