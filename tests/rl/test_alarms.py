"""Each alarm comes with its collapse, is told once, goes on through a restart, and a run that goes
well stays silent."""

import dataclasses
import json
import math

import numpy as np
import pytest

from sar_jax.config import Guards
from sar_jax.rl import alarms


def healthy(rng, steps=60, evaluate=10):
    """The lines of a run that goes well: shorter, more accurate, with noise."""
    lines = [{"step": 0, "eval/accuracy": 0.6, "eval/questions": 500}]
    for step in range(1, steps + 1):
        done = step / steps
        line = {
            "step": step,
            "accuracy": 0.6 + 0.2 * done + rng.normal(0, 0.04),
            "entropy": 0.3 - 0.2 * done,
            "completions/mean_length": 800 - 400 * done + rng.normal(0, 20),
            "completions/question_overlap": 0.03,
            "reward/self_aligned/mean": 0.2 + 0.1 * done + rng.normal(0, 0.01),
        }
        if step % evaluate == 0:
            line |= {"eval/accuracy": 0.6 + 0.2 * done + rng.normal(0, 0.02), "eval/questions": 500}
        lines.append(line)
    return lines


def collapsed(rng, name, begin=20):
    """The same, but from `begin` on one thing goes wrong."""
    lines = healthy(rng)
    for line in lines[begin:]:
        late = (line["step"] - begin) / 40
        if name == "short":
            line["completions/mean_length"] = 800 * (1 - 0.9 * min(1, 2 * late))
        elif name == "certain":
            line["entropy"] = 0.001
        elif name == "echoing":
            line["completions/question_overlap"] = 0.4
        elif name == "hacked":
            line["accuracy"] -= 0.5 * late
            line["reward/self_aligned/mean"] += 0.5 * late
        elif name == "falling" and "eval/accuracy" in line:
            line["eval/accuracy"] = 0.7 - 0.4 * late
    return lines


def watch(lines, cfg=None, remembered=()):
    """(metrics of each line, (step, text) of everything that was told)"""
    seen, told, found = alarms.Watch(cfg or Guards()), [], []
    seen.remember(remembered)
    for line in lines:
        metrics, news = seen.see(line)
        found.append(metrics)
        told += [(line["step"], text) for text in news]
    return found, told


NAMES = ["short", "falling", "certain", "hacked", "echoing"]
OFF = {
    "short": "short_length",
    "falling": "falling_evaluations",
    "certain": "low_entropy",
    "hacked": "trend_steps",
    "echoing": "echo",
}


def test_there_is_a_test_for_every_alarm():
    fields = {**OFF, **_FIELDS, "skipped": "skipped_updates"}
    assert set(alarms.ALARMS) == {*NAMES, *SUDDEN, "skipped"} == set(fields)
    assert set(fields.values()) == set(vars(Guards()))


def test_runs_that_go_well_stay_silent():
    for seed in range(30):
        found, told = watch(healthy(np.random.default_rng(seed)))
        assert told == [] and all(metrics == {"alarms": 0.0} for metrics in found)


@pytest.mark.parametrize("name", NAMES)
def test_each_alarm_comes_with_its_collapse_once_and_says_what_to_try(rng, name):
    found, told = watch(collapsed(rng, name))
    ((step, text),) = told
    assert 20 < step <= 60 and "Try " in text and "\n" not in text
    on = [f"alarm/{name}" in metrics for metrics in found]
    assert on.index(True) == step and sum(on) > 3  # it stays on, and is not told again
    assert all(
        metrics["alarms"] == len(metrics) - 1 == sum(v for k, v in metrics.items() if k != "alarms")
        for metrics in found
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_alarm_can_be_turned_off(rng, name):
    field = OFF[name]
    off = dataclasses.replace(Guards(), **{field: type(getattr(Guards(), field))(0)})
    assert watch(collapsed(rng, name), off)[1] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stopped", [3, 25, 45, 55])
def test_a_restart_changes_nothing(rng, name, stopped):
    """What was written is remembered: the same metrics, and nothing is told twice."""
    lines = collapsed(rng, name)
    whole, told = watch(lines)
    first, told_first = watch(lines[:stopped])
    written = [json.loads(json.dumps(line | metrics)) for line, metrics in zip(lines, first)]
    second, told_second = watch(lines[stopped:], remembered=written)
    assert first + second == whole and told_first + told_second == told


def test_an_alarm_that_comes_back_after_a_while_is_told_again(rng):
    lines = healthy(rng)
    for line in [*lines[10:20], *lines[50:]]:
        line["entropy"] = 0.001
    assert len(watch(lines)[1]) == 2


@pytest.mark.parametrize(
    "accuracies, falls",
    [
        ([0.7, 0.6, 0.5], True),
        ([0.7, 0.6], False),
        ([0.7, 0.6, 0.6], False),
        ([0.7, 0.5, 0.6], False),
        ([0.2, 0.7, 0.6, 0.5], True),
        ([0.7, 0.69, 0.68], False),  # two standard errors are 4.1 points
        ([0.7, 0.68, 0.655], True),
        ([0.7, 0.68, 0.665], False),
    ],
)
def test_what_counts_as_falling(accuracies, falls):
    lines = [
        {"step": i, "eval/accuracy": a, "eval/questions": 500} for i, a in enumerate(accuracies)
    ]
    assert bool(alarms.falling(lines, Guards(falling_evaluations=2))) is falls


@pytest.mark.parametrize("length, alarm", [(31, False), (29, True)])
def test_short_answers_are_compared_with_the_first_steps(length, alarm):
    lines = [{"completions/mean_length": x} for x in [90, 110, 100, 95, 105, *[length] * 5]]
    assert bool(alarms.short(lines, Guards(short_length=0.3))) is alarm
    assert alarms.short(lines[:4], Guards()) is None


def test_a_trend_needs_both_to_move_beyond_their_noise():
    def lines(reward, accuracy):
        noise = np.random.default_rng(3).normal(0, 0.05, (2, 2, 20))
        # before and after: exactly as asked
        noise = (noise - noise.mean(axis=2, keepdims=True)).reshape(2, 40)
        late = np.repeat([0, 1], 20)
        return [
            {
                "reward/self_aligned/mean": 0.3 + reward * late[i] + noise[0, i],
                "accuracy": 0.6 + accuracy * late[i] + noise[1, i],
            }
            for i in range(40)
        ]

    hacked = lambda *change: bool(alarms.hacked(lines(*change), Guards(trend_steps=20)))
    assert hacked(0.2, -0.2)
    assert not any(
        hacked(*change)
        for change in [(0.2, 0.2), (-0.2, -0.2), (0.2, 0.0), (0.0, -0.2), (0.2, -0.03)]
    )


# what a line holds that is wrong, from which count of such lines on, and what is told
SUDDEN = {
    "unrewarded": ({"accuracy": 0.0}, 3, "not one answer was right"),
    "cut_off": ({"completions/clipped_ratio": 1.0}, 3, "cut off by the length limit"),
    "drifted": ({"kl": 8.0}, 1, "8.00 nats"),
    "uncertain": ({"entropy": 6.2}, 1, "6.20 nats"),
    "not_finite": ({"grad_norm": math.nan, "loss": math.inf}, 1, "grad_norm, loss: not finite"),
}
_FIELDS = {"unrewarded": "unrewarded_steps", "cut_off": "cut_off_steps", "drifted": "high_kl"}
_FIELDS |= {"uncertain": "entropy_rise", "not_finite": "not_finite"}


def plain(step, **values):
    return {
        "step": step,
        "accuracy": 0.5,
        "completions/clipped_ratio": 0.9,
        "kl": 0.1,
        "entropy": 1.0,
        "grad_norm": 1.0,
        "loss": 0.0,
        **values,
    }


@pytest.mark.parametrize("name", SUDDEN)
def test_what_is_plainly_wrong_is_told_within_a_few_steps(name):
    values, count, words = SUDDEN[name]
    lines = [plain(1), plain(2), *(plain(3 + i, **values) for i in range(count))]
    for short in range(count):
        assert not watch(lines[: 2 + short])[1]
    ((step, text),) = watch(lines)[1]
    assert step == 2 + count and words in text
    off = dataclasses.replace(Guards(), **{_FIELDS[name]: 0})
    assert not watch(lines, off)[1]


def test_steps_that_are_wrong_but_not_in_a_row_are_no_alarm():
    wrong = {"accuracy": 0.0, "completions/clipped_ratio": 1.0}
    lines = [plain(i, **(wrong if i % 3 else {})) for i in range(12)]
    assert not watch(lines)[1]


def test_a_skipped_update_is_told_and_whole_steps_of_them_are_counted():
    counts = [0, 0, 1, 1, 3, 5, 7]
    lines = [plain(i, skipped_updates=count) for i, count in enumerate(counts)]
    found, told = watch(lines)
    assert [step for step, _ in told] == [2] and "1 update(s) were skipped" in told[0][1]
    assert [line.get("alarm/skipped") for line in found] == [None, None, 1, None, 1, 1, 1]
    in_a_row = [alarms.skipped_in_a_row(lines[: i + 1], 2) for i in range(len(lines))]
    assert in_a_row == [0, 0, 0, 0, 2, 4, 6]
