"""What takes long says so in a log, too."""

import re

from sar_jax.parallel import progress


def test_where_there_is_no_terminal_a_line_tells_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.bar("scoring", "tokens", total=4000, done=1000) as bar:
        for _ in range(25):  # of 4 seconds each
            now[0] += 4
            bar.advance(120)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "scoring: 2.0k/4.0k tokens, 30/s",
        "scoring: 2.9k/4.0k tokens, 30/s",
        "scoring: 3.9k/4.0k tokens, 30/s",
    ]


def test_what_is_quick_says_nothing(capsys):
    with progress.bar("loading weights", "bytes", total=10) as bar:
        bar.advance(10)
    assert capsys.readouterr().err == ""


def test_amounts_are_short():
    found = [progress.short(x) for x in (0, 3, 3.21, 12.7, 999, 1e3, 99_949, 1.5e5, 2.7e8, 4e12)]
    assert found == ["0", "3", "3.2", "13", "999", "1.0k", "99.9k", "150k", "270M", "4.0T"]
    assert all(re.fullmatch(r"[\d.]+[kMGT]?", text) for text in found)
