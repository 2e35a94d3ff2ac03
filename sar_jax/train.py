"""Reinforcement learning with the self-aligned reward.

    python -m sar_jax.train --config=configs/tiny.py [--config.any.field=value] [--workdir=DIR]

    load model, data, checkpoint                                             (training.setup)
    evaluate                         first, every `evaluation.every_steps`, and at the end
    for each step:                                                            (training.loop)
        experience  collect(...)     questions, sample, score, verify, reward (training.experience)
        state       update(...)      once for each mini-batch                 (training.learner)
        metrics, samples, checkpoint
    table before -> after

Restart with the same --workdir to resume: nothing is replayed or skipped. Ctrl-C, SIGTERM or the
end of the ssh session (SIGHUP) saves and exits. On several hosts start the same command on each
(docs/machines.md); the first one writes files and prints.
"""

import os
import sys
import time

import jax
from absl import flags
from etils import epath

from sar_jax import cli
from sar_jax import config as config_lib
from sar_jax.parallel import compiled, multihost
from sar_jax.training import loop
from sar_jax.training.api import calls, session
from sar_jax.training.settings import checks


def train(
    config: config_lib.TrainConfig | str | os.PathLike[str],
    workdir: str | os.PathLike[str] | None = None,
    on_step: session.OnStep | None = None,
    *,
    extend: bool = False,
) -> session.Run:
    """Trains, in this process. With the workdir of a run that was stopped, continues it.

    config    a config, or the path of a config file
    workdir   the run's folder; by default a new one below runs/
    on_step   is called after each step with its number, from 1, and its metrics. Where it returns
              False, the run stops and is saved. Where it raises, the run stops and is saved, and
              then the error goes on
    extend    more steps than the run was begun with, although a schedule follows them

    Ctrl-C, SIGTERM and SIGHUP stop the run too, and come again when it is saved: Ctrl-C ends in
    KeyboardInterrupt. A second Ctrl-C stops at once. A thread other than the main one hears no
    signals. Raises `UserError` for what is wrong with the config, files or devices.
    """
    found = calls.as_config(config)
    return session.train(found, workdir, on_step, extend=extend)


if __name__ != "__main__":
    calls.make_callable(__name__, train)


def main(get_config) -> int:
    values, config = flags.FLAGS, get_config()
    checks.check(config)
    multihost.initialize()
    if not multihost.is_first():
        sys.stdout = open(os.devnull, "w")  # the first process prints for all; errors go to stderr
    workdir = epath.Path(
        multihost.gather(values.workdir or f"runs/{time.strftime('%Y%m%d-%H%M%S')}")[0]
    )
    several = f"s of {jax.process_count()} processes" if jax.process_count() > 1 else "(s)"
    kind = jax.devices()[0].device_kind
    print(
        f"sar_jax.train on {jax.device_count()} {kind} device{several}, workdir {workdir}",
        flush=True,
    )
    compiled.keep(values.compilation_cache)
    return loop.run(config, workdir, values.extend)


if __name__ == "__main__":
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder for the run's files. An interrupted run in it is resumed. "
        "Default: a new folder under runs/.",
    )
    flags.DEFINE_bool(
        "extend",
        False,
        "More steps than the run in the workdir was begun with, although the learning rate or the "
        "self-aligned reward's weight follows a schedule, which is stretched to them.",
    )
    flags.DEFINE_string("compilation_cache", None, compiled.OPTION)
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
