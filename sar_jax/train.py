"""Reinforcement learning with the self-aligned reward.

    python -m sar_jax.train --config=configs/tiny.py [--config.any.field=value] [--workdir=DIR]

    load model, data, checkpoint
    evaluate                              before the first step, every `evaluation.every_steps`, after the last
    for each step:
        experience  collect(...)          questions, sample, score, verify, reward     (sar_jax.experience)
        state       update(...)           once for each mini-batch          (sar_jax.learner)
        metrics, samples, checkpoint
    table before -> after

Restart with the same --workdir to resume: nothing is replayed or skipped. Ctrl-C (or SIGTERM) saves and exits.
On several hosts start the same command on each (docs/tpu.md); the first one writes and speaks.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from etils import epath
from rich.console import Console
from tqdm import tqdm

from sar_jax import cli, experience, generate, losses, multihost, screen, sharding
from sar_jax import config as config_lib
from sar_jax import metrics as metrics_lib
from sar_jax.experience import Minibatch
from sar_jax.learner import States
from sar_jax.run import Run, setup

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's files go; an interrupted run there is resumed. "
                               "Default: a new folder under runs/.")


class _Stop:
    """Set by the first Ctrl-C or SIGTERM, of any process; a second Ctrl-C ends at once."""

    def __init__(self):
        self.heard = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number, frame):
        self.heard = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, b"\nstopping after this step; the run will be saved (Ctrl-C again to stop at once, unsaved)\n")

    def asked(self) -> bool:
        """The same answer on every process."""
        return any(multihost.gather(self.heard))


def train_step(run: Run, states: States, iterator: Any, step: int) -> tuple[States, dict[str, float], list[dict[str, Any]]]:
    """One step: new states, metrics, and the sampled answers."""
    start = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(run.config.seed), step)
    exp = experience.collect(run.tools, lambda: next(iterator), states.policy.params, run.reference, key,
                             states.critic and states.critic.params, run.alpha.of(step))
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
    metrics = exp.metrics | run.alpha.metrics(step) | found | {
        "skipped_updates": int(states.policy.skipped), "time/update": now - update_start, "time/step": now - start,
        "tokens_per_second": sum(m.tokens for m in exp.minibatches) / (now - start)}
    run.alpha.learn(exp.metrics)
    return states, metrics | _mfu(run, exp, now - start), exp.samples


def _learn_policy(run: Run, states: States, minibatches: list[Minibatch]) -> tuple[States, dict[str, float]]:
    """An update for each mini-batch."""
    config, state, collected = run.config, states.policy, []
    for minibatch in minibatches:
        batches = sharding.place(minibatch.microbatches, sharding.rows(run.tools.mesh))
        divisor = losses.DIVISORS[config.loss.average](minibatch.answers, minibatch.tokens, config.rollout.max_answer_tokens)
        state, found = run.update(state, batches, 1 / divisor, run.frozen)
        collected.append(found)
    return states._replace(policy=state), _update_metrics(collected, minibatches)


def _learn_values(run: Run, states: States, minibatches: list[Minibatch]) -> tuple[States, dict[str, float]]:
    """The same for the critic; metrics `value/...`."""
    state, collected = states.critic, []
    for minibatch in minibatches:
        batches = sharding.place(minibatch.values, sharding.rows(run.tools.mesh))
        state, found = run.critic.update(state, batches, 1 / max(minibatch.tokens, 1))
        collected.append(found)
    metrics = _update_metrics(collected, minibatches)
    return states._replace(critic=state), {f"value/{name}": value for name, value in metrics.items()}


def _update_metrics(collected: list[dict[str, Any]], minibatches: list[Minibatch]) -> dict[str, float]:
    """Means over the step's updates; all but loss and grad_norm are sums over tokens, divided by the mini-batch's tokens."""
    collected = jax.device_get(collected)
    plain = {name: [float(c[name]) for c in collected] for name in ("loss", "grad_norm")}
    per_token = {name: [float(c[name]) / max(m.tokens, 1) for c, m in zip(collected, minibatches)]
                 for name in collected[0] if name not in plain}
    return {name: float(np.mean(values)) for name, values in (per_token | plain).items()}


def _mfu(run: Run, exp: experience.Experience, seconds: float) -> dict[str, float]:
    """Model flops utilisation where the device's peak is known: 2 flops a parameter and token forward, 6 with backward."""
    peak = metrics_lib.PEAK_FLOPS.get(jax.devices()[0].device_kind)
    if peak is None:
        return {}
    config = run.config
    answers = sum(m.tokens for m in exp.minibatches)
    whole = sum(int((b.packed.segment_ids > 0).sum()) for m in exp.minibatches for b in m.microbatches)
    alone = answers + len(run.tools.prompter.standalone) * config.rollout.questions * config.rollout.samples
    sampled = answers + (whole - answers) // config.rollout.samples   # a question is read once
    forward = sampled + whole * (1 if run.reference is None else 2) + alone * bool(config.rewards.self_aligned)
    learning = 4 if run.frozen else 6   # frozen weights have no gradient of their own
    return {"mfu": (2 * forward + learning * whole) * run.num_params / seconds / peak / jax.device_count()}


def evaluation(run: Run, states: States, step: int) -> dict[str, float]:
    """Greedy evaluation as metrics `eval/...`; the answers go to samples/."""
    if not run.eval_rows:
        return {}
    result, found = generate.greedy_evaluation(
        run.greedy, run.tools.hand_over(states.policy.params), run.eval_rows, run.config.evaluation.batch,
        run.config.data.max_prompt_tokens, run.tools.prompter.tokenizer, run.tools.verifier)
    run.metrics.write_samples(step, found, "eval")
    tqdm.write(f"evaluation at step {step}: {screen.one_line(result)}")
    return {f"eval/{name}": value for name, value in dataclasses.asdict(result).items() if value is not None}


def loop(run: Run, states: States, iterator: Any, step: int) -> int:
    """Steps until the end or until asked to stop; returns the exit status."""
    stop, config, compilations = _Stop(), run.config, metrics_lib.CompileCounter()
    with jax.set_mesh(run.tools.mesh):
        if step == 0:
            metrics = evaluation(run, states, 0)
            run.metrics.write(0, metrics | screen.alarm(0, run.watch, metrics))
        bar = tqdm(total=config.steps, initial=step, unit="step", disable=None, file=sys.stdout)
        profile, asked = metrics_lib.Profile(run.workdir, config.profile_steps), stop.asked()
        while step < config.steps and not asked:
            step += 1
            with profile.step(step):
                states, metrics, samples = train_step(run, states, iterator, step)
            last, asked = step == config.steps, stop.asked()
            if last or step % config.evaluation.every_steps == 0 and not asked:   # asked to stop: save first
                metrics |= evaluation(run, states, step)
            metrics["compilations"] = compilations.since_last()
            metrics |= screen.alarm(step, run.watch, metrics)
            run.metrics.write(step, metrics, [s["length"] for s in samples])
            if step % config.logging.samples_every_steps == 0 or step == 1 or last:
                run.metrics.write_samples(step, samples)
                screen.show_samples(step, samples[:config.logging.samples_shown])
            if step % config.checkpoint.every_steps == 0 or last or asked:
                run.checkpoints.save(step, states, iterator, run.questions, run.alpha.saved)
            screen.progress(bar, step, metrics)
        bar.close()
    if step == 0:
        print("stopped before the first step: there is nothing to save yet")
        return 130
    run.checkpoints.save(step, states, iterator, run.questions, run.alpha.saved)   # does nothing where it stands already
    run.checkpoints.wait()
    if step < config.steps:
        print(f"stopped and saved at step {step} of {config.steps}. To go on, run the same command with "
              f"--workdir={run.workdir}")
        return 130
    screen.print_summary(Console(), run.metrics.read(), run.workdir)
    return 0


def main(get_config) -> int:
    config = get_config()
    config_lib.check(config)
    multihost.initialize()
    if not multihost.is_first():
        sys.stdout = open(os.devnull, "w")   # the first process speaks for all; errors go to stderr
    workdir = epath.Path(multihost.gather(_WORKDIR.value or f"runs/{time.strftime('%Y%m%d-%H%M%S')}")[0])
    several = f"s of {jax.process_count()} processes" if jax.process_count() > 1 else "(s)"
    print(f"sar_jax.train on {jax.device_count()} {jax.devices()[0].device_kind} device{several}, workdir {workdir}",
          flush=True)
    for warning in config_lib.warnings(config):
        print(f"warning: {warning}", flush=True)
    run, states, iterator, step = setup(config, workdir)
    with contextlib.ExitStack() as stack:
        stack.callback(run.checkpoints.close)
        stack.callback(run.metrics.close)
        stack.callback(run.tools.verifier.close)
        try:
            return loop(run, states, iterator, step)
        except jax.errors.JaxRuntimeError as error:
            multihost.blame(error)
            raise


if __name__ == "__main__":
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
