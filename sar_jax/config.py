"""One experiment as typed dataclasses. The defaults are the published SA-GRPO settings.

A config file returns a `TrainConfig` (or, for pretraining, a `PretrainConfig`) from `get_config()`; every field can be
overridden on the command line by its path: `--config.optimizer.lr=2e-6`. Unknown fields and wrong types are errors.
`check()` is called before anything slow starts and names the field that is wrong.

Left out: anything a library reads by itself (JAX_COMPILATION_CACHE_DIR, XLA_FLAGS, HF_HOME).
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

from sar_jax.errors import UserError

_CHOICES = {"standalone_context": ("empty_question", "bos"), "format": ("auto", "chat", "plain"),
            "thinking": ("default", "on", "off")}


@dataclasses.dataclass
class Model:
    path: str = ""                 # Hugging Face folder (config.json, safetensors, tokenizer), or the hub's id of one
    dtype: str = "bfloat16"        # dtype of activations and matrix products; master weights are float32
    remat: bool = True             # recompute each layer in the backward pass
    offload_reference: bool = False   # the reference waits in host memory, and visits the devices to score
    attention: str = "auto"        # "xla", or "splash", the fused kernel for TPUs; "auto": what the devices have


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
    train: str = ""                # a data set, a mix like "math+numina+gsm8k", or a JSONL file (docs/data.md)
    eval: str = ""                 # the same; "" = no evaluation. Its questions are taken out of `train`
    eval_questions: int = 512      # at most so many of them
    max_prompt_tokens: int = 1024  # questions whose prompt is longer are left out, and counted


@dataclasses.dataclass
class Prompt:
    system: str = "You are an expert reasoning assistant. Solve the given question by reasoning."
    instruction: str = "Explain your reasoning before you give the answer."   # appended to the question
    standalone_context: str = "empty_question"   # what precedes the answer in ppl(a): or "bos", one BOS/EOS token
    format: str = "auto"           # "chat": the tokenizer's template; "plain": System/User/Assistant; "auto": what there is
    thinking: str = "default"      # "on" or "off", for templates that can (Qwen3); "default": as the template has it


@dataclasses.dataclass
class Rollout:
    questions: int = 128           # a step
    samples: int = 6               # answers a question
    batch: int = 16                # questions decoded at once: batch * samples answers have a cache
    max_answer_tokens: int = 4096  # also the divisor of the Dr.GRPO loss
    refill_rounds: int = 0         # so many more rounds of questions may replace groups that are all right or all wrong
    tensor: int = -1               # devices that share a copy of the weights for decoding; -1: as the kv heads allow


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
class Advantage:
    estimator: str = "group"       # reward minus its group's mean (Dr.GRPO); "critic": GAE, which is PPO
    gamma: float = 1.0             # the critic's: discount, and GAE's lambda
    lam: float = 1.0
    whiten: bool = True            # the critic's: to mean 0 and variance 1 over the step's tokens
    kl_penalty: float = 0.0        # times each token's log(policy / initial policy), off the reward; 0 = none


@dataclasses.dataclass
class Critic:
    """Of advantage.estimator "critic"; what is not here stands in `optimizer`."""
    lr: float = 2e-6
    value_clip: float = 0.5        # values move at most so far in a step
    warmup_steps: int = 0          # so many first steps train the critic alone


@dataclasses.dataclass
class Lora:
    """Low-rank adapters learn in place of the weights, which stay frozen in `model.dtype` and are the reference too."""
    rank: int = 0                  # 0 = all weights learn
    alpha: float = 32.0            # the adapters' product counts alpha / rank
    targets: str = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


@dataclasses.dataclass
class Loss:
    average: str = "limit"         # sum / (answers * answer limit), Dr.GRPO; "tokens": mean over the mini-batch's tokens
    minibatch_questions: int = 64  # questions an update: rollout.questions / minibatch_questions updates a step
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 3.0
    mask_clipped: bool = False     # answers that the limit cut off are left out of the loss
    kl: float = 0.001              # coefficient of KL(policy || initial policy); without any KL no reference is loaded


@dataclasses.dataclass
class Optimizer:
    """AdamW with global-norm clipping; the schedule is linear warm-up, then a cosine to `final_lr_fraction * lr`."""
    lr: float = 1e-6
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    mu_dtype: str = "float32"      # of the first moment; "bfloat16" saves 2 bytes a parameter
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_updates: int = 0
    final_lr_fraction: float = 1.0   # 1 = constant


@dataclasses.dataclass
class Packing:
    row_tokens: int = 5120         # width of a packed row; at least prompt + answer limits
    rows_per_microbatch: int = 8   # rows scored or differentiated at once, over all devices
    logprob_chunk: int = 8192      # vocabulary entries whose logits exist at once


@dataclasses.dataclass
class Mesh:
    """Devices along each axis; one of them may be -1, "the rest"."""
    data: int = 1
    fsdp: int = -1
    tensor: int = 1


@dataclasses.dataclass
class Evaluation:
    every_steps: int = 50          # greedy evaluation; also before the first and after the last step
    batch: int = 128               # questions decoded at once


@dataclasses.dataclass
class Verification:
    """Of final answers; expressions that are not plain numbers go to worker processes."""
    workers: int = 2
    timeout: float = 5.0           # seconds that one comparison may take; then it counts as an error
    max_error_share: float = 0.1   # errors are counted as wrong; a larger share of them among a step's answers stops the run


@dataclasses.dataclass
class Logging:
    samples_every_steps: int = 10  # write the step's answers to samples/
    samples_shown: int = 2         # and show so many of them on the screen


@dataclasses.dataclass
class Checkpoint:
    every_steps: int = 50          # also after the last step and on Ctrl-C
    keep: int = 2


@dataclasses.dataclass
class TrainConfig:
    seed: int = 0
    steps: int = 500
    profile_steps: int = 0         # so many steps, from the third on, are recorded with the XLA profiler
    model: Model = dataclasses.field(default_factory=Model)
    data: Data = dataclasses.field(default_factory=Data)
    prompt: Prompt = dataclasses.field(default_factory=Prompt)
    rollout: Rollout = dataclasses.field(default_factory=Rollout)
    rewards: Rewards = dataclasses.field(default_factory=Rewards)
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
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)


@dataclasses.dataclass
class PretrainConfig:
    """Supervised next-token training on worked answers: from scratch, or a cold start of `model.path`."""
    seed: int = 0
    steps: int = 1500
    batch_examples: int = 64       # worked answers an update
    empty_question_fraction: float = 0.0   # share of answers trained after the empty question (see sar_jax.prompts)
    log_every_steps: int = 50
    eval_batch: int = 128
    max_answer_tokens: int = 1024  # longer worked answers are left out, and counted; decoding limit of the evaluation
    model: Model = dataclasses.field(default_factory=Model)
    architecture: Architecture = dataclasses.field(default_factory=Architecture)   # used when model.path is empty
    data: Data = dataclasses.field(default_factory=Data)
    prompt: Prompt = dataclasses.field(default_factory=Prompt)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    packing: Packing = dataclasses.field(default_factory=Packing)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise UserError(message)


def _check_positive(config: Any, *paths: str) -> None:
    for path in paths:
        value = config
        for name in path.split("."):
            value = getattr(value, name)
        _require(value > 0, f"config.{path} is {value}: it must be greater than 0")


def _check_not_negative(config: Any, *paths: str) -> None:
    for path in paths:
        section, name = path.split(".")
        value = getattr(getattr(config, section), name)
        _require(value >= 0, f"config.{path} is {value}: it must not be negative")


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def check_prompt(prompt: Prompt) -> None:
    """Raises `UserError` where a field is not one of its choices."""
    for name, choices in _CHOICES.items():
        value = getattr(prompt, name)
        _require(value in choices, f"config.prompt.{name} is {value!r}: it must be one of {', '.join(choices)}")


def _check_shared(config: Any, max_answer_tokens: int, limit_name: str) -> None:
    """What training and pretraining have in common; `limit_name`: the field of the answer limit."""
    _check_positive(config, "steps", "data.max_prompt_tokens", "data.eval_questions", "optimizer.lr",
                    "optimizer.clip_norm", "packing.row_tokens", "packing.rows_per_microbatch", "packing.logprob_chunk")
    _require(config.data.train != "", "config.data.train is empty: give 'arithmetic' or the path of a JSONL file")
    _require(config.model.dtype in ("float32", "bfloat16"),
             f"config.model.dtype is {config.model.dtype!r}: it must be 'float32' or 'bfloat16'")
    _require(config.optimizer.mu_dtype in ("float32", "bfloat16"),
             f"config.optimizer.mu_dtype is {config.optimizer.mu_dtype!r}: it must be 'float32' or 'bfloat16'")
    _require(config.model.attention in ("auto", "xla", "splash"),
             f"config.model.attention is {config.model.attention!r}: it must be 'auto', 'xla' or 'splash'")
    check_prompt(config.prompt)
    for path, value in _leaves(config):
        _require(not isinstance(value, float) or math.isfinite(value), f"config.{path} is {value}: it must be finite")
    _require(0 <= config.seed < 2**32, f"config.seed is {config.seed}: it must lie in [0, 2**32)")
    for name in ("b1", "b2"):
        value = getattr(config.optimizer, name)
        _require(0 <= value < 1, f"config.optimizer.{name} is {value}: it must lie in [0, 1)")
    _check_not_negative(config, "optimizer.warmup_updates", "optimizer.weight_decay")
    _require(0 <= config.optimizer.final_lr_fraction <= 1,
             f"config.optimizer.final_lr_fraction is {config.optimizer.final_lr_fraction}: it must lie in [0, 1]")
    longest = config.data.max_prompt_tokens + max_answer_tokens
    _require(config.packing.row_tokens >= longest,
             f"config.packing.row_tokens is {config.packing.row_tokens}: a row must hold the longest sequence, "
             f"data.max_prompt_tokens + {limit_name} = {longest}")


def _check_advantage(config: TrainConfig) -> None:
    for section, name, choices in (("advantage", "estimator", ("group", "critic")),
                                   ("loss", "average", ("limit", "tokens"))):
        value = getattr(getattr(config, section), name)
        _require(value in choices, f"config.{section}.{name} is {value!r}: it must be one of {', '.join(choices)}")
    for name in ("gamma", "lam"):
        value = getattr(config.advantage, name)
        _require(0 <= value <= 1, f"config.advantage.{name} is {value}: it must lie in [0, 1]")
    _check_positive(config, "critic.lr", "critic.value_clip", "lora.alpha")
    _require(config.lora.rank == 0 or not config.model.offload_reference,
             "config.model.offload_reference is true with config.lora.rank > 0: the reference is the frozen base, which the "
             "policy needs on the devices anyway; leave it false")
    _check_not_negative(config, "lora.rank", "advantage.kl_penalty", "critic.warmup_steps")


def needs_reference(config: TrainConfig) -> bool:
    """Is anything compared with the initial policy?"""
    return config.loss.kl != 0 or config.advantage.kl_penalty != 0


def check(config: TrainConfig) -> None:
    """Raises `UserError` that names the first field of a training config that cannot work."""
    _check_positive(config, "rollout.questions", "rollout.samples", "rollout.batch", "rollout.max_answer_tokens",
                    "loss.minibatch_questions", "loss.dual_clip", "evaluation.every_steps", "evaluation.batch",
                    "logging.samples_every_steps", "checkpoint.every_steps", "checkpoint.keep",
                    "verification.workers", "verification.timeout")
    _require(0 <= config.verification.max_error_share <= 1,
             f"config.verification.max_error_share is {config.verification.max_error_share}: it must lie in [0, 1]")
    _check_shared(config, config.rollout.max_answer_tokens, "rollout.max_answer_tokens")
    _require(config.model.path != "", "config.model.path is empty: give the folder of a Hugging Face model, or its hub id")
    _require(config.rollout.questions % config.loss.minibatch_questions == 0,
             f"config.loss.minibatch_questions is {config.loss.minibatch_questions}: it must divide "
             f"rollout.questions ({config.rollout.questions})")
    _require(config.rollout.questions % config.rollout.batch == 0,
             f"config.rollout.batch is {config.rollout.batch}: it must divide rollout.questions "
             f"({config.rollout.questions})")
    _require(config.loss.dual_clip > 1, f"config.loss.dual_clip is {config.loss.dual_clip}: it must be greater than 1")
    _check_advantage(config)
    _require(any(dataclasses.asdict(config.rewards).values()), "config.rewards: every weight is 0, nothing to learn")
    _require(config.rollout.tensor == -1 or config.rollout.tensor > 0,
             f"config.rollout.tensor is {config.rollout.tensor}: it must be greater than 0, or -1")
    _require(config.profile_steps >= 0, f"config.profile_steps is {config.profile_steps}: it must not be negative")
    _check_not_negative(config, "rollout.refill_rounds", "loss.kl", "loss.clip_low", "loss.clip_high",
                        "logging.samples_shown")


def check_pretrain(config: PretrainConfig) -> None:
    """Raises `UserError` that names the first field of a pretraining config that cannot work."""
    _check_positive(config, "batch_examples", "log_every_steps", "eval_batch", "max_answer_tokens")
    _check_shared(config, config.max_answer_tokens, "max_answer_tokens")
    _require(0 <= config.empty_question_fraction < 1,
             f"config.empty_question_fraction is {config.empty_question_fraction}: it must lie in [0, 1)")


def max_length(config: TrainConfig) -> int:
    """The longest sequence of a run, in tokens."""
    return config.data.max_prompt_tokens + config.rollout.max_answer_tokens


def warnings(config: TrainConfig) -> list[str]:
    """What works but is known to end badly; shown before training starts."""
    weights = dataclasses.asdict(config.rewards)
    found = []
    if weights["verifiable"] == 0 and weights["self_aligned"] != 0:
        found.append(
            "rewards.verifiable is 0: the self-aligned reward alone does not know right from wrong and collapses "
            "(Qwen3-4B in the paper's ablation: accuracy 53 -> 21 %, 765 -> 84 tokens). Keep a verifiable reward.")
    if config.rollout.samples == 1 and config.advantage.estimator == "group":
        found.append("rollout.samples is 1: the advantage is the reward minus the group's mean, so it is always 0.")
    return found


def to_json(config: Any) -> str:
    """The config as it is kept in a workdir: one JSON object, indented."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_dict(cls: type, fields: dict[str, Any]) -> Any:
    """The inverse of `dataclasses.asdict` for the classes above; unknown fields raise `UserError`."""
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = set(fields) - set(known)
    _require(not unknown, f"unknown config field(s): {', '.join(sorted(unknown))}")
    values = {name: from_dict(known[name].type, v) if isinstance(v, dict) else v for name, v in fields.items()}
    return cls(**values)
