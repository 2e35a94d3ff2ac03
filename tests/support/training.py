"""Small runs of the commands, and what they leave in a workdir."""

import json
import pathlib
import runpy
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from support.commands import ROOT

from sar_jax.text.tasks import arithmetic

# On the tiny model that comes with the package, a step takes a fraction of a second.
_SMALL = {
    "model.remat": "none",  # less to compile
    "data.train": "arithmetic:1000",
    "data.eval": "",
    "data.max_prompt_tokens": 120,
    "rollout.questions": 4,
    "rollout.slots": 8,
    "rollout.samples": 3,
    "rollout.max_answer_tokens": 12,
    "loss.minibatch_questions": 2,
    # a constant rate: then a restart may change the number of steps
    "optimizer.warmup_updates": 0,
    "optimizer.final_lr_fraction": 1,
    "packing.row_tokens": 144,
    "packing.logprob_chunk": 144,
    "packing.rows_per_microbatch": 2,
    "checkpoint.every_steps": 1,
    "checkpoint.keep": 10,
}
_UNTIMED = ("time/", "tokens_per_second", "rollout/tokens_per_second", "compilations")


def small(*overrides: str, config: str = "tiny") -> list[str]:
    """The options of a small training run: configs/NAME.py and its overrides, of which those given
    here (`steps=3`, `lora.rank=4`) come last."""
    given = dict(override.split("=", 1) for override in overrides)
    fields = [f"--config.{field}={value}" for field, value in (_SMALL | given).items()]
    return [f"--config=configs/{config}.py", *fields]


def shipped(name: str) -> Any:
    """The configuration of configs/NAME.py."""
    return runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]()


def write_lines(file: pathlib.Path, rows: Iterable[Mapping]) -> pathlib.Path:
    """JSON lines; returns the file."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_arithmetic(
    file: pathlib.Path,
    split: str,
    numbers: Iterable[int],
    fields: tuple[str, ...] = ("question", "answer"),
) -> pathlib.Path:
    """Generated questions as a file of a user's own; returns the file."""
    source = arithmetic.Arithmetic(split)
    return write_lines(file, ({f: getattr(source[i], f) for f in fields} for i in numbers))


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl: one for each step, step 0 first."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def timeless(line: dict[str, float]) -> dict[str, float]:
    """A line of metrics without what differs from one run of the same steps to another."""
    return {name: value for name, value in line.items() if not name.startswith(_UNTIMED)}


def state_of(workdir: pathlib.Path, step: int, name: str = "state") -> list[np.ndarray]:
    """Every array of a checkpoint, in order. name: "state" of the policy, or "critic"."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        state = checkpointer.restore(workdir / "checkpoints" / f"{step:08d}" / name)
    return [np.asarray(x) for x in jax.tree.leaves(state)]


def assert_same_state(one: pathlib.Path, other: pathlib.Path, step: int, *names: str) -> None:
    """Two workdirs hold the same arrays at a step, bit for bit."""
    for name in names or ("state",):
        for a, b in zip(state_of(one, step, name), state_of(other, step, name), strict=True):
            np.testing.assert_array_equal(a, b)


def train_command(hf_folder: pathlib.Path, workdir: pathlib.Path | str, *more: str) -> list[str]:
    """`sar_jax.train` for four steps on a model's folder, beside which lie a user's own questions:
    40 in a file, and 8 others to test. more: options that come last."""
    files = {}
    for split, name, count in (("train", "rows.jsonl", 40), ("test", "test.jsonl", 8)):
        files[split] = hf_folder.parent / name
        if not files[split].exists():
            write_arithmetic(files[split], split, range(count))
    return [
        "sar_jax.train",
        *small(
            "steps=4",
            f"model.path={hf_folder}",
            f"data.train={files['train']}",
            f"data.eval={files['test']}",
            "data.eval_questions=5",
            "evaluation.batch=4",
            "evaluation.every_steps=2",
            # a weight with a state, which a restart must take up again
            "self_aligned.adaptive=true",
        ),
        f"--workdir={workdir}",
        *more,
    ]
