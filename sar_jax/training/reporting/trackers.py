"""The trackers that a run's metrics can go to, each by its own library, imported here alone.

    Tracker.open(begun)    begins or continues a run of theirs; its id there
            write          a step's metrics
            answers        a step's answers as a table
            alert          an alarm
            close          the run is done, or was stopped

Everything may raise, wait for a network or print: `loggers` calls it from a thread of its own.
"""

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sar_jax.text import plugins


class Begun(NamedTuple):
    """What a tracker is told of a run.

    id        of the run there; None where the tracker makes one
    resumed   is there one with this id already?
    name      of the run, for people
    config    settings by dotted path
    folder    for the tracker's own files; None where the workdir is in a bucket
    """

    id: str | None
    resumed: bool
    project: str
    name: str
    config: Mapping[str, Any]
    folder: pathlib.Path | None


class Table(NamedTuple):
    """rows: of one value a column: text, a number, or a list of numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Opened(NamedTuple):
    """id: of the run there; place: where people look."""

    id: str
    place: str


@runtime_checkable
class Tracker(Protocol):
    def open(self, begun: Begun) -> Opened: ...

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def answers(self, step: int, name: str, table: Table) -> None: ...

    def alert(self, step: int, text: str) -> None: ...

    def close(self, finished: bool) -> None: ...


class Wandb:
    """Weights & Biases, or what WANDB_MODE and WANDB_BASE_URL say."""

    def open(self, begun: Begun) -> Opened:
        import wandb

        self.wandb = wandb
        settings = wandb.Settings(
            console="off",  # it would replace stdout, which the panel does
            silent=True,
            save_code=False,
            disable_git=True,  # a diff may hold anything
            init_timeout=_PATIENCE,
            finish_timeout=_PATIENCE,
        )
        self.run = wandb.init(
            id=begun.id,
            project=begun.project,
            name=begun.name,
            config=dict(begun.config),
            dir=None if begun.folder is None else str(begun.folder),
            resume="allow",
            settings=settings,
        )
        return Opened(self.run.id, str(self.run.dir if self.run.offline else self.run.url))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if step < self.run.step:  # what comes late to a step that is closed there
            self.run.summary.update(dict(values))
        else:
            self.run.log(dict(values), step=step)

    def answers(self, step: int, name: str, table: Table) -> None:
        made = self.wandb.Table(columns=list(table.columns), data=[list(r) for r in table.rows])
        self.run.log({name: made}, step=step)

    def alert(self, step: int, text: str) -> None:
        self.run.alert(title=f"step {step}", text=text, level=self.wandb.AlertLevel.WARN)

    def close(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)


class Trackio:
    """Trackio, in TRACKIO_DIR, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say."""

    def open(self, begun: Begun) -> Opened:
        import trackio

        self.trackio = trackio
        name = begun.id or begun.name
        self.run = trackio.init(
            project=begun.project,
            name=name,
            config=dict(begun.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return Opened(name, f'trackio show --project "{begun.project}"')

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def answers(self, step: int, name: str, table: Table) -> None:
        rows = [dict(zip(table.columns, map(_as_text, row))) for row in table.rows]
        self.run.log({name: self.trackio.Table(data=rows)}, step=step)

    def alert(self, step: int, text: str) -> None:
        self.run.alert(title=f"step {step}", text=text, step=step)

    def close(self, finished: bool) -> None:
        self.run.finish()


class Mlflow:
    """MLflow, at MLFLOW_TRACKING_URI; alarms are tags of the run."""

    def open(self, begun: Begun) -> Opened:
        from mlflow import entities
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient, get_tracking_uri

        self.entities, self.client = entities, MlflowClient()
        place = f"the experiment {begun.project!r}"
        if "@" not in get_tracking_uri():  # it may hold a password
            place += f" at {get_tracking_uri()}"
        if begun.resumed:
            try:
                self.client.update_run(begun.id, status="RUNNING")
                self.id = begun.id
                return Opened(self.id, place)
            except MlflowException:
                pass  # another server, or it was deleted there
        known = self.client.get_experiment_by_name(begun.project)
        experiment = known.experiment_id if known else self.client.create_experiment(begun.project)
        self.id = self.client.create_run(experiment, run_name=begun.name).info.run_id
        settings = [entities.Param(name, str(value)[:500]) for name, value in begun.config.items()]
        for i in range(0, len(settings), _MLFLOW_PARAMS):
            self.client.log_batch(self.id, params=settings[i : i + _MLFLOW_PARAMS])
        return Opened(self.id, place)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self.entities.Metric(n, float(v), now, step) for n, v in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def answers(self, step: int, name: str, table: Table) -> None:
        columns = {c: list(column) for c, column in zip(table.columns, zip(*table.rows))}
        self.client.log_table(self.id, columns, f"{name}_{step:06d}.json")

    def alert(self, step: int, text: str) -> None:
        self.client.set_tag(self.id, f"alarm.{step:06d}", text)

    def close(self, finished: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


def _as_text(value: Any) -> Any:
    """A list of numbers as text, which every table shows."""
    return " ".join(f"{v:.2f}" for v in value) if isinstance(value, list) else value


_PATIENCE = 60  # seconds for a network at the beginning and at the end
_MLFLOW_PARAMS = 100  # of a request
TRACKERS: Mapping[str, type[Tracker]] = {"wandb": Wandb, "trackio": Trackio, "mlflow": Mlflow}
NAMES = ("tensorboard", *TRACKERS)  # of which `board` is the first one's own


def named(names: str) -> list[str]:
    """The names of `logging.to`, each once."""
    return list(dict.fromkeys(plugins.split(names)))


def is_known(name: str) -> bool:
    """Is it a tracker's name, or may it be a function of one's own?"""
    return name in NAMES or plugins.looks_like(name)
