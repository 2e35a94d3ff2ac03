"""The page of a plan: bars as long as the bytes and seconds that they are of, and nothing else."""

import dataclasses
import math
import re
from html.parser import HTMLParser

import pytest
from support.plans import made

from sar_jax.planning import estimate, page

VOID = {"meta", "line", "rect"}


class Elements(HTMLParser):
    """Every element's name and attributes, in order; fails where one is not closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID or (tag == "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def rects(self, kind):
        return [a for tag, a in self.found if tag == "rect" and a["class"] == kind]


def plan(**changed):
    """Where ten bytes fit: one program of eight, one of twelve, and one without room."""
    made_up = made({})
    programs = {
        "small": estimate.Measured(total=8.0, beside=3, temporary=1.0, arguments=2),
        "large": estimate.Measured(total=12.0, beside=0, temporary=7.0, arguments=5),
        "gradient": estimate.Measured(total=math.inf, beside=3, temporary=math.inf),
    }
    times = {
        "small": estimate.Time(2, 1e9, 1.0, 0.5, 0.25, 2.0),
        "large": estimate.Time(1, 1e9, 0.5, 6.0, None, 6.0),
    }
    return dataclasses.replace(
        made_up, programs=programs, times=times, peak=math.inf, step_seconds=8.0, **changed
    )


def width(rect):
    return float(rect["width"])


def test_a_bar_is_as_long_as_its_bytes():
    found = Elements(page.plans_page("x", [("", plan())], 10))
    bars = {kind: found.rects(kind) for kind in "abcd"}
    y = {rect["y"] for rect in bars["a"]}
    memory = [rect for kind in "abcd" for rect in bars[kind] if float(rect["height"]) > 10]
    (line,) = (a for tag, a in found.found if tag == "line" and a["class"] == "limit")
    start = min(float(rect["x"]) for rect in memory)
    byte = (float(line["x1"]) - start) / 10  # the limit
    rows = {}
    for rect in memory:
        rows.setdefault(rect["y"], []).append(rect)
    small, large = (rows[at] for at in sorted(rows, key=float))
    assert [width(r) / byte for r in small] == pytest.approx([2, 1, 2, 3], abs=0.01)
    assert [width(r) / byte for r in large] == pytest.approx([5, 7], abs=0.01)
    for row in (small, large):  # each begins where the one before ends
        ends = [float(r["x"]) + width(r) for r in row]
        assert [float(r["x"]) for r in row] == pytest.approx([start, *ends[:-1]], abs=0.05)
    assert float(large[-1]["x"]) + width(large[-1]) > float(line["x1"]) and len(y) > 1
    text = " ".join(found.text)
    assert "too much" in text and "does not fit" in text


def test_a_step_s_programs_follow_each_other():
    found = Elements(page.plans_page("x", [("", plan())], 10))
    whole = [r for r in found.rects("back") if float(r["height"]) < 30][1:]  # after the memory's
    second = sum(map(width, whole)) / 8
    assert [width(r) / second for r in whole] == pytest.approx([2, 6], abs=0.01)
    assert float(whole[1]["x"]) == pytest.approx(float(whole[0]["x"]) + width(whole[0]), abs=0.02)
    thin = lambda kind: [r for r in found.rects(kind) if float(r["height"]) < 10]
    assert [width(r) / second for r in thin("a")] == pytest.approx([2, 0.5], abs=0.01)
    assert [width(r) / second for r in thin("b")] == pytest.approx([1, 6], abs=0.01)
    assert [width(r) / second for r in thin("c")] == pytest.approx([0.5], abs=0.01)


@pytest.mark.parametrize("whole", [1e-7, 0.0347, 1.0, 7.3, 21.3, 100.0, 86400.0])
def test_ticks_are_round_and_few(whole):
    ticks = page._ticks(whole)
    assert 2 < len(ticks) <= 7 and ticks[0] == 0 and 0.6 * whole < ticks[-1] <= whole * 1.001
    first = f"{ticks[1]:.3e}"
    assert re.fullmatch(r"[125]\.000e.*", first)


def test_texts_are_no_markup_and_nothing_is_fetched():
    evil = '"><script>alert(1)</script><img src=x onerror=y>&amp;'
    given = plan(topology=evil, overrides=[evil])
    given.programs[evil] = given.programs["small"]
    given.times[evil] = given.times["small"]
    text = page.plans_page(evil, [(evil, given)], 10)
    found = Elements(text)
    names = {tag for tag, _ in found.found}
    assert not names & {"script", "img", "link", "iframe"} and "svg" in names
    assert "".join(found.text).count(evil) >= 6
    assert not [a for _, attributes in found.found for a in attributes if a.startswith("on")]
    assert "http:" not in text and "https:" not in text and "default-src 'none'" in text


def test_every_plan_has_a_section_with_its_overrides():
    other = plan(topology="v6e:2x4")
    text = page.plans_page("x", [("", plan()), ("--config.rollout.slots=auto", other)], 10)
    first, second = text.split("<section>")[1:]
    assert "v5e:2x4" in first and "slots=auto" not in first
    assert "v6e:2x4" in second and "with --config.rollout.slots=auto" in second


def test_a_step_without_seconds_is_no_error():
    empty = dataclasses.replace(plan(), times={}, step_seconds=0.0)
    Elements(page.plans_page("x", [("", empty)], 1))
