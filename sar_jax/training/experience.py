"""One step's data: questions -> sampled answers -> scores -> rewards -> advantages on packed rows.

    ask          rows [Q] -> rollouts [B = Q * M], while worker processes verify       (`rollouts`)
    pack         rows with the question, mini-batch by mini-batch; rows standalone        (`grids`)
    start, fetch policy on all of them, reference and critic on those with the question   (`grids`)
    signals      what the rewards see of each answer, [Q, M]                            (`records`)
    values       rewards of one's own                                               (`own.rewards`)
    total        rewards, [Q, M]                                                      (rl.`rewards`)
    assign       each token's advantage                                            (rl.`advantages`)
    make         micro-batches of `Batch`, and of `ValueBatch` for the critic       (`minibatches`)

Several processes: each brings its share of the questions, and turns their answers into text and
verifies them; what it found is gathered, so that host arrays are equal on every process.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sar_jax import config as config_lib
from sar_jax.model.parameters import Params
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import rewards
from sar_jax.rl.rewards import Signals
from sar_jax.structs import Rollouts
from sar_jax.training import grids as grids_lib
from sar_jax.training import minibatches as minibatches_lib
from sar_jax.training import records
from sar_jax.training import rollouts as rollouts_lib
from sar_jax.training.grids import Scored
from sar_jax.training.minibatches import Minibatch
from sar_jax.training.own import rewards as own_rewards
from sar_jax.training.rollouts import Draw, Lengths, Tools
from sar_jax.training.settings import derived


class Experience(NamedTuple):
    """What a step learns from.

    sampled   tokens of everything that was sampled
    trained   tokens of what was scored and is trained on
    metrics   of this step's answers
    records   one dict an answer, for people
    """

    minibatches: list[Minibatch]
    sampled: Lengths
    trained: Lengths
    metrics: dict[str, float]
    records: list[dict[str, Any]]


def collect(
    tools: Tools,
    draw: Draw,
    masters: Params,
    reference: Params | None,
    key: jax.Array,
    critic: Params | None = None,
    alpha: float | None = None,
    told: Callable[[str], object] = lambda phase: None,
    scores: bool = True,
) -> Experience:
    """Answers Q questions M times each, scores and rewards the answers.

    draw        gives this process's next questions
    masters     what learns of the policy, in float32
    reference   of the initial policy; None where nothing is compared with it
    key         the step's
    critic      its float32 parameters; None without one
    alpha       this step's weight of the self-aligned reward; None = the config's
    told        of what goes on: "rollout", "score", "verify" or "value"
    scores      False: the policy's logps with the question are the sampler's

    Raises `UserError` where too many answers cannot be verified, or a reward of one's own fails.
    """
    config, clock = tools.config, _Clock(told)
    clock.begin("rollout")
    # The weights for decoding are gone before those for scoring are made.
    asked = rollouts_lib.ask(tools, draw, tools.decoding_weights(masters), key)
    rows, rollouts = asked.rows, asked.rollouts
    clock.begin("score")
    grids = grids_lib.pack(config, tools.prompter.standalone, rows, rollouts)
    weights = tools.scoring_weights
    pending = grids_lib.start(tools, grids, weights(masters), reference, critic, scores)
    clock.begin("verify")
    verdicts = asked.verdicts()
    scored = _scored(pending, clock, critic, None if scores else rollouts)
    signals = records.make_signals(rows, rollouts, verdicts, scored, config)
    if tools.rewards:
        clock.begin("reward")
    own = own_rewards.values(tools.rewards, rows, rollouts, verdicts, scored, signals)
    times = clock.end()

    coefficients = _coefficients(config, alpha)
    form = rewards.variant(config.self_aligned.form, config.self_aligned.cap)
    rewarded = records.Rewarded(*rewards.total(coefficients, signals, form, own))
    credit = _assign(config, coefficients, signals, rewarded, scored)
    trained = rollouts.stopped if config.loss.mask_clipped else np.ones(len(rollouts.stopped), bool)
    drawn = [x[:n] for x, n in zip(rollouts.sampling_logps, rollouts.lengths)]
    minibatches = [
        minibatches_lib.make(config, grid, scored, credit, trained, drawn) for grid in grids.asked
    ]
    described = records.metrics(rows, rollouts, grids, scored, verdicts, signals, rewarded)
    prompts = np.array([len(row.prompt) for row in rows])
    return Experience(
        minibatches,
        asked.sampled,
        Lengths(prompts, rollouts.lengths),
        described | credit.metrics | asked.metrics | tools.meter() | times,
        records.records(rows, rollouts, verdicts, scored, signals, rewarded, credit),
    )


def _scored(
    pending: grids_lib.Pending, clock: "_Clock", critic: Params | None, sampled: Rollouts | None
) -> Scored:
    """Waits for the scores, and for the critic's values where there is one.

    sampled   answers whose logps with the question are the sampler's; None: they are scored
    """
    clock.begin("score")
    scored = grids_lib.fetch(pending)
    if sampled is not None:
        # minus the logp of what was drawn is the entropy on average
        logps = [x[:n] for x, n in zip(sampled.logps, sampled.lengths)]
        scored = scored._replace(logps=logps, entropy=[-x for x in logps], are_sampled=True)
    if critic is None:
        return scored
    clock.begin("value")
    return scored._replace(values=grids_lib.fetch_values(pending))


def _coefficients(config: config_lib.TrainConfig, alpha: float | None) -> dict[str, float]:
    """Each reward's weight in this step, by name."""
    weights = derived.reward_weights(config) | own_rewards.weights(config.rewards.custom)
    return weights if alpha is None else weights | {"self_aligned": alpha}


def _assign(
    config: config_lib.TrainConfig,
    coefficients: dict[str, float],
    signals: Signals,
    rewarded: records.Rewarded,
    scored: Scored,
) -> advantages_lib.Credit:
    """The answers' rewards as advantages of their tokens."""
    charges = advantages_lib.penalties(config.advantage.kl_penalty, scored.logps, scored.ref_logps)
    weighted = {name: coefficients[name] * part for name, part in rewarded.parts.items()}
    return advantages_lib.assign(
        config.advantage, weighted, charges, scored.values, signals.correct
    )


class _Clock:
    """Seconds of each phase; what is done in several parts of one adds up."""

    def __init__(self, told: Callable[[str], object]):
        """told: of each phase as it begins."""
        self.told, self.phase = told, ""
        self.spent: dict[str, float] = {}
        self.last = time.perf_counter()

    def begin(self, phase: str) -> None:
        """Ends the phase before it."""
        now = time.perf_counter()
        if self.phase:
            name = f"time/{self.phase}"
            self.spent[name] = self.spent.get(name, 0.0) + now - self.last
        self.phase, self.last = phase, now
        if phase:
            self.told(phase)

    def end(self) -> dict[str, float]:
        """Metrics `time/...`."""
        self.begin("")
        return self.spent
