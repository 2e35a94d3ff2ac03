"""Runs of several real processes on this machine's loopback."""

import pathlib
import re
import types
from collections.abc import Mapping

from support.commands import PATIENCE, ROOT, free_port, start_in_background
from support.environment import XLA_QUICK
from support.training import small

SMALL = small(
    "data.eval=arithmetic",
    "data.eval_questions=12",
    "evaluation.batch=8",
    "evaluation.every_steps=2",
    "rollout.questions=8",
    "rollout.slots=16",
    "rollout.samples=4",
    "loss.minibatch_questions=4",
    "packing.rows_per_microbatch=4",
    "checkpoint.every_steps=1000",
)
TAKEN = re.compile("cannot listen on port|[Aa]ddress already in use")


def start(
    processes,
    workdir,
    *arguments,
    devices=1,
    real=False,
    victim=(None,),
    last: Mapping[int, list[str]] = types.MappingProxyType({}),
    environment: Mapping[int, dict[str, str]] = types.MappingProxyType({}),
):
    """The processes of a run; each one's output goes to a file beside the workdir.

    victim        a process, with the first two arguments of support/victim.py
    last          more arguments of some processes
    environment   more variables of some processes
    """
    port, started = free_port(), []
    for i in range(processes):
        several = (
            [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={i}"]
            if processes > 1
            else []
        )
        doomed, *how = victim
        started.append(
            start_in_background(
                *(["support.victim", *how] if i == doomed else ["sar_jax.train"]),
                *SMALL,
                f"--workdir={workdir}",
                *several,
                *arguments,
                *last.get(i, []),
                output=output(workdir, i),
                real=real,
                XLA_FLAGS=f"--xla_force_host_platform_device_count={devices} {XLA_QUICK}",
                PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}",
                **environment.get(i, {}),
            )
        )
    return started


def output(workdir, process) -> pathlib.Path:
    return workdir.with_name(f"{workdir.name}.{process}.txt")


def finished(processes, workdir, *arguments, **how):
    """Exit statuses and outputs of the processes of a run; once more where somebody else was
    quicker to take the port."""
    while True:
        statuses, outputs = finish(start(processes, workdir, *arguments, **how), workdir)
        if not any(TAKEN.search(output) for output in outputs):
            return statuses, outputs


def finish(started, workdir):
    """Their exit statuses and outputs."""
    try:
        statuses = [p.wait(PATIENCE) for p in started]
    finally:
        for p in started:
            p.kill()
    return statuses, [output(workdir, i).read_text() for i in range(len(started))]
