"""One experiment as typed dataclasses. The defaults are the published SA-GRPO settings.

A config file returns a `TrainConfig` (or, for pretraining, a `PretrainConfig`) from `get_config()`;
every field can be overridden on the command line by its path: `--config.optimizer.lr=2e-6`. Unknown
fields and wrong types are errors. `check()` (sar_jax.checks) is called before anything slow starts
and names the field that is wrong.

Left out: anything a library reads by itself (JAX_COMPILATION_CACHE_DIR, XLA_FLAGS, HF_HOME).
"""

import dataclasses
import json
from typing import Any

from sar_jax.errors import UserError


@dataclasses.dataclass
class Model:
    path: str = (
        ""  # Hugging Face folder (config.json, safetensors, tokenizer), or the hub's id of one
    )
    dtype: str = "bfloat16"  # dtype of activations and matrix products; master weights are float32
    remat: bool = True  # recompute each layer in the backward pass
    offload_reference: bool = (
        False  # the reference waits in host memory, and visits the devices to score
    )
    # "xla", or the fused kernels "splash" (TPUs) and "cudnn" (GPUs); "auto": what is there
    attention: str = "auto"


@dataclasses.dataclass
class Architecture:
    """A Qwen3 decoder and its tokenizer made from scratch (pretraining without `model.path`)."""

    num_layers: int = 3
    embed_dim: int = 128
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 32
    ffw_dim: int = 384
    vocab_size: int = 512
    rope_theta: float = 10_000.0
    max_positions: int = 2048


@dataclasses.dataclass
class Data:
    train: str = ""  # a data set, a mix like "math+numina+gsm8k", or a JSONL file (docs/data.md)
    eval: str = ""  # the same; "" = no evaluation. Its questions are taken out of `train`
    eval_questions: int = 512  # at most so many of them
    max_prompt_tokens: int = 1024  # questions whose prompt is longer are left out, and counted


@dataclasses.dataclass
class Prompt:
    system: str = "You are an expert reasoning assistant. Solve the given question by reasoning."
    instruction: str = (
        "Explain your reasoning before you give the answer."  # appended to the question
    )
    standalone_context: str = (
        "empty_question"  # what precedes the answer in ppl(a): or "bos", one BOS/EOS token
    )
    # "chat": the tokenizer's template; "plain": System/User/Assistant; "auto": what there is
    format: str = "auto"
    # "on" or "off", for templates that can (Qwen3); "default": as the template has it
    thinking: str = "default"


@dataclasses.dataclass
class Rollout:
    questions: int = 128  # a step
    samples: int = 6  # answers a question
    slots: int = (
        96  # answers decoded at once: each has a cache; when one ends, the next takes its slot
    )
    cache_dtype: str = (
        ""  # of cached keys and values: "" = model.dtype, "bfloat16", "float32", "int8" (*)
    )
    # of the decoder's matrices: "" = model.dtype, or "int8" (*). (*): see loss.importance_cap
    weights_dtype: str = ""
    max_answer_tokens: int = 4096  # also the divisor of the Dr.GRPO loss
    temperature: float = (
        1.0  # divides the logits before a token is drawn; scores are those of temperature 1
    )
    top_k: int = 0  # draw from the so many most probable tokens; 0 = from all
    top_p: float = (
        1.0  # draw from the fewest tokens with at least this probability together; 1 = from all
    )
    min_p: float = (
        0.0  # draw from tokens with at least this share of the largest probability; 0 = from all
    )
    refill_rounds: int = (
        0  # so many more rounds of questions may replace groups that are all right or all wrong
    )
    tensor: int = (
        -1
    )  # devices that share a copy of the weights for decoding; -1: as the kv heads allow


@dataclasses.dataclass
class Rewards:
    """Weights; the total reward is the weighted sum. 0 = not computed."""

    verifiable: float = 1.0
    self_aligned: float = 0.2
    entropy_min: float = 0.0
    o1_pruner: float = 0.0
    efficient_reasoner: float = 0.0
    length: float = 0.0


@dataclasses.dataclass
class SelfAligned:
    """The self-aligned reward's variants, and how its weight `rewards.self_aligned` changes in a
    run (docs/method.md)."""

    # (ppl(a) - ppl(a|q)) / ppl(a); "log": the same of ln ppl; "difference": undivided
    form: str = "relative"
    cap: float = 0.0  # perplexities count at most so much; 0 = no cap
    peak_at: float = (
        0.0  # the weight rises linearly up to this fraction of the run, then falls; 0 = constant
    )
    adaptive: bool = False  # the weight starts at `rewards.self_aligned` and follows `target_share`
    target_share: float = (
        0.05  # of the advantage, as the metric advantage_share/self_aligned has it
    )


@dataclasses.dataclass
class Advantage:
    # reward - mean of its group (Dr.GRPO); "leave_one_out": - mean of the others (RLOO);
    estimator: str = "group"
    # "critic": GAE, which is PPO
    divide_by_std: bool = (
        False  # by the group's sample standard deviation + 1e-4 (GRPO, as TRL has it)
    )
    gamma: float = 1.0  # the critic's: discount, and GAE's lambda
    lam: float = 1.0
    whiten: bool = True  # the critic's: to mean 0 and variance 1 over the step's tokens
    kl_penalty: float = (
        0.0  # times each token's log(policy / initial policy), off the reward; 0 = none
    )


@dataclasses.dataclass
class Critic:
    """Of advantage.estimator "critic"; what is not here stands in `optimizer`."""

    lr: float = 2e-6
    value_clip: float = 0.5  # values move at most so far in a step
    warmup_steps: int = 0  # so many first steps train the critic alone


@dataclasses.dataclass
class Lora:
    """Low-rank adapters learn in place of the weights, which stay frozen in `model.dtype` and are
    the reference too."""

    rank: int = 0  # 0 = all weights learn
    alpha: float = 32.0  # the adapters' product counts alpha / rank
    targets: str = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


@dataclasses.dataclass
class Loss:
    minibatch_questions: int = (
        64  # questions an update: rollout.questions / minibatch_questions updates a step
    )
    # sum / (answers * answer limit), Dr.GRPO; mean over "tokens", DAPO, or "sequences", GRPO
    average: str = "limit"
    # of probabilities; "sequence": of an answer's, per token (GSPO: then clip at about 4e-4)
    ratio: str = "token"
    clip_low: float = 0.2  # the ratio is clipped to [1 - clip_low, 1 + clip_high];
    clip_high: float = 0.2  # larger than clip_low: DAPO's clip-higher (there 0.28)
    dual_clip: float = 3.0
    importance_cap: float = 0.0  # tokens count min(scored / sampled probability, this cap); 0 = off
    mask_clipped: bool = False  # answers that the limit cut off are left out of the loss
    kl: float = (
        0.001  # coefficient of KL(policy || initial policy); without any KL no reference is loaded
    )
    # or "k2", whose gradient is the KL's own; "k1" has none on average (sar_jax/losses.py)
    kl_estimator: str = "k3"


@dataclasses.dataclass
class Optimizer:
    """AdamW with global-norm clipping; the schedule is linear warm-up, then a cosine to
    `final_lr_fraction * lr`."""

    lr: float = 1e-6
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    mu_dtype: str = "float32"  # of the first moment; "bfloat16" saves 2 bytes a parameter
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_updates: int = 0
    final_lr_fraction: float = 1.0  # 1 = constant


@dataclasses.dataclass
class Packing:
    row_tokens: int = 5120  # width of a packed row; at least prompt + answer limits
    rows_per_microbatch: int = 8  # rows scored or differentiated at once, over all devices
    logprob_chunk: int = 8192  # vocabulary entries whose logits exist at once


@dataclasses.dataclass
class Mesh:
    """Devices along each axis; one of them may be -1, "the rest"."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1


@dataclasses.dataclass
class Evaluation:
    every_steps: int = 50  # greedy evaluation; also before the first and after the last step
    batch: int = 512  # questions a call of the decoder, which has rollout.slots of them at once


@dataclasses.dataclass
class Verification:
    """Of final answers; expressions that are not plain numbers go to worker processes."""

    workers: int = 2
    timeout: float = 5.0  # seconds that one comparison may take; then it counts as an error
    # errors are counted as wrong; a larger share of them among a step's answers stops the run
    max_error_share: float = 0.1


@dataclasses.dataclass
class Logging:
    samples_every_steps: int = 10  # write the step's answers to samples/
    samples_shown: int = 2  # and show so many of them on the screen


@dataclasses.dataclass
class Guards:
    """When a run raises an alarm; it goes on (docs/method.md). 0 = this alarm is off."""

    short_length: float = 0.3  # answers are shorter than this fraction of the first steps'
    falling_evaluations: int = 2  # so many evaluations in a row are worse than the one before
    low_entropy: float = 0.02  # the policy's entropy is below, nats a token
    trend_steps: int = 20  # over so many steps the self-aligned reward rises while accuracy falls
    echo: float = 0.5  # a larger share of the answers' token trigrams stands in their question


@dataclasses.dataclass
class Checkpoint:
    every_steps: int = 50  # also after the last step and on Ctrl-C
    keep: int = 2


@dataclasses.dataclass
class TrainConfig:
    seed: int = 0
    steps: int = 500
    profile_steps: int = 0  # so many steps, from the third on, are recorded with the XLA profiler
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
class PretrainConfig:
    """Supervised next-token training on worked answers: from scratch, or a cold start of
    `model.path`."""

    seed: int = 0
    steps: int = 1500
    batch_examples: int = 64  # worked answers an update
    empty_question_fraction: float = (
        0.0  # share of answers trained after the empty question (see sar_jax.text.prompts)
    )
    log_every_steps: int = 50
    eval_batch: int = 128
    max_answer_tokens: int = (
        1024  # longer worked answers are left out, and counted; decoding limit of the evaluation
    )
    model: Model = dataclasses.field(default_factory=Model)
    architecture: Architecture = dataclasses.field(
        default_factory=Architecture
    )  # used when model.path is empty
    data: Data = dataclasses.field(default_factory=Data)
    prompt: Prompt = dataclasses.field(default_factory=Prompt)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    packing: Packing = dataclasses.field(default_factory=Packing)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)


def needs_reference(config: TrainConfig) -> bool:
    """Is anything compared with the initial policy?"""
    return config.loss.kl != 0 or config.advantage.kl_penalty != 0


def max_length(config: TrainConfig) -> int:
    """The longest sequence of a run, in tokens."""
    return config.data.max_prompt_tokens + config.rollout.max_answer_tokens


def to_json(config: Any) -> str:
    """The config as it is kept in a workdir: one JSON object, indented."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_dict(cls: type, fields: dict[str, Any]) -> Any:
    """The inverse of `dataclasses.asdict` for the classes above; unknown fields raise
    `UserError`."""
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = set(fields) - set(known)
    if unknown:
        raise UserError(f"unknown config field(s): {', '.join(sorted(unknown))}")
    values = {
        name: from_dict(known[name].type, v) if isinstance(v, dict) else v
        for name, v in fields.items()
    }
    return cls(**values)
