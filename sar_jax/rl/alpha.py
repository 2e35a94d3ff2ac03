"""The self-aligned reward's weight from step to step: constant, scheduled, or adapted to the run.

    weight = of_step(...) or state.trust * state.alpha       what the step's rewards are summed with
    state  = adapt(state, the step's metrics, ...)           what the next step starts from

Pure arithmetic. The paper tunes alpha for each model and names the lack of an adaptive rule as a
limitation. The rule here has no number that depends on the model, because what it controls has no
unit: s, the part of the advantage that comes from the self-aligned reward. (The metric
advantage_share/self_aligned: mean |its weighted, centred part| over the sum of these of all
rewards.)

    alpha <- alpha * (odds(target) / odds(s at trust 1))^r
    alpha <- min(alpha, w / 2), w the weight of `verifiable`
    trust <- trust / 2    if accuracy < level - 3 * its standard error, else trust * 1.1, at most 1
    level <- level + (0.2 if accuracy > level else 0.02) * (accuracy - level)

- alpha is moved by a proportional controller of log alpha, as the KL's in arXiv 1909.08593, section
  2.2. odds(s) = s / (1 - s) is proportional to alpha, so one full step would reach the target.
  r = max(1 / steps so far, 0.1): a mean of the first steps.
- R_SA is in [-1, 1], so with alpha <= w / 2 no wrong answer outranks a right one.
- The level rises with the accuracy and is slow to forget it, so a slow decline is a drop too; trust
  falls fast and comes back slowly (as TCP's windows do). The standard error is that of a mean over
  the step's questions.
- Where right and wrong no longer differ within groups, s is 1 and alpha falls: then shorter is all
  that it could teach.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sar_jax import config as config_lib

_RATE = 0.1
_LARGEST_STEP = 4.0  # of the correction before the rate: a step without a signal says little
_FALL, _RECOVER = 0.5, 1.1
_RISE_RATE, _FORGET_RATE = 0.2, 0.02
_ERRORS = 3.0
LEAST = 1e-4  # never 0: the reward must be seen to come back


class State(NamedTuple):
    """What one step hands to the next.

    alpha   the weight at full trust
    trust   factor on it, in (0, 1]
    level   the accuracy to be kept, None before the first step
    steps   how many it has learnt from
    """

    alpha: float
    trust: float = 1.0
    level: float | None = None
    steps: int = 0

    @property
    def weight(self) -> float:
        """What the step's rewards are summed with."""
        return max(self.trust * self.alpha, LEAST)


def of_step(step: int, steps: int, ceiling: float, peak_at: float) -> float:
    """The weight at one step of a schedule: up to a peak and down again, both linearly.

    step      1 ... steps; it counts at its middle, (step - 1/2) / steps, so that none has weight 0
    ceiling   the weight at the peak
    peak_at   fraction of the run at which the peak is; 0: the weight is constant
    """
    if peak_at == 0:
        return ceiling
    progress = (step - 0.5) / steps
    rising = progress / peak_at
    falling = (1 - progress) / (1 - peak_at) if peak_at < 1 else 1.0
    return ceiling * min(rising, falling)


def adapt(state: State, metrics: Mapping[str, float], target: float, ceiling: float) -> State:
    """The next step's state.

    metrics   advantage_share/*, accuracy and accuracy_error of the step, which had `state.weight`
    target    share of the advantage that the self-aligned reward is to have
    ceiling   the largest alpha, see `ceiling`
    """
    accuracy = metrics["accuracy"]
    level = accuracy if state.level is None else state.level
    fell = accuracy < level - _ERRORS * metrics["accuracy_error"]
    trust = state.trust * _FALL if fell else min(state.trust * _RECOVER, 1.0)
    level += (_RISE_RATE if accuracy > level else _FORGET_RATE) * (accuracy - level)

    share = metrics["advantage_share/self_aligned"]
    others = sum(v for name, v in metrics.items() if name.startswith("advantage_share/")) - share
    correction = 1.0  # no reward differs within any group: that says nothing
    if share > 0:
        at_full_trust = share / state.weight * state.alpha  # odds times `others`
        correction = target / (1 - target) * others / at_full_trust
    elif others > 0:
        correction = _LARGEST_STEP
    correction = min(max(correction, 1 / _LARGEST_STEP), _LARGEST_STEP)
    rate = max(1 / (state.steps + 1), _RATE)
    alpha = min(max(state.alpha * correction**rate, LEAST), ceiling)
    return State(alpha, trust, level, state.steps + 1)


def ceiling(config: config_lib.TrainConfig) -> float:
    """The largest weight at which no wrong answer outranks a right one."""
    bound = 1.0
    if config.self_aligned.form == "difference":
        bound = config.self_aligned.cap - 1  # perplexities are >= 1
    return config.rewards.verifiable / 2 / bound


class Weight:
    """The weight of a run from step to step."""

    def __init__(self, config: config_lib.TrainConfig, saved: dict[str, Any] | None = None):
        """saved: the property `saved` of an interrupted run; None or {} at the start."""
        self.config = config
        start = config.rewards.self_aligned
        if config.self_aligned.adaptive:
            start = min(start, ceiling(config))
        self.state = State(**saved) if saved else State(start)

    def of(self, step: int) -> float:
        """The weight of a step, from 1."""
        config = self.config
        if config.self_aligned.adaptive:
            return self.state.weight
        return of_step(step, config.steps, config.rewards.self_aligned, config.self_aligned.peak_at)

    def learn(self, metrics: Mapping[str, float]) -> None:
        """Adapts, if asked to, to the metrics of the step whose weight `of` has given."""
        if self.config.self_aligned.adaptive:
            target = self.config.self_aligned.target_share
            self.state = adapt(self.state, metrics, target, ceiling(self.config))

    def metrics(self, step: int) -> dict[str, float]:
        if not self.config.rewards.self_aligned:
            return {}
        trust = {"alpha_trust": self.state.trust} if self.config.self_aligned.adaptive else {}
        return {"alpha": self.of(step), **trust}

    @property
    def saved(self) -> dict[str, Any]:
        """What a checkpoint keeps: a few floats; nothing unless the weight adapts."""
        return self.state._asdict() if self.config.self_aligned.adaptive else {}
