"""Next-token training on worked answers: the rows, and the loop over updates.

worked_answers   questions and solutions -> prompt and answer ids, those that fit
fit              goes on from the newest checkpoint; stopped by a signal, it saves first
"""

import dataclasses
import hashlib
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.model.parameters import Params
from sar_jax.parallel import progress, sharding
from sar_jax.rl import packing
from sar_jax.structs import Packed
from sar_jax.text import prompts
from sar_jax.training import learner
from sar_jax.training import questions as questions_lib
from sar_jax.training.stopping import Control, Stop
from sar_jax.training.storage.checkpoints import Checkpoints

Example = tuple[Sequence[int], list[int]]  # prompt ids, answer ids


@dataclasses.dataclass(frozen=True)
class WorkedAnswers(Sequence):
    """A random-access source of (prompt ids, answer ids); grain shuffles and batches it."""

    rows: Sequence[prompts.Question]
    answers: Sequence[list[int]]
    standalone: list[int]
    empty_question_fraction: float
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        alone = random.Random(f"{self.seed}/{index}").random() < self.empty_question_fraction
        return (self.standalone if alone else self.rows[index].prompt), self.answers[index]

    def fingerprint(self) -> str:
        """A hash of all prompts and answers in order."""
        digest = hashlib.sha256()
        for row, answer in zip(self.rows, self.answers):
            for ids in (row.prompt, answer):
                digest.update(np.array([len(ids), *ids], np.int32).tobytes())
        return digest.hexdigest()


class Kept(NamedTuple):
    """The worked answers that fit, and how many solutions were too long."""

    worked: WorkedAnswers
    left_out: int


def worked_answers(
    rows: list[prompts.Question], prompter: prompts.Prompter, config: config_lib.PretrainConfig
) -> Kept:
    """The rows with their solutions tokenised. Raises `UserError` where there is none."""
    for row in rows:
        if not row.example.solution:
            raise UserError(
                f'{config.data.train}: row {row.example.id} has no "solution" to learn from'
            )
    kept, answers = [], []
    for row, ids in zip(rows, prompter.answers([row.example.solution for row in rows])):
        if len(ids) <= config.max_answer_tokens:
            kept.append(row)
            answers.append(ids)
    if not kept:
        raise UserError(
            f"{config.data.train}: every solution is longer than config.max_answer_tokens = "
            f"{config.max_answer_tokens}"
        )
    worked = WorkedAnswers(
        kept, answers, prompter.standalone, config.empty_question_fraction, config.seed
    )
    return Kept(worked, len(rows) - len(kept))


class Fitted(NamedTuple):
    """The parameters after `step` updates, all of them unless it was stopped.

    loss   the last that was reported; None where no update was left to do
    """

    params: Params
    step: int
    loss: float | None


def fit(
    config: config_lib.PretrainConfig,
    network: Network,
    first: Callable[[], Params],
    worked: WorkedAnswers,
    mesh: Mesh,
    checkpoints: Checkpoints,
) -> Fitted:
    """The training loop. The first Ctrl-C, SIGTERM or SIGHUP stops it after the update.

    first         makes the parameters to begin with, in float32, where there is no checkpoint
    checkpoints   the newest is gone on from; the last update's is complete when this returns

    Signal handlers stay as `Stop` sets them. Raises `UserError` where a checkpoint cannot be
    written, or where those there cannot be gone on from.
    """
    specs = parameters.param_specs(network.cfg)
    described = parameters.describe_params(network.cfg, sharding.param_shardings(specs, mesh))
    optimizer = learner.make_optimizer(config.optimizer, config.steps, parameters.decays(specs))
    iterator = questions_lib.batches(worked, config.batch_examples, config.seed)
    like = learner.States(learner.describe_state(described, optimizer), None)
    resumed = checkpoints.resume(like, iterator)
    if resumed:
        print(f"resumed at step {resumed.step} from {checkpoints.folder}", flush=True)
        state, step = resumed.states.policy, resumed.step
    else:
        state, step = learner.init_state(first(), optimizer), 0
    loss_fn = learner.make_supervised_loss(network, config.packing.logprob_chunk)
    update = learner.make_update(state, optimizer, loss_fn)
    told = _Told()
    stop = Stop(lambda text: False, Control())
    with progress.bar("training", "steps", config.steps, step) as bar:
        asked = stop.asked()
        while step < config.steps and not asked:
            batch = _pack(next(iterator), config.packing, mesh)
            state, metrics = update(state, batch.micro, 1 / batch.answer_tokens)
            step += 1
            bar.advance()
            told.add(batch, metrics["loss"])
            if step % config.log_every_steps == 0 or step == config.steps:
                told.tell(step, bar)
            asked = stop.asked()
            due = step % config.checkpoint.every_steps == 0
            if due or asked or step == config.steps:
                # waits: what is written is a copy, which has no room beside an update
                checkpoints.save(step, learner.States(state, None), iterator, last=True)
    return Fitted(state.params, step, told.loss)


class _Batch(NamedTuple):
    """Worked answers in packed rows. micro: on the devices; positions: of their rows, filled or
    not."""

    micro: list[Packed]
    answer_tokens: float
    tokens: int
    positions: int


def _pack(examples: Sequence[Example], cfg: config_lib.Packing, mesh: Mesh) -> _Batch:
    rows, narrowest = cfg.rows_per_microbatch, cfg.narrowest
    contexts, answers = [p for p, _ in examples], [a for _, a in examples]
    packed, _ = packing.pack(contexts, answers, cfg.row_tokens, rows, narrowest)
    micro = packing.microbatches(packed, rows, narrowest)
    return _Batch(
        [sharding.place(part, sharding.by_rows(mesh)) for part in micro],
        answer_tokens=float(packed.mask.sum()),
        tokens=int((packed.segment_ids > 0).sum()),
        positions=sum(part.tokens.size for part in micro),
    )


class _Told:
    """What is said of updates: their mean loss, the speed, and how full the rows were."""

    def __init__(self):
        self.begin = time.perf_counter()
        self.losses: list[jax.Array] = []  # since the last line
        self.tokens = self.positions = 0
        self.loss: float | None = None  # of the last line

    def add(self, batch: _Batch, loss: jax.Array) -> None:
        self.losses.append(loss)
        self.tokens += batch.tokens
        self.positions += batch.positions

    def tell(self, step: int, bar: progress.Bar) -> None:
        self.loss = float(np.mean(jax.device_get(self.losses)))
        speed = self.tokens / (time.perf_counter() - self.begin)
        bar.tell(f"loss {self.loss:.4f}, {speed:.0f} tokens/s")
        filled = f"rows {100 * self.tokens / self.positions:.0f}% full"
        print(f"step {step}  loss {self.loss:.4f}  {speed:.0f} tokens/s  {filled}", flush=True)
        self.losses = []
