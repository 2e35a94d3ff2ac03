"""The same with Tunix: its model, logprobs, GRPO loss and sampler.

python -m peers.with_tunix WORK_AS_JSON
"""

import json
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.generate import sampler as sampler_lib
from tunix.models.qwen3 import model as model_lib
from tunix.models.qwen3 import params as params_lib
from tunix.rl import common, function_registry
from tunix.rl.grpo import grpo_learner

from peers import meter
from peers import work as work_lib
from peers.work import Work


def load(work: Work) -> tuple[nnx.Module, model_lib.ModelConfig]:
    """The model of the work's folder, a Qwen3 with tied embeddings."""
    raw = json.loads((pathlib.Path(work.model) / "config.json").read_text())
    recompute = model_lib.RematConfig.BLOCK if work.recomputes else model_lib.RematConfig.NONE
    dtype = getattr(jnp, work.dtype)
    fields = dict(
        num_layers=raw["num_hidden_layers"],
        vocab_size=raw["vocab_size"],
        embed_dim=raw["hidden_size"],
        hidden_dim=raw["intermediate_size"],
        num_heads=raw["num_attention_heads"],
        head_dim=raw["head_dim"],
        num_kv_heads=raw["num_key_value_heads"],
        rope_theta=int(raw["rope_theta"]),
        norm_eps=raw["rms_norm_eps"],
        use_tied_embedding=True,
        remat_config=recompute,
    )
    names = model_lib.ModelConfig.__dataclass_fields__
    fields |= {name: dtype for name in ("dtype", "param_dtype") if name in names}
    cfg = model_lib.ModelConfig(**fields)
    return params_lib.create_model_from_safe_tensors(work.model, cfg, mesh=None, dtype=dtype), cfg


class Words:
    """A tokenizer whose words are token ids, as the sampler needs one; no token ends an answer."""

    def __init__(self, never: int):
        self.never = never

    def encode(self, text: str, **_) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids, **_) -> str:
        return " ".join(str(int(i)) for i in ids)

    def bos_id(self) -> int:
        return 0

    def eos_id(self) -> int:
        return self.never

    def pad_id(self) -> int:
        return 0

    def dedup_bos_ids(self, ids: list[int]) -> list[int]:
        return ids


class Program:
    """A model, its optimizer and the work's rows."""

    def __init__(self, work: Work):
        self.work = work
        self.model, self.cfg = load(work)
        self.never = self.cfg.vocab_size + 7  # a token that is not there
        rows = work_lib.padded(work, self.cfg.vocab_size)
        self.count = len(rows.answers)
        self.rows = jax.tree.map(jnp.asarray, rows)
        self.advantages = jnp.asarray(work_lib.advantages(work))
        self.calls = 0
        if work.task in ("update", "step"):
            self._prepare_updates()
        if work.task == "rollout":
            self._prepare_sampler()

    def _prepare_updates(self) -> None:
        micro = self.work.minibatch * self.work.samples // self.work.rows
        optimizer = optax.adamw(
            work_lib.LEARNING_RATE, b2=0.999, weight_decay=work_lib.WEIGHT_DECAY
        )
        if micro > 1:
            optimizer = optax.MultiSteps(optimizer, micro)
        self.optimizer = nnx.Optimizer(self.model, optimizer, wrt=nnx.Param)
        loss_fn = function_registry.get_policy_loss_fn("grpo")
        algorithm = grpo_learner.GRPOConfig(
            num_generations=self.work.samples,
            beta=work_lib.KL,
            kl_loss_mode="low_var_kl",
            epsilon=work_lib.CLIP,
        )
        algorithm.temperature = 1.0  # which the loss reads, and the config lacks

        def loss_of(model, example):
            found = loss_fn(model, example, algo_config=algorithm, pad_id=0, eos_id=self.never)
            return found[0] if isinstance(found, tuple) else found.primary_loss.unreduced_sum

        @nnx.jit(donate_argnames=("optimizer",))
        def step(model, optimizer, example):
            loss, gradient = nnx.value_and_grad(loss_of)(model, example)
            optimizer.update(model, gradient)
            return loss, optax.global_norm(gradient)

        self.step = step

    def _prepare_sampler(self) -> None:
        P, A = self.work.widths
        cache = sampler_lib.CacheConfig(
            cache_size=P + A,
            num_layers=self.cfg.num_layers,
            num_kv_heads=self.cfg.num_kv_heads,
            head_dim=self.cfg.head_dim,
        )
        words = Words(self.never)
        self.sampler = sampler_lib.Sampler(self.model, words, cache)
        self.texts = [words.decode(row) for row in np.asarray(self.rows.prompts)]

    def part(self, start: int, size: int) -> work_lib.Padded:
        """Rows that are computed at once."""
        return jax.tree.map(lambda x: x[start : start + size], self.rows)

    def score(self) -> float:
        """The sum of all logprobs, in nats."""
        total, size = 0.0, self.work.rows
        graphdef, state = nnx.split(self.model)
        for start in range(0, self.count, size):
            part = self.part(start, size)
            found = common.compute_per_token_logps(
                graphdef,
                state,
                prompt_tokens=part.prompts,
                completion_tokens=part.answers,
                pad_id=0,
                eos_id=self.never,
            )
            found = found[0] if isinstance(found, tuple) else found
            total += float((found * part.answer_mask).sum())
        return total

    def update(self) -> float:
        """Every update of the rows; returns the last micro-batch's loss."""
        names = common.TrainExample.__dataclass_fields__
        size = self.work.rows
        for start in range(0, self.count, size):
            part = self.part(start, size)
            fields = dict(
                prompt_ids=part.prompts,
                prompt_mask=part.prompt_mask,
                completion_ids=part.answers,
                completion_mask=part.answer_mask,
                advantages=self.advantages[start : start + size],
                ref_per_token_logps=jnp.full(part.answers.shape, work_lib.REFERENCE_LOGP),
                old_per_token_logps=None,
            )
            example = common.TrainExample(**{k: v for k, v in fields.items() if k in names})
            loss, norm = self.step(self.model, self.optimizer, example)
        jax.block_until_ready((norm, nnx.state(self.model, nnx.Param)))
        return float(loss)

    def rollout(self) -> float:
        """Answers to every prompt; returns their tokens."""
        self.calls += 1
        P, A = self.work.widths
        found = self.sampler(
            self.texts,
            max_generation_steps=A,
            max_prompt_length=P,
            temperature=1.0,
            top_p=1.0,
            seed=self.calls,
            eos_tokens=[self.never],
        )
        return float(sum(len(tokens) for tokens in found.tokens))

    def __call__(self) -> float:
        """The task; returns the sum of logprobs, or the loss or tokens where nothing else is
        done."""
        if self.work.task == "step":
            total = self.score()
            self.update()
            return total
        return {"score": self.score, "update": self.update, "rollout": self.rollout}[
            self.work.task
        ]()


def main() -> None:
    output, work = meter.channel(), Work.from_json(sys.argv[1])
    call: Callable[[], float] = Program(work)
    device = jax.devices()[0]
    meter.serve(output, call, work.warm_ups, device.device_kind, meter.of_jax(device))


if __name__ == "__main__":
    main()
