"""One step of a run, and one evaluation."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from sar_jax.evaluation import judged
from sar_jax.parallel import sharding
from sar_jax.rl import losses
from sar_jax.training import experience, screen
from sar_jax.training import metrics as metrics_lib
from sar_jax.training.experience import Minibatch
from sar_jax.training.learner import States
from sar_jax.training.setup import Run


def train_step(
    run: Run, states: States, iterator: Any, step: int
) -> tuple[States, dict[str, float], list[dict[str, Any]]]:
    """One step: new states, metrics, and the sampled answers."""
    start = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(run.config.seed), step)
    exp = experience.collect(
        run.tools,
        lambda: next(iterator),
        states.policy.params,
        run.reference,
        key,
        states.critic and states.critic.params,
        run.alpha.of(step),
    )
    update_start = time.perf_counter()
    found: dict[str, float] = {}
    if run.critic is not None:
        states, found = _learn_values(run, states, exp.minibatches)
        found["time/critic_update"] = time.perf_counter() - update_start
        update_start = time.perf_counter()
    if run.critic is None or step > run.config.critic.warmup_steps:
        states, metrics = _learn_policy(run, states, exp.minibatches)
        found |= metrics
    now = time.perf_counter()
    metrics = (
        exp.metrics
        | run.alpha.metrics(step)
        | found
        | {
            "skipped_updates": int(states.policy.skipped),
            "time/update": now - update_start,
            "time/step": now - start,
            "tokens_per_second": sum(m.tokens for m in exp.minibatches) / (now - start),
        }
    )
    run.alpha.learn(exp.metrics)
    return states, metrics | _mfu(run, exp, now - start), exp.samples


def _learn_policy(
    run: Run, states: States, minibatches: list[Minibatch]
) -> tuple[States, dict[str, float]]:
    """An update for each mini-batch."""
    config, state, collected = run.config, states.policy, []
    for minibatch in minibatches:
        batches = sharding.place(minibatch.microbatches, sharding.by_rows(run.tools.mesh))
        divisor = losses.DIVISORS[config.loss.average](
            minibatch.answers, minibatch.tokens, config.rollout.max_answer_tokens
        )
        state, found = run.update(state, batches, 1 / divisor, run.frozen)
        collected.append(found)
    return states._replace(policy=state), _update_metrics(collected, minibatches)


def _learn_values(
    run: Run, states: States, minibatches: list[Minibatch]
) -> tuple[States, dict[str, float]]:
    """The same for the critic; metrics `value/...`."""
    state, collected = states.critic, []
    for minibatch in minibatches:
        batches = sharding.place(minibatch.values, sharding.by_rows(run.tools.mesh))
        state, found = run.critic.update(state, batches, 1 / max(minibatch.tokens, 1))
        collected.append(found)
    metrics = _update_metrics(collected, minibatches)
    return states._replace(critic=state), {
        f"value/{name}": value for name, value in metrics.items()
    }


def _update_metrics(
    collected: list[dict[str, Any]], minibatches: list[Minibatch]
) -> dict[str, float]:
    """Means over the step's updates; all but loss and grad_norm are sums over tokens, divided by
    the mini-batch's tokens."""
    collected = jax.device_get(collected)
    plain = {name: [float(c[name]) for c in collected] for name in ("loss", "grad_norm")}
    per_token = {
        name: [float(c[name]) / max(m.tokens, 1) for c, m in zip(collected, minibatches)]
        for name in collected[0]
        if name not in plain
    }
    return {name: float(np.mean(values)) for name, values in (per_token | plain).items()}


def _mfu(run: Run, exp: experience.Experience, seconds: float) -> dict[str, float]:
    """Model flops utilisation where the device's peak is known: 2 flops a parameter and token
    forward, 6 with backward."""
    peak = metrics_lib.PEAK_FLOPS.get(jax.devices()[0].device_kind)
    if peak is None:
        return {}
    config = run.config
    answers = sum(m.tokens for m in exp.minibatches)
    whole = sum(
        int((b.packed.segment_ids > 0).sum()) for m in exp.minibatches for b in m.microbatches
    )
    alone = (
        answers
        + len(run.tools.prompter.standalone) * config.rollout.questions * config.rollout.samples
    )
    sampled = answers + (whole - answers) // config.rollout.samples  # a question is read once
    forward = (
        sampled
        + whole * (1 if run.reference is None else 2)
        + alone * bool(config.rewards.self_aligned)
    )
    learning = 4 if run.frozen else 6  # frozen weights have no gradient of their own
    return {
        "mfu": (2 * forward + learning * whole)
        * run.num_params
        / seconds
        / peak
        / jax.device_count()
    }


def evaluation(run: Run, states: States, step: int) -> dict[str, float]:
    """Greedy evaluation as metrics `eval/...`; the answers go to samples/."""
    if not run.eval_rows:
        return {}
    result, found = judged.greedy_evaluation(
        run.greedy,
        run.tools.hand_over(states.policy.params),
        run.eval_rows,
        run.config.evaluation.batch,
        run.config.data.max_prompt_tokens,
        run.tools.prompter.tokenizer,
        run.tools.verifier,
    )
    run.metrics.write_samples(step, found, "eval")
    tqdm.write(f"evaluation at step {step}: {screen.one_line(result)}")
    return {
        f"eval/{name}": value
        for name, value in dataclasses.asdict(result).items()
        if value is not None
    }
