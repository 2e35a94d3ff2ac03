"""A run on a real terminal: the panel fits it, nothing is torn, and the terminal is left in order;
elsewhere a line a step, without a code."""

import contextlib
import re
import signal
import sys

import jax
import pytest
from support.commands import run_command
from support.training import read_metrics, small

from sar_jax.parallel import progress
from sar_jax.training.reporting import live, screen

pytest.importorskip("pyte")
from support.terminal import Terminal, plain  # noqa: E402

COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")
# no alarms, and no save before the last
QUIET = ("guards.unrewarded_steps=0", "guards.cut_off_steps=0", "checkpoint.every_steps=500")
EVALUATED = ("data.eval=arithmetic:8", "data.eval_questions=8")


def train(workdir, *overrides: str) -> list[str]:
    return ["sar_jax.train", *small(*QUIET, *overrides), f"--workdir={workdir}"]


def panel_of(terminal: Terminal) -> list[str]:
    """The rows of the panel that are on the screen, from the first of them."""
    return [line for line in terminal.lines() if re.match(r"step \d+/\d+", line)]


def from_step(step: int) -> str:
    """A pattern of that step or a later one: the panel need not show every step."""
    return f"step ({'|'.join(map(str, range(step, 501)))})/500"


def test_a_run_in_a_window_that_is_resized_while_it_runs(tmp_path):
    """80 columns, then 40, then 200; Ctrl-C ends it. COLUMNS, which is exported, is another."""
    workdir = tmp_path / "run"
    with Terminal(80) as terminal:
        process = terminal.start(*train(workdir, "steps=500", *EVALUATED))
        begun = terminal.read_until(from_step(2), process)
        assert "evaluation at step 0: accuracy" in begun
        for columns in (40, 200):
            terminal.resize(columns)
            before = int(re.findall(r"step (\d+)/500", plain(terminal.raw))[-1])
            terminal.read_until(from_step(before + 3), process)
            (row,) = panel_of(terminal)[-1:]
            assert len(row) <= columns and "accuracy" in row
            assert ("tok/s" in row) == (columns == 200)
        process.send_signal(signal.SIGINT)
        status = terminal.read_to_the_end(process)
        lines = terminal.lines()
        assert not terminal.screen.cursor.hidden and b"\x1b[?25l" not in terminal.raw
        assert terminal.screen.cursor.x == 0
    assert status == 130
    printed = plain(terminal.raw)
    assert "stopping after this step and saving the run (press Ctrl-C again" in printed
    last = read_metrics(workdir)[-1]["step"]
    assert any(line.startswith(f"stopped and saved at step {last} of 500.") for line in lines)
    assert sum(line.startswith(f"step {last}/500") for line in lines) == 1
    # a sampled answer is whole, and above the panel
    assert re.search(r"\[step 1\] .*\n  -> .*\n     (right|wrong).* tokens; verifiable", printed)
    assert COLOUR.search(terminal.raw)


def test_a_terminal_that_is_closed_does_not_end_the_run_unsaved(tmp_path):
    workdir = tmp_path / "run"
    with Terminal(200) as terminal:
        process = terminal.start(*train(workdir, "steps=500"), NO_COLOR="1")
        terminal.read_until(from_step(2), process)
        assert not COLOUR.search(terminal.raw)
        terminal.hang_up()
        process.send_signal(signal.SIGHUP)
        assert process.wait(900) == 130
    last = read_metrics(workdir)[-1]["step"]
    assert (workdir / f"checkpoints/{last:08d}").is_dir()


def test_through_a_pipe_a_line_a_step_and_no_code(tmp_path):
    """Whatever asks for colours."""
    done = run_command(*train(tmp_path / "run", "steps=2"), check=True, FORCE_COLOR="1")
    steps = re.findall(
        r"^step (\d)/2  reward \S+  accuracy \S+%  length \S+  R_SA \S+  tok/s \d+$",
        done.stdout,
        re.MULTILINE,
    )
    assert steps == ["1", "2"]
    assert "\x1b" not in done.stdout.split("page to look at")[0] and "\r" not in done.stdout


@pytest.fixture
def terminal(monkeypatch):
    """Of 80 columns, which `rich` takes where this process' own streams are no terminals."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("JPY_PARENT_PID", "MPLBACKEND", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with Terminal(80) as terminal:
        yield terminal


METRICS = {
    "reward/mean": 1.0, "accuracy": 0.5, "completions/mean_length": 3.0, "tokens_per_second": 9.0,
    "time/rollout": 1.0, "time/score": 1.0, "time/update": 1.0,
}  # fmt: skip


def test_an_exception_leaves_the_terminal_in_order(terminal):
    with contextlib.redirect_stdout(terminal.theirs):
        with pytest.raises(ZeroDivisionError), live.Screen(0, 9, {}) as told:
            assert sys.stdout is not terminal.theirs
            print("a line " * 20)
            told.stepped(1, METRICS)
            raise ZeroDivisionError
        assert sys.stdout is terminal.theirs
        print("after", flush=True)
    terminal.read()
    lines = [line for line in terminal.lines() if line]
    assert "".join(lines[:2]).startswith("a line " * 19) and lines[-1] == "after"
    assert lines[-3].startswith("step 1/9") and len(lines) == 5
    assert not terminal.screen.cursor.hidden


def test_a_program_is_named_while_it_is_compiled():
    told, seen = live.Screen(0, 9, {"cubed": "rollout", "other": "update"}), []
    with told:
        # called after the screen's own
        jax.monitoring.register_event_duration_secs_listener(
            lambda *_, **about: seen.append(told.state.detail)
        )

        def cubed(x):
            return x**3

        jax.jit(cubed)(2.0)
    assert "compiling rollout, 1 of 2" in seen and seen[-1] == told.state.detail == ""


def test_what_a_signal_says_comes_above_the_panel(terminal):
    with contextlib.redirect_stdout(terminal.theirs), live.Screen(0, 9, {}) as told:
        assert told.tell("stopping")
        told.begin("update")
        terminal.read_until("update", _Lives())
    terminal.read()
    lines = [line for line in terminal.lines() if line]
    assert lines[:2] == ["stopping", "step 0/9"]
    assert not live.Screen(0, 9, {}).tell("nothing shows it")


class _Lives:
    def poll(self):
        return None


@pytest.mark.parametrize(
    "environment",
    [
        {"TERM": "dumb"},
        {"TERM": "unknown"},
        {"JPY_PARENT_PID": "1"},
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    ],
)
def test_where_the_cursor_cannot_move_there_are_lines(terminal, monkeypatch, environment):
    assert progress.is_live(terminal.theirs)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not progress.is_live(terminal.theirs)
    with contextlib.redirect_stdout(terminal.theirs), live.Screen(0, 9, {}) as told:
        told.stepped(1, METRICS)
    assert terminal.read() == b"step 1/9  reward 1.000  accuracy 50.0%  length 3.0  tok/s 9\r\n"


def test_a_bar_is_gone_when_it_has_ended(terminal):
    out, err = contextlib.redirect_stdout, contextlib.redirect_stderr
    with out(terminal.theirs), err(terminal.theirs):
        with progress.bar("loading", "parameters", 2_000_000) as bar:
            bar.advance(1_000_000)
            print("a line above")
            terminal.read_until(r"loading .*1.0M/2.0M", _Lives())
    terminal.read()
    assert [line for line in terminal.lines() if line] == ["a line above"]


def test_an_answer_cannot_move_the_cursor(capsys):
    answer = {
        "question": "a\x1b[2Jb\rc",
        "answer": "\x07\u202eabc\x9b1m",
        "truth": "\x08",
        "correct": False,
        "length": 1,
        "reward/verifiable": 0.0,
    }
    screen.show_samples(1, [answer])
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable() and "<U+202E>abc<U+009B>1m" in printed
