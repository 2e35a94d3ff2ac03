"""Alarms of a run that goes wrong: pure functions of the lines of metrics.jsonl, oldest first.

    watch.remember(lines)           what an interrupted run has written: alarms continue as if it
                                    had never stopped
    found, news = watch.see(line)   `found` goes to metrics.jsonl: how many alarms are on, and which

Alarms stop nothing; only skipped updates, many in a row, do. Each says what was seen and what to
try. So that a run that goes well stays silent, what is noisy is compared with its own noise, and
means over `_SPAN` steps are compared, not single steps.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sar_jax import config as config_lib

Line = Mapping[str, float]
Lines = Sequence[Line]

_SPAN = 5  # steps whose mean is compared
_QUIET = 20  # an alarm that was on within this many lines is not told again
_FEWEST = 8  # values that a trend is made from


class Alarm(NamedTuple):
    """find: what was seen, in words, or None while all is well; advice: what to try."""

    find: Callable[[Lines, config_lib.Guards], str | None]
    advice: str


class _Change(NamedTuple):
    """The difference of two means, and its standard error."""

    size: float
    error: float


def _values(lines: Lines, name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _now(lines: Lines, name: str) -> float | None:
    """Mean over the last steps; None before there are enough."""
    values = _values(lines, name)[-_SPAN:]
    return _mean(values) if len(values) == _SPAN else None


def _change(values: Sequence[float], window: int) -> _Change:
    """Mean of the last `window` values minus that of the `window` before."""
    before, after = values[-2 * window : -window], values[-window:]
    variance = lambda x: sum((v - _mean(x)) ** 2 for v in x) / (len(x) - 1)
    error = ((variance(before) + variance(after)) / window) ** 0.5
    return _Change(_mean(after) - _mean(before), error)


def short(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """Answers have less than a fraction of the tokens that they had in the first steps."""
    now = _now(lines, "completions/mean_length")
    if now is None:
        return None
    first = _mean(_values(lines, "completions/mean_length")[:_SPAN])
    if now >= cfg.short_length * first:
        return None
    return f"answers have {now:.1f} tokens on average; at the start they had {first:.1f}"


def falling(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """Each of the last evaluations is worse than the one before.

    And the whole fall is more than twice the standard error of the first of them.
    """
    evaluated = [line for line in lines if "eval/accuracy" in line][-cfg.falling_evaluations - 1 :]
    if not cfg.falling_evaluations or len(evaluated) <= cfg.falling_evaluations:
        return None
    accuracies = _values(evaluated, "eval/accuracy")
    first, last = accuracies[0], accuracies[-1]
    error = (first * (1 - first) / evaluated[0].get("eval/questions", 1)) ** 0.5
    has_risen = any(b >= a for a, b in zip(accuracies, accuracies[1:]))
    if has_risen or first - last <= 2 * error:
        return None
    return "the evaluation's accuracy falls: " + ", ".join(f"{100 * a:.1f} %" for a in accuracies)


def certain(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """The policy hardly chooses any more."""
    now = _now(lines, "entropy")
    if now is not None and now < cfg.low_entropy:
        return f"the entropy is {now:.4f} nats a token"
    return None


def hacked(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """The self-aligned reward rises while accuracy falls.

    Both changes are more than three times their standard error.
    """
    name = "reward/self_aligned/mean"
    both = [line for line in lines if name in line and "accuracy" in line]
    window = min(cfg.trend_steps, len(both) // 2)
    if window < _FEWEST:
        return None
    gain = _change(_values(both, name), window)
    loss = _change(_values(both, "accuracy"), window)
    if gain.size <= 3 * gain.error or -loss.size <= 3 * loss.error:
        return None
    return (
        f"in {window} steps the self-aligned reward rose by {gain.size:.3f} while accuracy fell by "
        f"{-100 * loss.size:.1f} points"
    )


def echoing(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """Answers repeat their question."""
    now = _now(lines, "completions/question_overlap")
    if not cfg.echo or now is None or now <= cfg.echo:
        return None
    return f"{100 * now:.0f} % of the answers' tokens are in runs of 8 or more of their prompt's"


def _in_a_row(lines: Lines, name: str, value: float, count: int) -> bool:
    """Was a metric this value in each of the last `count` lines that have it?"""
    last = _values(lines, name)[-count:]
    return 0 < count == len(last) and all(x == value for x in last)


def unrewarded(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """No answer was right in several steps in a row."""
    if not _in_a_row(lines, "accuracy", 0, cfg.unrewarded_steps):
        return None
    return f"not one answer was right in the last {cfg.unrewarded_steps} steps"


def cut_off(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """The length limit cut every answer off, in several steps in a row."""
    if not _in_a_row(lines, "completions/clipped_ratio", 1, cfg.cut_off_steps):
        return None
    return f"every answer of the last {cfg.cut_off_steps} steps was cut off by the length limit"


def skipped(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """An update of the last step was left out, since its gradient was not finite."""
    counts = [0.0, *_values(lines, "skipped_updates")]
    if not cfg.skipped_updates or len(counts) < 2 or counts[-1] <= counts[-2]:
        return None
    return f"{counts[-1] - counts[-2]:.0f} update(s) were skipped: the gradient was not finite"


def drifted(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """The policy is far from the initial one."""
    last = _values(lines, "kl")[-1:]
    if not cfg.high_kl or not last or last[0] <= cfg.high_kl:
        return None
    return f"the KL to the initial policy is {last[0]:.2f} nats a token"


def uncertain(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """The policy has become far less certain than it was."""
    values = _values(lines, "entropy")
    if not cfg.entropy_rise or not values or values[-1] - values[0] <= cfg.entropy_rise:
        return None
    return f"the entropy is {values[-1]:.2f} nats a token; at the start it was {values[0]:.2f}"


def not_finite(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """Something is no number."""
    names = [name for name, value in lines[-1].items() if not math.isfinite(value)]
    if not cfg.not_finite or not names:
        return None
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}: not finite"


ALARMS: Mapping[str, Alarm] = {
    "unrewarded": Alarm(
        unrewarded,
        "Compare answers and truths in samples/: is it the verifier, the form of the answers, or "
        "are the questions too hard? Whatever else is rewarded is all that is learnt",
    ),
    "cut_off": Alarm(
        cut_off,
        "Raise rollout.max_answer_tokens (and packing.row_tokens); look in samples/ whether "
        "answers would end at all",
    ),
    "skipped": Alarm(skipped, "Try a lower optimizer.lr; model.dtype=float32 to find out"),
    "drifted": Alarm(drifted, "Try a lower optimizer.lr or a larger loss.kl"),
    "uncertain": Alarm(uncertain, "Try a lower optimizer.lr; look at samples/"),
    "not_finite": Alarm(not_finite, "Try a lower optimizer.lr; model.dtype=float32 to find out"),
    "short": Alarm(
        short,
        "Try a smaller rewards.self_aligned, or self_aligned.adaptive=true; a larger loss.kl",
    ),
    "falling": Alarm(
        falling,
        "Try a lower optimizer.lr or a larger loss.kl, and go back to a checkpoint from before the "
        "fall",
    ),
    "certain": Alarm(
        certain,
        "Try loss.clip_high=0.28, a lower optimizer.lr, and no rewards.entropy_min",
    ),
    "hacked": Alarm(
        hacked,
        "Try a smaller rewards.self_aligned, or self_aligned.adaptive=true, and keep a verifiable "
        "reward",
    ),
    "echoing": Alarm(
        echoing,
        "Look at samples/. Try self_aligned.copied_run=8, for which such runs earn nothing, or a "
        "smaller rewards.self_aligned. Where right answers must quote their question, set "
        "guards.echo higher",
    ),
}


def skipped_in_a_row(lines: Lines, updates: int) -> int:
    """How many updates were left out one after the other until now, whole steps alone.

    updates   of a step
    """
    counts = _values(lines, "skipped_updates")
    steps = [after - before for before, after in zip([0.0, *counts], counts)]
    own = itertools.takewhile(lambda skipped: skipped == updates, reversed(steps))
    return updates * len(list(own))


class Watch:
    """The lines of one run, as they come, and the alarms that they raise."""

    def __init__(self, cfg: config_lib.Guards):
        self.cfg = cfg
        self.lines: list[Line] = []

    def remember(self, lines: Lines) -> None:
        """Lines that a run wrote before it was interrupted, alarms included."""
        self.lines = list(lines)

    def see(self, line: Line) -> tuple[dict[str, float], list[str]]:
        """Metrics for the line, and what is new to tell.

        The metrics are `alarms`, how many are on, and `alarm/<name>`, 1 for each of those.
        """
        self.lines.append(line)
        seen = {name: alarm.find(self.lines, self.cfg) for name, alarm in ALARMS.items()}
        facts = {name: fact for name, fact in seen.items() if fact}
        before = self.lines[-_QUIET - 1 : -1]
        is_told = lambda name: any(f"alarm/{name}" in line for line in before)
        news = [
            f"{fact}. {ALARMS[name].advice}." for name, fact in facts.items() if not is_told(name)
        ]
        found = {"alarms": float(len(facts)), **{f"alarm/{name}": 1.0 for name in facts}}
        self.lines[-1] = {**line, **found}
        return found, news
