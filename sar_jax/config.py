"""One experiment as typed dataclasses. The defaults are the published SA-GRPO settings.

A config file returns a `TrainConfig` (or, for pretraining, a `PretrainConfig`) from `get_config()`.
The command line overrides any field by its path: `--config.optimizer.lr=2e-6`. In both an unknown
field or a value of another type is an error (`sar_jax.fields`). What a config must satisfy is in
`sar_jax.training.settings.checks`: every command checks before anything slow starts, and names a
wrong field. Where only some values are allowed, the field's type is a `Literal` of them.

`docs/make_configuration.py` makes docs/configuration.md of the docstrings and comments below.

Left out: what a library reads by itself (JAX_COMPILATION_CACHE_DIR, XLA_FLAGS, HF_HOME).
"""

import dataclasses
import json
from typing import Any, Literal

from sar_jax.fields import Fields, OrAuto
from sar_jax.fields import from_dict as from_dict  # of these classes, as `to_json` is


@dataclasses.dataclass
class Model(Fields):
    """The model that is trained, and how it is computed."""

    # A Hugging Face folder (config.json, safetensors, tokenizer), or the id of a model on the hub.
    path: str = ""
    # Number format of activations and matrix products. The weights that learn are always float32.
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    # What the backward pass keeps of a layer, from most memory to least: "none" computes nothing
    # again, "dots" keeps products and attention, "dots_but_up" one wide product fewer, "block" the
    # layer's input alone, and "offload" keeps that in the host's memory.
    remat: Literal["none", "dots", "dots_but_up", "block", "offload"] = "block"
    keep_logits: bool = False  # Keep logits for the update: faster, at 4 bytes a token and entry.
    offload_reference: bool = False  # Keep the reference in host memory except while it scores.
    # Attention: "xla" runs anywhere, "splash" and "cudnn" are fused kernels for TPUs and GPUs, and
    # "auto" is the device's fused kernel where the model allows it, else "xla".
    attention: Literal["auto", "xla", "splash", "cudnn"] = "auto"
    # Families of your own, by model_type: FILE.py:NAME of a dict (docs/plugins.md).
    families: str = ""
    former = {"remat": {"true": "block", "false": "none"}}


@dataclasses.dataclass
class Architecture(Fields):
    """A Qwen3 decoder and its tokenizer, made from scratch when `model.path` is empty."""

    num_layers: int = 3  # Transformer layers.
    embed_dim: int = 128  # Width of the residual stream.
    num_heads: int = 4  # Query heads of a layer.
    num_kv_heads: int = 2  # Key and value heads of a layer; they divide `num_heads`.
    head_dim: int = 32  # Width of one head.
    ffw_dim: int = 384  # Width of the feed-forward layer.
    vocab_size: int = 512  # Entries of the tokenizer that is trained on the data, at most.
    rope_theta: float = 10_000.0  # Base of the rotary position embedding.
    max_positions: int = 2048  # Longest sequence that the model is made for, in tokens.


@dataclasses.dataclass
class Data(Fields):
    """Questions and their true answers."""

    # A data set, a mix such as "math+numina+gsm8k", or a file of your own rows (docs/data.md).
    train: str = ""
    # The same, for evaluation; empty means no evaluation. Its questions are removed from `train`.
    eval: str = ""
    eval_questions: int = 512  # Questions of an evaluation, at most.
    max_prompt_tokens: int = 1024  # Tokens of a prompt, at most; longer ones are left out, counted.
    unstated_share: float = 0.0  # Share of rows that may be left out: no answer can equal "N/A".
    question_field: str = ""  # Field of your own rows that is the question; empty: the usual one.
    answer_field: str = ""  # The same of the true answer; "a.b" is the field b within a.
    kind_field: str = ""  # The same of the kind: math, choice or boolean.


@dataclasses.dataclass
class Prompt(Fields):
    """How a question is put to the model."""

    # The system message.
    system: str = "You are an expert reasoning assistant. Solve the given question by reasoning."
    # A sentence appended to every question.
    instruction: str = "Explain your reasoning before you give the answer."
    # What precedes the answer in ppl(a): "empty_question" is the same prompt without the question
    # and the instruction; "bos" is a single BOS (or EOS) token.
    standalone_context: Literal["empty_question", "bos"] = "empty_question"
    # "chat" is the tokenizer's chat template, "plain" is System/User/Assistant text, and "auto" is
    # the template where the tokenizer has one.
    format: Literal["auto", "chat", "plain"] = "auto"
    # Thinking in templates that can switch it (Qwen3); "default" leaves it to the template.
    thinking: Literal["default", "on", "off"] = "default"
    # A JSONL file of worked examples ("question", "solution"), which come before every question as
    # earlier turns of the chat.
    examples: str = ""
    # Text that every answer goes on from, such as "<think>"; it is a part of the prompt.
    assistant_prefix: str = ""
    # Text that ends an answer where the answer contains it, or several as a JSON list:
    # '["\n\n", "Question:"]'. The model's own tokens end it as well.
    stop: str = ""
    # FILE.py:NAME of what makes the chat messages of a row, in place of `system`, `instruction` and
    # `examples` (docs/plugins.md).
    function: str = ""


@dataclasses.dataclass
class Rollout(Fields):
    """Sampling of answers."""

    questions: int = 128  # Questions in a step.
    samples: int = 6  # Answers to each question.
    # Answers that are decoded at once, each with its part of the cache; when one ends, the next
    # takes its place. "auto" is as many as fit in the devices' memory.
    slots: OrAuto = 96
    precision: Literal["", "int8"] = ""  # "int8" sets the two below, and loss.importance_cap to 2.
    # Number format of cached keys and values; empty means `model.dtype`.
    cache_dtype: Literal["", "bfloat16", "float32", "int8"] = ""
    weights_dtype: Literal["", "int8"] = ""  # The same of the decoder's matrices.
    # Tokens of an answer, at most; also the divisor of the Dr.GRPO loss.
    max_answer_tokens: int = 4096
    # Divides the logits before a token is drawn. Scores are always those of temperature 1.
    temperature: float = 1.0
    top_k: int = 0  # Draw from this many most probable tokens; 0 means all.
    # Draw from the fewest tokens whose probabilities sum to at least this; 1 means all.
    top_p: float = 1.0
    # Draw from tokens with at least this share of the largest probability; 0 means all.
    min_p: float = 0.0
    # Further rounds of questions, at most, to replace groups that are all right or all wrong.
    refill_rounds: int = 0
    # Devices that share one copy of the weights for decoding; -1 means as many as the key and value
    # heads allow.
    tensor: int = -1


@dataclasses.dataclass
class Rewards(Fields):
    """Weights of the rewards; their weighted sum is the total. Weight 0 means not computed."""

    verifiable: float = 1.0  # 1 if the final answer is right, else 0.
    # clip((ppl(a) - ppl(a|q)) / ppl(a), -1, 1); this weight is the paper's alpha.
    self_aligned: float = 0.2
    entropy_min: float = 0.0  # -ln ppl(a|q), the answer's mean logprob in nats.
    o1_pruner: float = 0.0  # clip(mean length of the group / own length - 1, -1, 1).
    # How much shorter a right answer is than the group's other right answers; 0 for wrong ones.
    efficient_reasoner: float = 0.0
    length: float = 0.0  # -(length / answer limit).
    # Rewards of your own, separated by commas: FILE.py:NAME=WEIGHT (docs/plugins.md).
    custom: str = ""
    custom_timeout: float = 60.0  # Seconds that one call of a reward of your own may take.


@dataclasses.dataclass
class SelfAligned(Fields):
    """Variants of the self-aligned reward, and how its weight changes in a run (docs/method.md)."""

    # "relative" is (ppl(a) - ppl(a|q)) / ppl(a), "log" is the same with ln ppl for ppl, and
    # "difference" is ppl(a) - ppl(a|q), neither divided nor clipped.
    form: Literal["relative", "log", "difference"] = "relative"
    cap: float = 0.0  # Larger perplexities count as this one; 0 means no cap.
    # Tokens in runs of at least this many that the prompt has too count as standalone, so that an
    # echo of the question earns next to nothing; 0 means off (docs/answer_types.md measures 8).
    copied_run: int = 0
    # The weight rises linearly up to this fraction of the run, then falls; 0 means constant.
    peak_at: float = 0.0
    # The weight starts at `rewards.self_aligned` and then follows `target_share`.
    adaptive: bool = False
    # Share of the advantage, as in the metric advantage_share/self_aligned, that the adaptive
    # weight aims at.
    target_share: float = 0.05


@dataclasses.dataclass
class Advantage(Fields):
    """From the rewards of answers to the advantages of their tokens."""

    # "group" is the reward minus its group's mean (Dr.GRPO), "leave_one_out" is the reward minus
    # the mean of the group's other answers (RLOO), and "critic" is GAE on learnt values (PPO).
    estimator: Literal["group", "leave_one_out", "critic"] = "group"
    # Divide by the group's sample standard deviation + 1e-4, as in GRPO.
    divide_by_std: bool = False
    gamma: float = 1.0  # Discount of later rewards; with a critic only.
    lam: float = 1.0  # GAE's lambda; with a critic only.
    # Bring advantages to mean 0 and variance 1 over the step's tokens; with a critic only.
    whiten: bool = True
    # Coefficient of each token's log(policy / initial policy), which is subtracted from the reward;
    # 0 means none.
    kl_penalty: float = 0.0


@dataclasses.dataclass
class Critic(Fields):
    """The critic of `advantage.estimator` "critic"; its other settings are those of `optimizer`."""

    lr: float = 2e-6  # Learning rate.
    # How far a value may move from what it was before the step; beyond that its loss is clipped.
    value_clip: float = 0.5
    warmup_steps: int = 0  # The first steps, in which the critic learns alone.


@dataclasses.dataclass
class Lora(Fields):
    """Low-rank adapters that learn. The frozen weights, in `model.dtype`, are the reference too."""

    rank: int = 0  # Rank of the adapters; 0 means that all weights learn.
    alpha: float = 32.0  # The adapters' product is scaled by alpha / rank.
    # The matrices that get an adapter, with commas between their Hugging Face names.
    targets: str = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


@dataclasses.dataclass
class Loss(Fields):
    """The policy's loss."""

    # Questions in an update; a step has rollout.questions / minibatch_questions updates.
    minibatch_questions: int = 64
    # How the tokens' losses are averaged: "limit" is sum / (answers * answer limit) (Dr.GRPO),
    # "tokens" the mean over tokens (DAPO), "sequences" the mean over answers of each answer's mean
    # (GRPO).
    average: Literal["limit", "tokens", "sequences"] = "limit"
    # Whose probability ratio is clipped: that of each "token", or that of the whole "sequence" per
    # token (GSPO; then clip at about 4e-4).
    ratio: Literal["token", "sequence"] = "token"
    clip_low: float = 0.2  # The ratio is clipped at 1 - clip_low from below.
    # The ratio is clipped at 1 + clip_high from above; larger than clip_low is DAPO's clip-higher.
    clip_high: float = 0.2
    dual_clip: float = 3.0  # Bound on the loss, in advantages, where the advantage is negative.
    # A token's policy loss is weighted by min(scored / sampled probability, this cap); 0 means off.
    importance_cap: float = 0.0
    # The logprobs that the ratio starts from: "scored" anew, or "sampled", those of the decoder,
    # which saves a pass and is given up for good where the two differ (docs/method.md).
    old_logps: Literal["scored", "sampled"] = "scored"
    mask_clipped: bool = False  # Leave answers that the limit cut off out of the loss.
    # Coefficient of KL(policy || initial policy). Without any KL no reference model is loaded.
    kl: float = 0.001
    # Estimator of the KL. The gradient of "k2" is the KL's own; that of "k1" is 0 on average
    # (docs/method.md).
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"


@dataclasses.dataclass
class Optimizer(Fields):
    """AdamW on clipped gradients; a linear warm-up, then a cosine to `final_lr_fraction * lr`."""

    lr: float = 1e-6  # Peak learning rate.
    b1: float = 0.9  # Decay of the first moment.
    b2: float = 0.999  # Decay of the second moment.
    eps: float = 1e-8  # Added to the root of the second moment.
    # Number format of the first moment; "bfloat16" saves 2 bytes a parameter.
    mu_dtype: Literal["float32", "bfloat16"] = "float32"
    weight_decay: float = 0.01  # Decoupled weight decay. Gains of norms are not decayed.
    clip_norm: float = 1.0  # Global norm that a larger gradient is scaled down to.
    warmup_updates: int = 0  # Updates until the learning rate reaches its peak.
    final_lr_fraction: float = 1.0  # The last learning rate as a fraction of `lr`; 1: constant.


@dataclasses.dataclass
class Packing(Fields):
    """Packed rows: what score and update work on."""

    row_tokens: int = 5120  # Tokens in a row; at least data.max_prompt_tokens + the answer limit.
    rows_per_microbatch: int = 8  # Rows scored or differentiated at once, over all devices.
    # The last micro-batch may have half of the columns, a quarter, ..., down to 1 / this (1 to 8).
    narrowest: int = 1
    logprob_chunk: int = 8192  # Vocabulary entries whose logits exist at once.


@dataclasses.dataclass
class Mesh(Fields):
    """Devices along each axis. One of them may be -1, which means all that remain."""

    data: int = 1  # Groups of devices; each group holds a whole copy of the weights.
    fsdp: int = -1  # Devices that share the weights, and gather each when it is used.
    tensor: int = 1  # Devices that share each matrix product.


@dataclasses.dataclass
class Evaluation(Fields):
    """Greedy evaluation on `data.eval`."""

    # Steps between two evaluations; there is also one before the first and after the last step.
    every_steps: int = 50
    # Questions in a call of the decoder, which decodes rollout.slots of them at once.
    batch: int = 512
    # Answers of each that are scored token by token, as heat maps in report.html.
    heat_maps: int = 16


@dataclasses.dataclass
class Verification(Fields):
    """Comparison of final answers; those that are no plain numbers go to worker processes."""

    # What says whether an answer is right: empty means by each row's kind; or one kind for all
    # rows; or a function of your own, FILE.py:NAME; or "judge" (docs/plugins.md).
    verifier: str = ""
    workers: int = 2  # Worker processes.
    # Seconds that one comparison may take; after that it counts as an error.
    timeout: float = 5.0
    # Errors count as wrong. A larger share of them among a step's answers stops the run.
    max_error_share: float = 0.1
    # Of the verifier "judge": the address of an API as OpenAI's, without /chat/completions.
    judge_url: str = ""
    judge_model: str = ""  # Of the verifier "judge": the model's name there.


@dataclasses.dataclass
class Logging(Fields):
    """Where metrics go, and sampled answers that are kept and shown (docs/logging.md)."""

    # Trackers that get metrics too, separated by commas: tensorboard, wandb, trackio, mlflow, and
    # your own (docs/plugins.md).
    to: str = "tensorboard"
    project: str = "sar_jax"  # The project of a tracker, an experiment of MLflow.
    samples_every_steps: int = 10  # Steps between two files of sampled answers in samples/.
    samples_shown: int = 2  # Answers of each such step that are shown on the screen.


@dataclasses.dataclass
class Guards(Fields):
    """When a run raises an alarm (docs/method.md); 0 switches one off."""

    short_length: float = 0.3  # Answers are shorter than this fraction of the first steps'.
    falling_evaluations: int = 2  # This many evaluations in a row are worse than the one before.
    low_entropy: float = 0.02  # The policy's mean entropy is below this, in nats a token.
    trend_steps: int = 20  # Over these steps the self-aligned reward rises and accuracy falls.
    # A larger share of the answers' tokens is in runs of 8 or more that their prompt has too.
    echo: float = 0.25
    unrewarded_steps: int = 3  # Not one answer is right in this many steps in a row.
    cut_off_steps: int = 3  # Every answer is cut off by the limit in this many steps in a row.
    skipped_updates: int = 20  # A gradient is not finite; this many updates in a row stop the run.
    high_kl: float = 1.0  # The KL to the initial policy is above this, in nats a token.
    entropy_rise: float = 2.0  # The entropy is this much above the first step's, in nats a token.
    not_finite: int = 1  # A metric is not finite.


@dataclasses.dataclass
class Checkpoint(Fields):
    """Checkpoints, from which the same command resumes."""

    # Steps between two checkpoints; there is also one after the last step and on Ctrl-C.
    every_steps: int = 50
    keep: int = 2  # Checkpoints that are kept.
    retry_seconds: int = 60  # Seconds to try a write again while a disk is full or a bucket away.


@dataclasses.dataclass
class TrainConfig(Fields):
    """Reinforcement learning: what `sar_jax.train` takes."""

    seed: int = 0  # Seed of everything random.
    steps: int = 500  # Steps of the run.
    profile_steps: int = 0  # Steps, from the third on, that are recorded with the XLA profiler.
    model: Model = dataclasses.field(default_factory=Model)
    data: Data = dataclasses.field(default_factory=Data)
    prompt: Prompt = dataclasses.field(default_factory=Prompt)
    rollout: Rollout = dataclasses.field(default_factory=Rollout)
    rewards: Rewards = dataclasses.field(default_factory=Rewards)
    self_aligned: SelfAligned = dataclasses.field(default_factory=SelfAligned)
    advantage: Advantage = dataclasses.field(default_factory=Advantage)
    critic: Critic = dataclasses.field(default_factory=Critic)
    lora: Lora = dataclasses.field(default_factory=Lora)
    loss: Loss = dataclasses.field(default_factory=Loss)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    packing: Packing = dataclasses.field(default_factory=Packing)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)
    verification: Verification = dataclasses.field(default_factory=Verification)
    logging: Logging = dataclasses.field(default_factory=Logging)
    guards: Guards = dataclasses.field(default_factory=Guards)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)


@dataclasses.dataclass
class PretrainConfig(Fields):
    """Supervised training on worked answers, from scratch or not: what `sar_jax.pretrain` takes."""

    seed: int = 0  # Seed of everything random.
    steps: int = 1500  # Updates of the run.
    batch_examples: int = 64  # Worked answers in an update.
    # Share of the worked answers that are trained after the empty question, as ppl(a) sees them.
    empty_question_fraction: float = 0.0
    log_every_steps: int = 50  # Updates between two lines on the screen.
    eval_batch: int = 128  # Questions in a call of the decoder during the evaluation.
    # Tokens of a worked answer, at most; longer ones are left out. Also the evaluation's limit.
    max_answer_tokens: int = 1024
    model: Model = dataclasses.field(default_factory=Model)
    architecture: Architecture = dataclasses.field(default_factory=Architecture)
    data: Data = dataclasses.field(default_factory=Data)
    prompt: Prompt = dataclasses.field(default_factory=Prompt)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    packing: Packing = dataclasses.field(default_factory=Packing)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)


def max_length(config: TrainConfig) -> int:
    """The longest sequence of a run, in tokens."""
    return config.data.max_prompt_tokens + config.rollout.max_answer_tokens


def to_json(config: Any) -> str:
    """The config as it is kept in a workdir: one JSON object, indented."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"
