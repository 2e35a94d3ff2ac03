"""The two rows fit every width, say what matters first, and draw what the numbers are."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar_jax.training import panel

_NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])
_SERIES = st.lists(_NUMBERS, max_size=panel.KEPT)


@st.composite
def states(draw):
    steps = draw(st.integers(1, 10**6))
    return panel.State(
        step=draw(st.integers(0, steps)),
        steps=steps,
        values=draw(st.dictionaries(st.sampled_from(panel.NAMES), _SERIES)),
        phase=draw(st.sampled_from(["", *panel.PHASES])),
        detail=draw(st.sampled_from(["", "compiling decode, 3 of 9", "128 of 512 questions"])),
        spent=draw(st.dictionaries(st.sampled_from(panel.PHASES), st.floats(0, 1e5))),
        pace=draw(st.none() | st.floats(0, 1e6)),
    )


@given(states(), st.integers(1, 300), st.floats(0, 1e6), st.sampled_from(["UNICODE", "ASCII"]))
def test_two_rows_are_never_wider_than_the_terminal(state, width, seconds, glyphs):
    glyphs = getattr(panel, glyphs)
    rows = panel.rows(state, width, seconds, glyphs)
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


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=80), st.integers(1, 100))
def test_a_sparkline_has_its_lowest_and_highest_values_at_the_ends_of_the_scale(values, width):
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


@given(
    st.dictionaries(st.sampled_from(panel.PHASES), st.floats(0.01, 1e5), min_size=1),
    st.integers(16, 100),
)
def test_a_phases_part_of_the_bar_is_its_share(spent, width):
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
