"""What a report says of its runs: read back from the page's own data."""

import json
import math

from sar_jax.evaluation.measures import Result
from sar_jax.evaluation.pages import report
from sar_jax.evaluation.records import Entry, Model, Results, TaskInfo


def answer(question="q", correct=True, **more):
    row = dict(question=question, truth="4", answer="It is 4.", correct=correct, verdict="right")
    return row | dict(length=5, clipped=False) | more


def shown(name="a", **more):
    lines = [
        {"step": 0, "eval/accuracy": 0.25, "alarms": 0.0},
        {"step": 1, "accuracy": 0.123456789, "kl": math.nan, "alarm/cut_off": 1.0, "alarms": 1.0},
        {"step": 2, "accuracy": 0.5, "kl": 0.1, "eval/accuracy": 0.75, "alarms": 0.0},
        {"step": 3, "alarm/cut_off": 1.0, "alarm/kl": 1.0, "alarms": 2.0},
    ]
    run = report.Shown(name, {"steps": 3, "loss.kl": 0.01}, {"jax": "0.10"}, lines)
    return run._replace(**more)


def data_of(runs, results=None):
    text = report.report_page(runs, results or {})
    begin = text.index('id="data">') + len('id="data">')
    return json.loads(text[begin : text.index("</script>", begin)])


def test_metrics_are_columns_with_a_gap_where_a_step_has_none():
    (run,) = data_of([shown()])["runs"]
    assert run["steps"] == [0, 1, 2, 3]
    assert run["metrics"]["accuracy"] == [None, 0.12346, 0.5, None]
    assert run["metrics"]["kl"] == [None, None, 0.1, None]
    assert run["metrics"]["eval/accuracy"] == [0.25, None, 0.75, None]
    assert run["alarms"] == [{"name": "cut_off", "steps": [1, 3]}, {"name": "kl", "steps": [3]}]


def test_reasoning_behaviours_are_counted_before_and_after():
    before = [answer(answer="Wait, that is wrong."), answer(answer="It is 4.")]
    after = [answer(answer="Let me check: it is 4."), answer(answer=None)]
    (run,) = data_of([shown(before=before, after=after)])["runs"]
    first, last = run["behaviours"]
    assert first == {"backtracking": 0.5, "verification": 0, "subgoals": 0, "enumeration": 0}
    assert last == {"backtracking": 0, "verification": 0.5, "subgoals": 0, "enumeration": 0}
    assert data_of([shown()])["runs"][0]["behaviours"] == [{}, {}]


def test_settings_that_differ_come_first():
    configs = [
        {"steps": 3, "lr": 1e-6, "new": 1},
        {"steps": 3, "lr": 2e-6},
        {"steps": 3, "lr": 1e-6},
    ]
    rows = report.differences(configs)
    assert [(row["name"], row["differs"]) for row in rows] == [
        ("lr", True),
        ("new", True),
        ("steps", False),
    ]
    assert rows[1]["values"] == ["1", "", ""]


def test_questions_are_paired_and_those_whose_verdict_changed_come_first():
    before = [answer(f"q{i}", i % 2 == 0) for i in range(6)] + [answer("gone")]
    after = [answer(f"q{i}", True) for i in reversed(range(6))]
    found = report.pairs(before, after)
    assert [p["before"]["question"] for p in found] == ["q1", "q3", "q5", "q0", "q2", "q4"]
    assert all(p["before"]["question"] == p["after"]["question"] for p in found)
    assert [p["before"]["correct"] for p in found[:3]] == [False] * 3


def test_pairs_with_heat_maps_come_first_and_their_tokens_are_in_the_page():
    mapped = dict(tokens=["It", " is"], token_values=[0.123456, -1.0])
    before = [answer("a", False), answer("b", True, **mapped), answer("c", False, **mapped)]
    after = [answer("a"), answer("b", True, **mapped), answer("c", **mapped)]
    (run,) = data_of([shown(before=before, after=after)])["runs"]
    assert [p["before"]["question"] for p in run["pairs"]] == ["c", "b", "a"]
    assert run["pairs"][0]["after"]["tokens"] == ["It", " is"]
    assert run["pairs"][0]["after"]["token_values"] == [0.123, -1.0]
    assert "tokens" not in run["pairs"][2]["after"]
    long = [answer("a", tokens=["x"] * 9000, token_values=[0.0] * 9000)]
    (run,) = data_of([shown(before=long, after=long)])["runs"]
    assert len(run["pairs"][0]["before"]["tokens"]) == 1500


def test_the_ends_of_the_rewards_and_what_was_not_judged():
    samples = [answer(f"q{i}", reward=float(r)) for i, r in enumerate([3, 1, 2, *[5] * 20, -4, 9])]
    samples += [answer("nan", reward=math.nan), answer("odd", verdict="error", reward=4.0)]
    (run,) = data_of([shown(samples=samples)])["runs"]
    assert [a["reward"] for a in run["most"]] == [9, *[5] * 7]
    assert [a["reward"] for a in run["least"]] == [-4, 1, 2, 3, 4, 5, 5, 5]
    assert [a["question"] for a in run["unjudged"]] == ["odd"]


def test_long_answers_are_cut_and_evil_ones_are_text():
    evil = "</script><script>alert(1)</script>"
    run = shown(evil, samples=[answer(evil, answer="x" * 100_000, reward=1.0)])
    text = report.report_page([run], {})
    assert text.count("<script") == text.count("</script>") == 2 and len(text) < 100_000
    (found,) = data_of([run])["runs"]
    assert found["name"] == evil and len(found["most"][0]["answer"]) < 7000


def test_an_evaluation_shows_its_intervals():
    result = Result(accuracy=0.5, length=20.0, clipped=0.1, questions=8, errors=0.0,
                    length_correct=None, length_unclipped=None)  # fmt: skip
    entry = Entry(result, (0.2, 0.8), task=TaskInfo("gsm8k:8", "f", 8, 0), aes=0.3)
    found = Results(Model("runs/a", 7, "f"), {}, {"gsm8k": entry}, {})
    (shown_results,) = data_of([], {"mine": found})["results"]
    (row,) = shown_results["rows"]
    assert shown_results["model"] == "step 7 of runs/a" and shown_results["name"] == "mine"
    assert row["interval"] == [0.2, 0.8] and row["name"] == "gsm8k" and row["aes"] == 0.3
