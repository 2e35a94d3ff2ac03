"""Alarms of a run that goes wrong: pure functions of the lines of metrics.jsonl, oldest first. They
stop nothing.

    watch.remember(lines)                     what an interrupted run has written: alarms go on as if never stopped
    found, news = watch.see(line)             `found` goes to metrics.jsonl: how many alarms are on, and which

Each alarm says what was seen and what to try. What is noisy is compared with its own noise, and
means over `_SPAN` steps are looked at, not single ones, so that a run that goes well stays silent.
"""

from collections.abc import Callable, Mapping, Sequence

from sar_jax import config as config_lib

Line = Mapping[str, float]
Lines = Sequence[Line]

_SPAN = 5  # steps whose mean is looked at
_QUIET = 20  # an alarm that was on within so many lines is not told again
_FEWEST = 8  # values that a trend is made from


def _values(lines: Lines, name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _now(lines: Lines, name: str) -> float | None:
    """Mean over the last steps; None before there are enough."""
    values = _values(lines, name)[-_SPAN:]
    return _mean(values) if len(values) == _SPAN else None


def _change(values: Sequence[float], window: int) -> tuple[float, float]:
    """Mean of the last `window` values minus that of the `window` before, and this difference's
    standard error."""
    before, after = values[-2 * window : -window], values[-window:]
    variance = lambda x: sum((v - _mean(x)) ** 2 for v in x) / (len(x) - 1)
    return _mean(after) - _mean(before), ((variance(before) + variance(after)) / window) ** 0.5


def short(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """Answers have less than a fraction of the tokens that they had in the first steps."""
    lengths = _values(lines, "completions/mean_length")
    now = _now(lines, "completions/mean_length")
    if now is None or now >= cfg.short_length * _mean(lengths[:_SPAN]):
        return None
    return f"answers have {now:.1f} tokens, {_mean(lengths[:_SPAN]):.1f} at the start"


def falling(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """Each of the last evaluations is worse than the one before, and the fall is more than twice
    its standard error."""
    evaluated = [line for line in lines if "eval/accuracy" in line][-cfg.falling_evaluations - 1 :]
    if not cfg.falling_evaluations or len(evaluated) <= cfg.falling_evaluations:
        return None
    accuracies = _values(evaluated, "eval/accuracy")
    first, last = accuracies[0], accuracies[-1]
    error = (first * (1 - first) / evaluated[0].get("eval/questions", 1)) ** 0.5
    if any(b >= a for a, b in zip(accuracies, accuracies[1:])) or first - last <= 2 * error:
        return None
    return "the evaluation's accuracy falls: " + ", ".join(f"{100 * a:.1f} %" for a in accuracies)


def certain(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """The policy hardly chooses any more."""
    now = _now(lines, "entropy")
    return (
        f"the entropy is {now:.4f} nats a token"
        if now is not None and now < cfg.low_entropy
        else None
    )


def hacked(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """The self-aligned reward rises while accuracy falls, both by more than three times the
    change's standard error."""
    name = "reward/self_aligned/mean"
    both = [line for line in lines if name in line and "accuracy" in line]
    window = min(cfg.trend_steps, len(both) // 2)
    if window < _FEWEST:
        return None
    (gain, gain_error), (loss, loss_error) = (
        _change(_values(both, n), window) for n in (name, "accuracy")
    )
    if gain <= 3 * gain_error or -loss <= 3 * loss_error:
        return None
    return f"in {window} steps the self-aligned reward rose by {gain:.3f} while accuracy fell by {-100 * loss:.1f} points"


def echoing(lines: Lines, cfg: config_lib.Guards) -> str | None:
    """Answers repeat their question."""
    now = _now(lines, "completions/question_overlap")
    if not cfg.echo or now is None or now <= cfg.echo:
        return None
    return f"{100 * now:.0f} % of the answers' token trigrams are in their question"


ALARMS: Mapping[str, tuple[Callable[[Lines, config_lib.Guards], str | None], str]] = {
    "short": (
        short,
        "Try a smaller rewards.self_aligned, or self_aligned.adaptive=true; a larger loss.kl",
    ),
    "falling": (
        falling,
        "Try a lower optimizer.lr or a larger loss.kl, and go back to a checkpoint from before the fall",
    ),
    "certain": (
        certain,
        "Try loss.clip_high=0.28, a lower optimizer.lr, and no rewards.entropy_min",
    ),
    "hacked": (
        hacked,
        "Try a smaller rewards.self_aligned, or self_aligned.adaptive=true, beside a verifiable reward",
    ),
    "echoing": (
        echoing,
        "Look at samples/. Try self_aligned.cap, self_aligned.form=log, a smaller rewards.self_aligned",
    ),
}


class Watch:
    """The lines of one run, as they come, and the alarms that they give."""

    def __init__(self, cfg: config_lib.Guards):
        self.cfg = cfg
        self.lines: list[Line] = []

    def remember(self, lines: Lines) -> None:
        """Lines that a run wrote before it was interrupted, alarms included."""
        self.lines = list(lines)

    def see(self, line: Line) -> tuple[dict[str, float], list[str]]:
        """Metrics for the line: `alarms`, how many, `alarm/<name>`, 1 for each that is on; and what
        is new to tell."""
        self.lines.append(line)
        facts = {
            name: fact for name, (find, _) in ALARMS.items() if (fact := find(self.lines, self.cfg))
        }
        before = self.lines[-_QUIET - 1 : -1]
        news = [
            f"{fact}. {ALARMS[name][1]}."
            for name, fact in facts.items()
            if not any(f"alarm/{name}" in line for line in before)
        ]
        found = {"alarms": float(len(facts)), **{f"alarm/{name}": 1.0 for name in facts}}
        self.lines[-1] = {**line, **found}
        return found, news
