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
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from etils import epath
from jax.sharding import Mesh
from rich.console import Console
from tqdm import tqdm

from sar_jax import (
    alpha,
    checkpoint,
    cli,
    data,
    download,
    experience,
    generate,
    guards,
    handover,
    hf,
    learner,
    losses,
    model,
    multihost,
    parameters,
    prompts,
    sample,
    score,
    screen,
    sharding,
)
from sar_jax import config as config_lib
from sar_jax import metrics as metrics_lib
from sar_jax.errors import UserError
from sar_jax.verifier import ErrorShare, Verifier

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's files go; an interrupted run there is resumed. "
                               "Default: a new folder under runs/.")


class Run(NamedTuple):
    """Everything that stays the same from step to step."""
    config: config_lib.TrainConfig
    workdir: epath.Path
    tools: experience.Tools
    update: Any
    greedy: Any
    eval_rows: list[data.Row]
    reference: Any | None
    checkpoints: checkpoint.Checkpoints
    metrics: metrics_lib.Metrics
    num_params: int
    questions: str          # fingerprint of the training data
    alpha: alpha.Weight     # of the self-aligned reward
    watch: guards.Watch


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


def setup(config: config_lib.TrainConfig, workdir: epath.Path) -> tuple[Run, learner.TrainState, Any, int]:
    """Loads everything. Returns the run, its state and data iterator, and the step that was reached (0 for a new run)."""
    multihost.first(lambda: checkpoint.check_workdir(workdir, config))
    folder = download.locate(config.model.path)
    cfg, tokenizer = hf.load_config(folder, config_lib.max_length(config)), prompts.load_tokenizer(folder)
    _check_length(config, cfg)
    mesh, decoding = _meshes(config, cfg)
    prompter = prompts.Prompter(tokenizer, config.prompt, hf.read_stop_ids(folder))
    train_rows, eval_rows = data.load(config.data, prompter)
    multihost.same(config_lib.to_json(config), "the command's options")
    questions = data.fingerprint(train_rows)
    multihost.same(questions, f"the questions of {config.data.train}")

    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    reference, fetch_reference = _load_reference(config, folder, cfg, shardings)
    updates = config.rollout.questions // config.loss.minibatch_questions
    optimizer = learner.make_optimizer(config.optimizer, config.steps * updates, parameters.decayed(cfg))
    described = learner.describe_state(parameters.describe_params(cfg, shardings), optimizer)
    processes = jax.process_count()
    iterator = data.batches(train_rows, config.rollout.questions // processes, config.seed, jax.process_index(), processes)
    multihost.first(lambda: checkpoint.claim(workdir, config))
    checkpoints = checkpoint.Checkpoints(workdir, config.checkpoint.keep)
    step = checkpoints.latest()
    if step is None:
        state = learner.init_state(hf.load_params(folder, cfg, shardings), optimizer)
    else:
        state = checkpoints.restore(step, described, iterator, questions)
        print(f"resumed at step {step} from {checkpoints.folder}")

    graphdef = model.build(cfg, config.model.dtype, config.model.remat,
                           model.pick_kernel(config.model.attention, mesh))
    rollout, chunk = config.rollout, config.packing.logprob_chunk
    tools = experience.Tools(
        sample.make_sample(graphdef, prompter.stops, rollout.samples, rollout.max_answer_tokens),
        score.make_score(graphdef, chunk), prompter, mesh, config,
        Verifier(config.verification.workers, config.verification.timeout),
        ErrorShare(config.verification.max_error_share, rollout.questions * rollout.samples // processes),
        handover.make_cast(cfg, mesh, config.model.dtype),
        handover.make_hand_over(cfg, mesh, decoding, config.model.dtype), fetch_reference, decoding)
    run = Run(
        config, workdir, tools,
        update=learner.make_update(described, optimizer, learner.make_policy_loss(graphdef, config.loss, chunk)),
        greedy=sample.make_sample(graphdef, prompter.stops, 1, rollout.max_answer_tokens, greedy=True),
        eval_rows=eval_rows, reference=reference, checkpoints=checkpoints,
        metrics=metrics_lib.Metrics(workdir, step, writes=multihost.is_first()),
        num_params=parameters.count_params(cfg), questions=questions,
        alpha=alpha.Weight(config, None if step is None else checkpoints.meta(step).get("alpha")),
        watch=guards.Watch(config.guards))
    run.watch.remember(run.metrics.read() if step else [])
    return run, state, iterator, step or 0


def _meshes(config: config_lib.TrainConfig, cfg: parameters.ModelConfig) -> tuple[Mesh, Mesh]:
    """The mesh of training and that of decoding. Raises `UserError` where the devices do not fit model or batches."""
    if config.rollout.questions % jax.process_count():
        raise UserError(f"config.rollout.questions is {config.rollout.questions}: it must be a multiple of the "
                        f"{jax.process_count()} processes")
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    sharding.check_tensor(mesh, cfg.num_kv_heads)
    sharding.check_rows(mesh, packing__rows_per_microbatch=config.packing.rows_per_microbatch)
    decoding = sharding.decoding_mesh(mesh, config.rollout.tensor, cfg.num_kv_heads)
    sharding.check_rows(decoding, rollout__batch=config.rollout.batch, evaluation__batch=config.evaluation.batch)
    return mesh, decoding


def _load_reference(config: config_lib.TrainConfig, folder: str, cfg: parameters.ModelConfig, shardings: Any,
                    ) -> tuple[Any, Callable[[Any], Any]]:
    """The frozen reference, None without a KL term; and what brings it to the devices where it waits in host memory."""
    if not config.loss.kl:
        return None, lambda reference: reference
    if not config.model.offload_reference:
        return hf.load_params(folder, cfg, shardings, config.model.dtype), lambda reference: reference
    on_host = jax.tree.map(lambda s: s.with_memory_kind("pinned_host"), shardings)
    return (hf.load_params(folder, cfg, on_host, config.model.dtype),
            lambda reference: jax.device_put(reference, shardings))


def _check_length(config: config_lib.TrainConfig, cfg: parameters.ModelConfig) -> None:
    longest = config_lib.max_length(config)
    if longest > cfg.max_positions:
        raise UserError(f"config.data.max_prompt_tokens + config.rollout.max_answer_tokens is {longest}: the model was made "
                        f"for {cfg.max_positions} positions (max_position_embeddings)")


def train_step(run: Run, state: learner.TrainState, iterator: Any, step: int,
               ) -> tuple[learner.TrainState, dict[str, float], list[dict[str, Any]]]:
    """One step: new state, metrics, and the sampled answers."""
    start = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(run.config.seed), step)
    exp = experience.collect(run.tools, lambda: next(iterator), state.params, run.reference, key, run.alpha.of(step))
    update_start = time.perf_counter()
    collected = []
    for minibatch in exp.minibatches:
        batches = sharding.place(minibatch.microbatches, sharding.rows(run.tools.mesh))
        scale = 1 / losses.DIVISORS[run.config.loss.average](minibatch.answers, minibatch.tokens,
                                                             run.config.rollout.max_answer_tokens)
        state, found = run.update(state, batches, scale)
        collected.append(found)
    collected = jax.device_get(collected)
    now = time.perf_counter()
    metrics = exp.metrics | run.alpha.metrics(step) | _update_metrics(collected, exp.minibatches) | {
        "skipped_updates": int(state.skipped), "time/update": now - update_start, "time/step": now - start,
        "tokens_per_second": sum(m.tokens for m in exp.minibatches) / (now - start)}
    run.alpha.learn(exp.metrics)
    return state, metrics | _mfu(run, exp, now - start), exp.samples


def _update_metrics(collected: list[dict[str, Any]], minibatches) -> dict[str, float]:
    """Means over the step's updates; the sums over tokens are divided by the mini-batch's tokens."""
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
    return {"mfu": (2 * forward + 6 * whole) * run.num_params / seconds / peak / jax.device_count()}


def evaluation(run: Run, state: learner.TrainState, step: int) -> dict[str, float]:
    """Greedy evaluation as metrics `eval/...`; the answers go to samples/."""
    if not run.eval_rows:
        return {}
    result, found = generate.greedy_evaluation(
        run.greedy, run.tools.hand_over(state.params), run.eval_rows, run.config.evaluation.batch,
        run.config.data.max_prompt_tokens, run.tools.prompter.tokenizer, run.tools.decoding, run.tools.verifier)
    run.metrics.write_samples(step, found, "eval")
    tqdm.write(f"evaluation at step {step}: {screen.one_line(result)}")
    return {f"eval/{name}": value for name, value in dataclasses.asdict(result).items() if value is not None}


def loop(run: Run, state: learner.TrainState, iterator: Any, step: int) -> int:
    """Steps until the end or until asked to stop; returns the exit status."""
    stop, config, compilations = _Stop(), run.config, metrics_lib.CompileCounter()
    with jax.set_mesh(run.tools.mesh):
        if step == 0:
            metrics = evaluation(run, state, 0)
            run.metrics.write(0, metrics | screen.alarm(0, run.watch, metrics))
        bar = tqdm(total=config.steps, initial=step, unit="step", disable=None, file=sys.stdout)
        profile, asked = metrics_lib.Profile(run.workdir, config.profile_steps), stop.asked()
        while step < config.steps and not asked:
            step += 1
            with profile.step(step):
                state, metrics, samples = train_step(run, state, iterator, step)
            last, asked = step == config.steps, stop.asked()
            if last or step % config.evaluation.every_steps == 0 and not asked:   # asked to stop: save first
                metrics |= evaluation(run, state, step)
            metrics["compilations"] = compilations.since_last()
            metrics |= screen.alarm(step, run.watch, metrics)
            run.metrics.write(step, metrics)
            if step % config.logging.samples_every_steps == 0 or step == 1 or last:
                run.metrics.write_samples(step, samples)
                screen.show_samples(step, samples[:config.logging.samples_shown])
            if step % config.checkpoint.every_steps == 0 or last or asked:
                run.checkpoints.save(step, state, iterator, run.questions, run.alpha.saved)
            screen.progress(bar, step, metrics)
        bar.close()
    if step == 0:
        print("stopped before the first step: there is nothing to save yet")
        return 130
    run.checkpoints.save(step, state, iterator, run.questions, run.alpha.saved)   # does nothing where it stands already
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
    run, state, iterator, step = setup(config, workdir)
    with contextlib.ExitStack() as stack:
        stack.callback(run.checkpoints.close)
        stack.callback(run.metrics.close)
        stack.callback(run.tools.verifier.close)
        try:
            return loop(run, state, iterator, step)
        except jax.errors.JaxRuntimeError as error:
            multihost.blame(error)
            raise


if __name__ == "__main__":
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
