"""The two rows fit every width, say what matters first, and draw what the numbers are."""

import math

import numpy as np
import pytest

from sar_jax.training.reporting import panel


def number(rng, low: float, high: float) -> float:
    """Of any size, and now and then not finite."""
    if rng.integers(8) == 0:
        return float(rng.choice([math.nan, math.inf, -math.inf]))
    return float(rng.uniform(low, high))


def any_state(rng) -> panel.State:
    steps = int(10 ** rng.uniform(0, 6))
    chosen = lambda names: [name for name in names if rng.integers(2)]
    series = lambda: [number(rng, -1e6, 1e6) for _ in range(rng.integers(panel.KEPT + 1))]
    return panel.State(
        step=int(rng.integers(steps + 1)),
        steps=steps,
        values={name: series() for name in chosen(panel.NAMES)},
        phase=str(rng.choice(["", *panel.PHASES])),
        detail=str(rng.choice(["", "compiling decode, 3 of 9", "128 of 512 questions"])),
        spent={name: float(rng.uniform(0, 1e5)) for name in chosen(panel.PHASES)},
        pace=rng.choice([None, 0.0, 2.5, 1e6]),
    )


@pytest.mark.parametrize("seed", range(300))
def test_two_rows_are_never_wider_than_the_terminal(seed):
    rng = np.random.default_rng(seed)
    glyphs = (panel.UNICODE, panel.ASCII)[seed % 2]
    for width in (1, 2, 7, 19, 40, 79, 80, 133, 300):
        rows = panel.rows(any_state(rng), width, float(10 ** rng.uniform(-3, 6)), glyphs)
        assert len(rows) == 2
        for row in rows:
            assert row.cell_len <= width and "\n" not in row.plain
            assert glyphs is panel.UNICODE or row.plain.isascii()


def running(**fields) -> panel.State:
    values = {
        "accuracy": [0.5, 0.613],
        "reward/self_aligned/mean": [0.2, 0.281],
        "completions/mean_length": [50.0, 45.2],
        "tokens_per_second": [1200.0, 1240.0],
    }
    spent = {"rollout": 2.0, "verify": 0.0, "score": 1.0, "update": 1.0}
    return panel.State(**dict(step=12, steps=50, values=values, spent=spent, pace=2.0) | fields)


def text(state: panel.State, width: int, seconds: float = 3.0) -> str:
    return "\n".join(row.plain for row in panel.rows(state, width, seconds))


def test_eighty_columns_have_everything():
    shown = text(running(phase="score"), 80)
    for words in (
        "step 12/50", "accuracy 61.3%", "R_SA 0.281", "length 45.2", "1240 tok/s",
        "score 3 s", "rollout━", "2.0 s/step", "1:16 left",
    ):  # fmt: skip
        assert words in shown, words
    assert "▁█" not in text(running(), 60)


def test_forty_columns_have_what_matters_most():
    shown = text(running(phase="score"), 40)
    for words in ("step 12/50", "accuracy 61.3%", "score 3 s", "1:16 left"):
        assert words in shown, words


def test_wide_terminals_have_longer_sparklines():
    rising = [i / 100 for i in range(panel.KEPT)]
    state = running(values={"accuracy": rising})
    drawn = lambda width: sum(c in panel.UNICODE.levels for c in text(state, width))
    assert 4 <= drawn(40) < drawn(60) < drawn(200) == panel.KEPT


def test_before_the_first_step_it_says_what_goes_on():
    state = panel.State(0, 50, phase="rollout", detail="compiling decode, 3 of 9")
    assert "compiling decode, 3 of 9 1:02" in text(state, 80, 62)
    assert "step 0/50" in text(state, 80)


@pytest.mark.parametrize("seed", range(200))
def test_a_sparkline_has_its_lowest_and_highest_values_at_the_ends_of_the_scale(seed):
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(-3, 300)
    values = (size * rng.uniform(-1, 1, rng.integers(2, 81))).tolist()
    width = int(rng.integers(1, 101))
    drawn, last = panel.sparkline(values, width), values[-width:]
    assert len(drawn) == len(last)
    if min(last) < max(last):
        assert drawn[last.index(min(last))] == panel.UNICODE.levels[0]
        assert drawn[last.index(max(last))] == panel.UNICODE.levels[-1]
    rank = [panel.UNICODE.levels.index(c) for c in drawn]
    for a, b in zip(sorted(last), sorted(last)[1:]):
        assert rank[last.index(a)] <= rank[last.index(b)]


def test_what_is_not_finite_leaves_a_gap():
    assert panel.sparkline([1.0, math.nan, 2.0], 3) == "▁·█"


@pytest.mark.parametrize("seed", range(200))
def test_a_phases_part_of_the_bar_is_its_share(seed):
    rng = np.random.default_rng(seed)
    width = int(rng.integers(16, 101))
    names = rng.permutation(panel.PHASES)[: rng.integers(1, len(panel.PHASES) + 1)]
    spent = {str(name): float(10 ** rng.uniform(-2, 5)) for name in names}
    bar = panel.phase_bar(spent, width)
    assert bar.cell_len == width
    total = sum(spent.values())
    order = [name for name in panel.PHASES if spent.get(name)]
    lengths = {span.style: span.end - span.start for span in bar.spans}
    for name in order:
        drawn = lengths.get(panel._COLOURS[name], 0)
        assert abs(drawn - width * spent[name] / total) <= 1


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "0 s"), (59.9, "59 s"), (80, "1:20"), (7380, "2:03:00"), (273_600, "3 d 4 h"),
     (math.inf, "?"), (math.nan, "?"), (-1, "0 s")],
)  # fmt: skip
def test_durations_as_people_write_them(seconds, words):
    assert panel.duration(seconds) == words
