"""A run from its first step to its last, or until it is asked to stop.

setup      model, data, checkpoint                                       (training.setup)
evaluate   first, every `evaluation.every_steps`, and at the end
for each step:
    experience  collect(...)     questions, sample, score, verify, reward (training.experience)
    state       update(...)      once for each mini-batch                 (training.learner)
    metrics, samples, checkpoint
table before -> after
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from rich.console import Console

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.parallel import memory, multihost
from sar_jax.rl import alarms
from sar_jax.training import warmed
from sar_jax.training.commands import reported
from sar_jax.training.minibatches import Minibatch
from sar_jax.training.reporting import heatmaps, live, loggers, screen
from sar_jax.training.reporting import metrics as metrics_lib
from sar_jax.training.settings import checks, derived
from sar_jax.training.setup import Run, Started, setup
from sar_jax.training.step import States, evaluation, train_step
from sar_jax.training.stopping import Control, Stop
from sar_jax.training.storage.lock import Lock


def run(
    config: config_lib.TrainConfig,
    workdir: epath.Path,
    extend: bool = False,
    control: Control | None = None,
) -> int:
    """Trains to the end, or until asked to stop; returns the exit status of the command.

    workdir   of the run: a new folder, or that of a run to resume
    extend    see `workdir.check`
    control   who may stop it, and is told what did; by default signals alone

    Signal handlers stay as the run has set them. Raises `UserError` for what is wrong with the
    options, the files or the devices.
    """
    multihost.first(lambda: loggers.check(config))
    for warning in checks.warnings(config):
        print(f"warning: {warning}", flush=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(Lock(workdir))
        try:
            started = setup(config, workdir, lock, extend)
            multihost.first(lambda: reported.note_machine(workdir))
            for part in (
                started.run.checkpoints,
                started.run.metrics,
                started.run.tools.verifier,
            ):
                stack.callback(part.close)
            return loop(started, control or Control())
        except Exception as error:
            memory.check(error, config)
            multihost.blame(error)
            raise


def loop(started: Started, control: Control) -> int:
    """Steps until the end or until asked to stop; returns the exit status."""
    run, config = started.run, started.run.config
    programs = run.assembly.programs(config)
    with live.Screen(started.step, config.steps, programs) as told, jax.set_mesh(run.tools.mesh):
        step = steps(started, told, control)
    if step == 0:
        print("stopped before the first step: there is nothing to save yet")
        return 130
    multihost.first(lambda: reported.write(run.workdir))
    if step < config.steps:
        print(
            f"stopped and saved at step {step} of {config.steps}. To continue, "
            f"{control.again.format(run.workdir)}"
        )
        return 130
    run.metrics.finish()
    screen.print_summary(Console(), run.metrics.read(), run.workdir)
    return 0


def steps(started: Started, told: live.Screen, control: Control) -> int:
    """Goes on until the end or until asked to stop; returns the last step, which is saved."""
    run, states, iterator, step = started
    stop, config, compilations = Stop(told.tell, control), run.config, metrics_lib.CompileCounter()

    def save(last: bool) -> None:
        told.begin("save")
        run.checkpoints.save(step, states, iterator, run.alpha.saved, last)

    if step == 0:
        metrics = evaluation(run, states, 0, told)
        run.metrics.write(0, metrics | screen.alarm(0, run.watch, metrics, run.metrics.alert))
    elif is_evaluation_owed(run, step):
        make_up_evaluation(run, states, step, told)
    profile, asked = metrics_lib.Profile(run.workdir, config.profile_steps), stop.asked()
    if step < config.steps and not asked:
        warmed.warm(run, states)
    while step < config.steps and not asked:
        before = iterator.get_state()
        try:
            with profile.step(step + 1):
                stepped = train_step(run, states, iterator, step + 1, told)
        except UserError as error:  # before the update: the states are those of the last step
            iterator.set_state(before)
            raise _kept(error, step, lambda: save(last=True)) from None
        step += 1
        states, metrics, samples, learnt = stepped
        last, asked = step == config.steps, stop.asked()
        due = step % config.evaluation.every_steps == 0
        if last or due and not asked:  # asked to stop: save first, a resumed run makes it up
            metrics |= evaluation(run, states, step, told)
        told.begin("save")
        metrics["compilations"] = compilations.since_last()
        metrics |= screen.alarm(step, run.watch, metrics, run.metrics.alert)
        run.metrics.write(step, metrics, [s["length"] for s in samples])
        stop_if_nothing_is_learnt(run, step, samples, learnt)
        if step % config.logging.samples_every_steps == 0 or step == 1 or last:
            readable = heatmaps.readable(run.tools.prompter.tokenizer, samples)
            run.metrics.write_samples(step, readable)
            screen.show_samples(step, samples[: config.logging.samples_shown])
        asked = control.tell(step, metrics) or asked
        failed = any(multihost.gather(run.checkpoints.has_failed()))
        if step % config.checkpoint.every_steps == 0 or last or asked or failed:
            save(last=False)
        told.stepped(step, metrics)
    if step:
        save(last=True)  # waits; does nothing where the checkpoint is there already
    return step


def _kept(error: UserError, step: int, save: Callable[[], None]) -> UserError:
    """The error of a step that could not be made, once what was before it is saved."""
    if step == 0:
        return error
    save()
    return UserError(
        f"{error}. The run is saved at step {step}: once this is mended, the same command continues"
    )


def is_evaluation_owed(run: Run, step: int) -> bool:
    """Did the run stop at this step, which is due for an evaluation, before it?"""
    if step % run.config.evaluation.every_steps or not run.eval_rows:
        return False
    line = run.watch.lines[-1] if run.watch.lines else {}
    is_owed = line.get("step") == step and "eval/accuracy" not in line
    return multihost.gather(is_owed)[0]


def make_up_evaluation(run: Run, states: States, step: int, told: live.Screen) -> None:
    """Evaluates, and writes the last step's line as if the run had not stopped there."""
    line = run.watch.lines.pop()
    metrics = {n: v for n, v in line.items() if n != "step" and not n.startswith("alarm")}
    metrics |= evaluation(run, states, step, told)
    metrics |= screen.alarm(step, run.watch, metrics, run.metrics.alert)
    run.metrics.replace_last(step, metrics)


def stop_if_nothing_is_learnt(
    run: Run, step: int, samples: list[dict[str, Any]], learnt: list[Minibatch]
) -> None:
    """Raises `UserError` where too many updates in a row were left out; saves the last batch."""
    limit = run.config.guards.skipped_updates
    updates = derived.updates_per_step(run.config)
    count = alarms.skipped_in_a_row(run.watch.lines, updates)
    if not limit or count < limit:
        return
    batch = run.metrics.write_batch(step, learnt)
    readable = heatmaps.readable(run.tools.prompter.tokenizer, samples)
    answers = run.metrics.write_samples(step, readable)
    raise UserError(
        f"the last {count} updates were all left out, since their gradients were not finite "
        f"(config.guards.skipped_updates): the last batch is in {batch}, its answers are in "
        f"{answers}. Choose another --workdir with a lower optimizer.lr, or find out with "
        "model.dtype=float32"
    )
