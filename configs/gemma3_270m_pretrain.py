"""A cold start for configs/gemma3_270m.py: Gemma 3 270M (base) learns to answer `arithmetic`.

    python -m sar_jax.pretrain --config=configs/gemma3_270m_pretrain.py --output=HF_DIR

Model   google/gemma-3-270m from the hub, or a folder (--config.model.path=FOLDER), such as the one
        that benchmarks/real_model.py makes
Data    worked answers from terse to padded, generated
Result  41.4 and 42.2 % of 256 answers right after an hour on two cores, of an Intel Xeon and of an
        AMD EPYC; 45.7 % in bfloat16 on one H100 (docs/results.md)
"""

from sar_jax.config import Checkpoint, Data, Model, Optimizer, Packing, PretrainConfig, Prompt


def get_config() -> PretrainConfig:
    return PretrainConfig(
        steps=300,
        batch_examples=8,
        # so that the model has seen answers without a question when it computes ppl(a)
        empty_question_fraction=0.1,
        log_every_steps=5,
        max_answer_tokens=96,
        eval_batch=64,
        model=Model(path="google/gemma-3-270m", dtype="float32", remat="dots", keep_logits=True),
        data=Data(train="arithmetic", eval="arithmetic", eval_questions=256, max_prompt_tokens=48),
        prompt=Prompt(format="plain", system="", instruction=""),
        optimizer=Optimizer(lr=1e-4, b2=0.95, warmup_updates=10, final_lr_fraction=0.1),
        packing=Packing(row_tokens=576, rows_per_microbatch=1, narrowest=4),
        checkpoint=Checkpoint(keep=1),  # 3.2 GB
    )
