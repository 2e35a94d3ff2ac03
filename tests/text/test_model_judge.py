"""A model as judge, through a real server on this machine: verdicts, cache, cost, and failures."""

import pytest
from support.judge import Server

from sar_jax.config import Verification
from sar_jax.text.answers import chosen, model_judge
from sar_jax.text.answers.verifier import Item, Outcome

RIGHT, WRONG, ERROR = Outcome.RIGHT, Outcome.WRONG, Outcome.ERROR


def check(server: Server, kept, items, seconds: float = 60.0):
    config = Verification(
        verifier="judge", workers=1, timeout=seconds, judge_url=server.url, judge_model="m"
    )
    with chosen.verifier(config, kept) as verifier:
        handle = verifier.submit(items)
        return handle.result(), handle.reasons


def item(text: str) -> Item:
    return Item(text, "seven", row={"question": "How many days has a week?"})


def test_its_last_word_counts_and_nothing_is_asked_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("SAR_JAX_JUDGE_KEY", "secret")
    kept = str(tmp_path / "judge.sqlite")
    with Server("It is not WRONG: RIGHT", "wrong.") as server:
        items = [item("It has 7."), item("It has 8.")]
        assert check(server, kept, items) == ([RIGHT, WRONG], {})
        assert check(server, kept, items) == ([RIGHT, WRONG], {})
    assert len(server.requests) == 2
    path, key, body = server.requests[0]
    assert path == "/v1/chat/completions" and key == "Bearer secret"
    assert body["model"] == "m" and body["temperature"] == 0
    asked = body["messages"][-1]["content"]
    assert all(text in asked for text in ("How many days has a week?", "seven", "It has 7."))
    assert model_judge.usage(kept) == (2, 20)
    assert b"secret" not in (tmp_path / "judge.sqlite").read_bytes()


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(tmp_path):
    with Server(503, "RIGHT") as server:
        assert check(server, None, [item("7")]) == ([RIGHT], {})
    assert len(server.requests) == 2
    with Server(401) as server:
        outcomes, reasons = check(server, None, [item("7")])
    assert outcomes == [ERROR] and len(server.requests) == 1
    assert "the judge says error: the judge's server says 401" in reasons[0]


def test_what_says_neither_is_an_error_and_is_asked_again_and_counted(tmp_path):
    kept = str(tmp_path / "judge.sqlite")
    with Server("I cannot tell.", "RIGHT") as server:
        outcomes, reasons = check(server, kept, [item("7")])
        assert outcomes == [ERROR] and "the judge said 'I cannot tell.'" in reasons[0]
        assert check(server, kept, [item("7")]) == ([RIGHT], {})
    assert model_judge.usage(kept) == (1, 20)


def test_no_server_is_an_error_of_each_answer():
    with Server("RIGHT") as server:
        pass
    outcomes, reasons = check(server, None, [item("7")])
    assert outcomes == [ERROR] and "the judge's reply cannot be used" in reasons[0]


@pytest.mark.parametrize("content", [b"", b"not a database at all, but text" * 50])
def test_a_damaged_cache_is_as_good_as_none(tmp_path, content):
    kept = tmp_path / "judge.sqlite"
    kept.write_bytes(content)
    with Server("RIGHT") as server:
        assert check(server, str(kept), [item("7")]) == ([RIGHT], {})
