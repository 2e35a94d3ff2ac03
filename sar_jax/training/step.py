"""One step of a run, and one evaluation.

experience   collect(...)     questions, sample, score, verify, reward
state        update(...)      once for each mini-batch; the critic first, where there is one
metrics      of both, times, mfu
"""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from sar_jax.evaluation import judged
from sar_jax.parallel import chips, sharding
from sar_jax.rl import gap, losses
from sar_jax.training import experience, passes
from sar_jax.training.learner import States
from sar_jax.training.minibatches import Minibatch
from sar_jax.training.reporting import heatmaps, screen
from sar_jax.training.reporting.live import Screen
from sar_jax.training.setup import Run


class Stepped(NamedTuple):
    """The states after a step, its metrics, one record an answer, and what was learnt from."""

    states: States
    metrics: dict[str, float]
    records: list[dict[str, Any]]
    minibatches: list[Minibatch]


class _Learned(NamedTuple):
    """A state after its updates, and their metrics."""

    state: Any
    metrics: dict[str, float]


def train_step(run: Run, states: States, iterator: Any, step: int, told: Screen) -> Stepped:
    """One step. iterator: of this process's questions; step: its number, from 1."""
    start = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(run.config.seed), step)
    scored = run.gap.scores(step)
    exp = experience.collect(
        run.tools,
        lambda: next(iterator),
        states.policy.params,
        run.reference,
        key,
        states.critic and states.critic.params,
        run.alpha.of(step),
        told.begin,
        scored,
    )
    if run.gap.learn(exp.metrics):
        print(
            f"loss.old_logps=sampled is given up: the sampler's logprobs are {gap.LIMIT} nats a "
            "token or more from the scored ones",
            flush=True,
        )
    told.begin("update")
    update_start = time.perf_counter()
    metrics: dict[str, float] = {}
    if states.critic is not None:
        critic = _learn_values(run, states.critic, exp.minibatches)
        states = states._replace(critic=critic.state)
        metrics |= critic.metrics
        metrics["time/critic_update"] = time.perf_counter() - update_start
        update_start = time.perf_counter()
    learns = states.critic is None or step > run.config.critic.warmup_steps
    if learns:
        policy = _learn_policy(run, states.policy, exp.minibatches)
        states = states._replace(policy=policy.state)
        metrics |= policy.metrics
    now = time.perf_counter()
    metrics = exp.metrics | run.alpha.metrics(step) | metrics
    metrics["skipped_updates"] = int(states.policy.skipped)
    metrics["time/update"] = now - update_start
    metrics["time/step"] = now - start
    metrics["tokens_per_second"] = sum(m.tokens for m in exp.minibatches) / (now - start)
    run.alpha.learn(exp.metrics)
    peak = chips.peak_flops(jax.devices())
    if peak is not None:
        made = passes.of_run(run, scored, learns)
        spent = passes.model_flops(run.assembly.base.cfg, made, exp.sampled, exp.trained)
        metrics["mfu"] = spent / (now - start) / peak / jax.device_count()
    return Stepped(states, metrics, exp.records, exp.minibatches)


def _learn_policy(run: Run, state: Any, minibatches: list[Minibatch]) -> _Learned:
    """An update for each mini-batch."""
    config, collected = run.config, []
    limit = config.rollout.max_answer_tokens
    for minibatch in minibatches:
        batches = sharding.place(minibatch.microbatches, sharding.by_rows(run.tools.mesh))
        divide = losses.DIVISORS[config.loss.average]
        divisor = divide(minibatch.answers, minibatch.tokens, limit)
        state, found = run.assembly.update(state, batches, 1 / divisor, run.frozen)
        collected.append(found)
    return _Learned(state, _update_metrics(collected, minibatches))


def _learn_values(run: Run, state: Any, minibatches: list[Minibatch]) -> _Learned:
    """The same for the critic; metrics `value/...`."""
    collected = []
    for minibatch in minibatches:
        batches = sharding.place(minibatch.values, sharding.by_rows(run.tools.mesh))
        scale = 1 / max(minibatch.tokens, 1)
        state, found = run.assembly.critic.update(state, batches, scale)
        collected.append(found)
    metrics = _update_metrics(collected, minibatches)
    return _Learned(state, {f"value/{name}": value for name, value in metrics.items()})


def _update_metrics(
    collected: list[dict[str, Any]], minibatches: list[Minibatch]
) -> dict[str, float]:
    """Means over the step's updates.

    All but loss and grad_norm are sums over tokens, divided by the mini-batch's tokens.
    """
    collected = jax.device_get(collected)
    found = {}
    for name in collected[0]:
        final = name in ("loss", "grad_norm")
        divisors = [1 if final else max(m.tokens, 1) for m in minibatches]
        values = [float(update[name]) / n for update, n in zip(collected, divisors)]
        found[name] = float(np.mean(values))
    return {name: found[name] for name in sorted(found, key=("loss", "grad_norm").__contains__)}


def evaluation(run: Run, states: States, step: int, told: Screen) -> dict[str, float]:
    """Greedy evaluation as metrics `eval/...`; the answers go to samples/."""
    if not run.eval_rows:
        return {}
    config, tools = run.config, run.tools
    told.begin("evaluation")
    decoder = judged.Decoder(
        run.greedy,
        samples=1,
        batch=config.evaluation.batch,
        width=config.data.max_prompt_tokens,
        tokenizer=tools.prompter.tokenizer,
        verifier=tools.verifier,
        prefix=config.prompt.assistant_prefix,
    )
    count = len(run.eval_rows)
    seen = lambda done: told.detail(f"{done} of {count} questions")
    policy = states.policy.params
    # The weights for decoding are gone before those for scoring are made.
    evaluate = judged.greedy_evaluation
    result, found = evaluate(decoder, tools.decoding_weights(policy), run.eval_rows, seen)
    shown = found[: config.evaluation.heat_maps]
    questions = [run.eval_rows[answer.number] for answer in shown]
    maps = heatmaps.heat_maps(tools, tools.scoring_weights(policy), questions, shown)
    run.metrics.write_samples(step, heatmaps.records(found, maps), "eval")
    print(f"evaluation at step {step}: {screen.one_line(result)}", flush=True)
    values = dataclasses.asdict(result).items()
    return {f"eval/{name}": value for name, value in values if value is not None}
