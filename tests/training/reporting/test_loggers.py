"""Trackers get every step once, whatever happens between starts; one that fails harms nothing."""

import json
import math
import pathlib
import shutil
import threading

import pytest
from etils import epath
from support.commands import one_error, run_command
from support.offline import wandb_records
from support.training import small

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.training.reporting import loggers
from sar_jax.training.reporting.loggers import Loggers
from sar_jax.training.reporting.trackers import Opened
from sar_jax.training.settings import checks
from sar_jax.training.storage import workdir

RUN = "0123456789abcdef0123456789abcdef"


class Kept:
    """A tracker in memory: `steps` and `tables` by the id of a run."""

    steps: dict[str, list[tuple[int, dict]]] = {}
    tables: dict[str, list[tuple[int, str, object]]] = {}
    alerts: list[tuple[int, str]] = []
    closed: list[bool] = []

    def open(self, begun):
        self.id = begun.id
        self.steps.setdefault(self.id, [])
        return Opened(self.id, "memory")

    def write(self, step, values):
        self.steps[self.id].append((step, values))

    def answers(self, step, name, table):
        self.tables.setdefault(self.id, []).append((step, name, table))

    def alert(self, step, text):
        self.alerts.append((step, text))

    def close(self, finished):
        self.closed.append(finished)


@pytest.fixture
def kept():
    class Own(Kept):
        steps, tables, alerts, closed = {}, {}, [], []

    return Own


def config(names: str = "wandb") -> config_lib.TrainConfig:
    made = config_lib.TrainConfig()
    made.logging.to = names
    return made


@pytest.fixture
def folder(tmp_path):
    """A run's workdir."""
    made = epath.Path(tmp_path / "run")
    workdir.claim(made, config(), workdir.Facts(RUN, "2026-01-31"))
    return made


def lines(first: int, last: int) -> list[dict[str, float]]:
    return [{"step": step, "accuracy": step / 10} for step in range(first, last + 1)]


def train(made: Loggers, before: int, last: int, finished: bool = False) -> Loggers:
    """A start that finds the lines up to `before`, and goes on to `last`."""
    made.begin(lines(0, before))
    for step in range(before + 1, last + 1):
        made.write(step, {"accuracy": step / 10})
    made.finished = finished
    made.close()
    return made


def steps_of(kept, id: str = RUN) -> list[int]:
    return [step for step, _ in kept.steps[id]]


@pytest.mark.parametrize("resumed", [0, 2, 4, 5])
def test_a_restart_sends_no_step_twice_and_leaves_out_none(folder, kept, resumed):
    """Killed after step 5; the checkpoint is of an earlier one, or of that."""
    train(Loggers(config(), folder, RUN, {"wandb": kept}), -1, 5)
    train(Loggers(config(), folder, RUN, {"wandb": kept}), resumed, 8, finished=True)
    assert kept.steps[RUN] == [(step, {"accuracy": step / 10}) for step in range(9)]
    assert kept.closed == [False, True]


def test_a_tracker_that_comes_later_gets_what_was_before(folder, kept):
    train(Loggers(config(), folder, RUN, {"wandb": kept}), 6, 8)
    assert steps_of(kept) == list(range(9))


def test_a_copy_of_a_workdir_is_a_run_of_its_own_a_moved_one_is_not(folder, kept, tmp_path, capsys):
    train(Loggers(config(), folder, RUN, {"wandb": kept}), -1, 5)
    copy = epath.Path(shutil.copytree(folder, tmp_path / "copy"))
    train(Loggers(config(), copy, RUN, {"wandb": kept}), 4, 7)
    assert f"{copy} is a copy of {folder}" in capsys.readouterr().out
    (other,) = set(kept.steps) - {RUN}
    assert steps_of(kept, other) == list(range(8)) and steps_of(kept) == list(range(6))
    moved = epath.Path(shutil.move(folder, tmp_path / "moved"))
    train(Loggers(config(), moved, RUN, {"wandb": kept}), 4, 7)
    assert steps_of(kept) == list(range(8))
    train(Loggers(config(), copy, RUN, {"wandb": kept}), 7, 9)  # it goes on as what it became
    assert steps_of(kept, other) == list(range(10))


def test_what_an_evaluation_adds_to_a_step_is_sent_alone(folder, kept):
    train(Loggers(config(), folder, RUN, {"wandb": kept}), -1, 5)
    made = Loggers(config(), folder, RUN, {"wandb": kept})
    made.begin(lines(0, 5))
    made.add(5, {"eval/accuracy": 0.5})
    made.close()
    assert kept.steps[RUN][-1] == (5, {"eval/accuracy": 0.5}) and len(kept.steps[RUN]) == 7


@pytest.mark.parametrize("method", ["open", "write", "answers", "alert", "close"])
def test_a_tracker_that_fails_is_told_once_and_the_others_go_on(folder, kept, capsys, method):
    class Failing(kept):
        steps, tables, alerts, closed = {}, {}, [], []

    def fail(*_):
        raise OSError(28, "No space left on device")

    setattr(Failing, method, fail)
    both = {"wandb": Failing, "trackio": kept}
    made = Loggers(config("wandb,trackio"), folder, RUN, both)
    made.begin([])
    for step in range(5):
        made.alert(step, "an alarm")
        made.write(step, {"accuracy": 0.0})
        made.answers(step, "step", [{"question": "q"}])
    made.close()
    told = capsys.readouterr().out
    assert told.count("warning") == 1 and "logging to wandb has ended ([Errno 28] No space" in told
    (own,) = kept.steps.values()
    assert [step for step, _ in own] == list(range(5)) and len(kept.alerts) == 5


def test_a_tracker_that_hangs_holds_up_nothing(folder, kept, capsys, monkeypatch):
    monkeypatch.setattr(loggers, "_SOON", 0.1)
    monkeypatch.setattr(loggers, "_WAIT", 0.2)
    free = threading.Event()

    class Hanging(kept):
        def open(self, begun):
            free.wait()
            raise OSError("late")

    made = Loggers(config(), folder, RUN, {"wandb": Hanging})
    train(made, -1, 50)
    assert "warning: logging to wandb has ended (no answer for 0.2 s)" in capsys.readouterr().out
    free.set()
    made.senders[0].thread.join()
    assert "warning" not in capsys.readouterr().out  # it was told already
    monkeypatch.undo()
    # the next start brings all of it
    train(Loggers(config(), folder, RUN, {"wandb": kept}), 50, 51)
    assert steps_of(kept) == list(range(52))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"wandb": 3}', '{"wandb": {"id": "x"}}'])
def test_a_damaged_note_begins_anew(folder, kept, text):
    (folder / loggers.NAME).write_text(text)
    train(Loggers(config(), folder, RUN, {"wandb": kept}), 1, 2)
    assert steps_of(kept) == [0, 1, 2]


def record(**more) -> dict:
    return {
        "question": "1 + 1?", "answer": "2", "truth": "2", "correct": True, "length": 2,
        "ppl_conditional": math.exp(1.0), "ppl_standalone": math.exp(1.5), "extra": "",
        "token_values": [0.25, 0.75],
    } | more  # fmt: skip


def test_the_table_of_answers_has_their_values():
    made = loggers.table([record(), record(answer="3", correct=False)])
    assert [row[made.columns.index("answer")] for row in made.rows] == ["2", "3"]
    assert made.rows[0][made.columns.index("mean_value")] == pytest.approx(0.5)
    assert made.rows[0][made.columns.index("token_values")] == [0.25, 0.75]
    without = {k: v for k, v in record().items() if k not in ("ppl_standalone", "token_values")}
    assert not {"mean_value", "token_values"} & set(loggers.table([without]).columns)
    unscored = loggers.table([record(ppl_standalone=math.nan)])
    assert "mean_value" not in unscored.columns


@pytest.mark.parametrize("names", ["wandb, trackio", "", "tensorboard", "mlflow,mlflow"])
def test_names_that_are_taken(names):
    made = config(names)
    made.model.path = made.data.train = "x"
    checks.check(made)


@pytest.mark.parametrize("field, value", [
    ("to", "tensorbord"), ("to", "wandb;mlflow"), ("project", ""), ("project", "a/b"),
])  # fmt: skip
def test_names_that_are_not(field, value):
    made = config()
    setattr(made.logging, field, value)
    with pytest.raises(UserError, match=f"config.logging.{field} is"):
        checks.check(made)


def test_a_missing_package_is_one_line_with_its_extra(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"names mlflow, .*: pip install 'sar_jax\[mlflow\]'"):
        loggers.check(config("mlflow"))
    loggers.check(config("tensorboard"))


def test_wandb_without_a_login_is_one_line(tmp_path):
    pytest.importorskip("wandb")
    done = run_command(
        "sar_jax.train", *small("logging.to=wandb"), f"--workdir={tmp_path / 'run'}",
        WANDB_MODE="online", WANDB_API_KEY="", HOME=str(tmp_path), NETRC=str(tmp_path / "none"),
    )  # fmt: skip
    assert "wandb, which has no login: run `wandb login`, or set WANDB_API_KEY" in one_error(done)
    assert not (tmp_path / "run").exists()


# The real ones, offline. A run with a restart, an alarm and a table of answers.


def two_starts(name: str, folder: epath.Path) -> str:
    """The id of the tracker's run."""
    for before, last in ((-1, 2), (1, 4)):
        made = Loggers(config(name), folder, RUN)
        made.begin(lines(0, before))
        for step in range(before + 1, last + 1):
            made.alert(step, "an alarm")
            values = {"accuracy": step / 10, "eval/accuracy": math.nan, "time/score": 1.0}
            made.write(step, values)
            made.answers(step, "step", [record()])
        made.finished = last == 4
        made.close()
        assert not made.senders[0].failed
    return json.loads((folder / loggers.NAME).read_text())[name]["id"]


def test_wandb_offline(folder, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "s" * 40)
    assert two_starts("wandb", folder) == RUN
    found = list(wandb_records(pathlib.Path(folder)))
    assert {r.run.run_id for r in found if r.WhichOneof("record_type") == "run"} == {RUN}
    history = [r.history for r in found if r.WhichOneof("record_type") == "history"]
    assert [h.step.num for h in history] == list(range(5))
    names = ["/".join(item.nested_key) or item.key for h in history for item in h.item]
    assert names.count("accuracy") == 5 and names.count("samples/step/_type") == 5
    assert sum(r.WhichOneof("record_type") == "alert" for r in found) == 5
    (run, *_) = [r.run for r in found if r.WhichOneof("record_type") == "run"]
    settings = {
        item.key or ".".join(item.nested_key): item.value_json for item in run.config.update
    }
    assert json.loads(settings["optimizer.lr"]) == config().optimizer.lr
    files = [p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file()]
    assert not any(b"s" * 40 in data for data in files)


def test_trackio_on_this_machine(folder, monkeypatch, tmp_path):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    for module in ("trackio.utils", "trackio.sqlite_storage"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    id = two_starts("trackio", folder)
    logs = SQLiteStorage.get_logs("sar_jax", id)
    assert [line["step"] for line in logs if "accuracy" in line] == list(range(5))
    (shown, *_) = [line["samples/step"] for line in logs if "samples/step" in line]
    assert shown["_value"][0]["token_values"] == "0.25 0.75"
    assert len(SQLiteStorage.get_alerts("sar_jax")) == 5


def test_mlflow_in_a_file(folder, monkeypatch, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    id = two_starts("mlflow", folder)
    client = MlflowClient()
    run = client.get_run(id)
    assert run.info.status == "FINISHED" and run.data.params["logging.to"] == "mlflow"
    assert [m.step for m in client.get_metric_history(id, "accuracy")] == list(range(5))
    assert {f"alarm.{step:06d}" for step in range(5)} <= set(run.data.tags)
    assert len(client.list_artifacts(id, "samples")) == 5
    # where the server does not know the run there is a new one, with all steps
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    train(Loggers(config("mlflow"), folder, RUN), 2, 5)
    again = json.loads((folder / loggers.NAME).read_text())["mlflow"]["id"]
    assert again != id
    steps = [m.step for m in MlflowClient().get_metric_history(again, "accuracy")]
    assert steps == list(range(6))
