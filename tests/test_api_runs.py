"""`sar_jax.train` in this process: what a run leaves, who may stop it, and what is as before."""

import signal
import threading

import pytest
from support.api import small_config
from support.commands import run_command
from support.training import assert_same_state, read_metrics, timeless

import sar_jax
from sar_jax.errors import UserError
from sar_jax.training import stopping


def handlers():
    return [signal.getsignal(number) for number in stopping.SIGNALS]


@pytest.fixture(autouse=True, scope="module")
def _ctrl_c_interrupts():
    """Where tests run in the background, a shell has had Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of three steps, and what `on_step` was told."""
    told = []
    config = small_config()
    run = sar_jax.train(
        config,
        tmp_path_factory.mktemp("whole") / "run",
        lambda step, metrics: told.append((step, metrics)),
    )
    assert config == small_config()
    return run, told


def test_a_run_has_a_workdir_metrics_and_a_policy(whole):
    run, told = whole
    assert run.step == 3 and [step for step, _ in told] == [1, 2, 3]
    assert run.metrics == read_metrics(run.workdir)
    for (step, metrics), line in zip(told, run.metrics[-3:], strict=True):
        assert {"step": step} | metrics == line
    policy = run.load()
    assert policy.step == 3 and policy.config == small_config()
    assert len(policy.generate("How many are 2 and 3?")) == 1
    assert "metrics" not in repr(run)


def test_export_writes_what_the_command_writes(whole, tmp_path):
    run, _ = whole
    written = run.load().export(tmp_path / "api", dtype="bfloat16")
    run_command(
        "sar_jax.export",
        f"--workdir={run.workdir}",
        f"--output={tmp_path / 'command'}",
        "--dtype=bfloat16",
        check=True,
    )
    read = lambda folder: {file.name: file.read_bytes() for file in folder.iterdir()}
    ours, theirs = read(written), read(tmp_path / "command")
    assert ours.keys() == theirs.keys() and "model.safetensors" in ours
    # the card names the folder
    assert {n for n in ours if ours[n] != theirs[n]} <= {"README.md"}
    again = sar_jax.load(written)
    with pytest.raises(UserError, match="is a model folder already"):
        again.export(tmp_path / "other")


def test_false_stops_and_the_same_call_continues_bit_for_bit(whole, tmp_path):
    before = handlers()
    stopped = sar_jax.train(small_config(), tmp_path / "run", lambda step, metrics: step < 2)
    assert stopped.step == 2 and stopped.load().step == 2
    told = []
    done = sar_jax.train(small_config(), tmp_path / "run", lambda step, _: told.append(step))
    assert told == [3] and done.step == 3 and handlers() == before
    assert_same_state(done.workdir, whole[0].workdir, 3)
    assert list(map(timeless, done.metrics)) == list(map(timeless, whole[0].metrics))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("a\nb")])
def test_an_error_of_on_step_is_raised_when_the_run_is_saved(error, tmp_path):
    before = handlers()

    def on_step(step, metrics):
        raise error

    with pytest.raises(type(error)) as found:
        sar_jax.train(small_config(), tmp_path / "run", on_step)
    assert found.value is error and handlers() == before
    assert sar_jax.load(tmp_path / "run").step == 1


def test_ctrl_c_saves_and_then_interrupts(tmp_path, capfd):
    before = handlers()
    with pytest.raises(KeyboardInterrupt):
        sar_jax.train(
            small_config(), tmp_path / "run", lambda *_: signal.raise_signal(signal.SIGINT)
        )
    assert handlers() == before and sar_jax.load(tmp_path / "run").step == 1
    assert f"workdir='{tmp_path / 'run'}'" in capfd.readouterr().out


def test_a_signal_comes_again_also_where_the_run_fails(tmp_path):
    def on_step(step, metrics):
        signal.raise_signal(signal.SIGINT)
        raise ValueError("of mine")

    with pytest.raises(KeyboardInterrupt) as found:
        sar_jax.train(small_config(), tmp_path / "run", on_step)
    assert str(found.value.__context__) == "of mine"


def test_a_second_ctrl_c_does_not_wait_and_the_next_run_begins(tmp_path):
    def on_step(step, metrics):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sar_jax.train(small_config(), tmp_path / "run", on_step)
    with pytest.raises(UserError, match="has no checkpoint yet"):
        sar_jax.load(tmp_path / "run")
    run = sar_jax.train(small_config(steps=1), tmp_path / "run", None)
    assert run.step == 1


def test_a_signal_reaches_the_handler_that_was_there_when_the_run_is_saved(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(sar_jax.load(tmp_path / "run")))
    try:
        sar_jax.train(
            small_config(), tmp_path / "run", lambda *_: signal.raise_signal(signal.SIGTERM)
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [policy.step for policy in heard] == [1]


def test_a_thread_trains_alone_and_hears_no_signal(whole, tmp_path):
    found, refused, before = [], [], handlers()

    def on_step(step, metrics):
        found.append(handlers() == before)
        if step == 1:
            other = threading.Thread(target=train_too)
            other.start()
            other.join()

    def train_too():
        try:
            sar_jax.train(small_config(), tmp_path / "other")
        except UserError as error:
            refused.append(str(error))

    thread = threading.Thread(
        target=lambda: found.append(sar_jax.train(small_config(), tmp_path / "run", on_step))
    )
    thread.start()
    thread.join()
    *same, run = found
    assert same == [True] * 3 and run.step == 3
    assert refused == ["another run goes on in this process: wait for it to end"]
    assert_same_state(run.workdir, whole[0].workdir, 3)


def test_a_run_without_a_workdir_has_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    runs = [sar_jax.train(small_config(steps=1)) for _ in range(2)]
    assert [str(run.workdir) for run in runs] == ["runs/now", "runs/now-2"]
