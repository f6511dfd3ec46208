"""Reads an experiment's runs back from MLflow, from a database or from a server.

A database is read by SQL: that takes seconds, where MLflow's client takes minutes, as it creates an
object for each measurement. The database is opened read-only here.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gan_bench.config.declared import FinalMeasurement
from gan_bench.errors import HiddenError, UserError
from gan_bench.journal.scores.score_names import compared_scores
from gan_bench.registry import nearest
from gan_bench.tracking.runs import packed_tags
from gan_bench.tracking.runs.hidden import deleted_experiment
from gan_bench.tracking.runs.tags import ABOUT, STUDY
from gan_bench.tracking.store.address import (
    is_server,
    quiet_mlflow,
    reason,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.store.database import check_version, open_read_only

if TYPE_CHECKING:
    from sqlalchemy import Connection

LARGEST = 1.7976931348623157e308  # MLflow's database stores it in place of infinity
AT_ONCE = 8  # requests to a server


@dataclass
class StoredRun:
    """A run as MLflow holds it.

    Attributes:
        id: MLflow's.
        started, ended: In ms since 1970; `ended` is None while it is running.
        tags, params: As text; with all settings and protocols after `unpack`.
        metrics: The names of its metrics.
        keys: (n,) index into `metrics`, of each measurement.
        steps, times, values: (n,) of each measurement; times in ms since 1970. The order is by
            metric, step and time.
    """

    id: str
    started: int
    ended: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    keys: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    steps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))

    def measured(self, rows: Iterable[tuple[str, int, int, float]]) -> None:
        """Store the run's measurements, (metric, step, time, value) each, in order."""
        names, steps, times, values = list(zip(*rows, strict=True)) or [(), (), (), ()]
        index = {name: i for i, name in enumerate(dict.fromkeys(names))}
        self.metrics = list(index)
        keys = np.fromiter((index[name] for name in names), np.int32, len(names))
        self.steps, self.times = np.array(steps, np.int64), np.array(times, np.int64)
        order = np.lexsort((self.times, self.steps, keys))
        self.keys, self.steps, self.times = keys[order], self.steps[order], self.times[order]
        ordered = np.array(values, np.float64)[order]
        is_infinite = np.abs(ordered) >= LARGEST
        self.values = np.where(is_infinite, np.copysign(np.inf, ordered), ordered)

    def unpack(self) -> None:
        """Put what the hidden tags hold among params and tags, where earlier versions had it."""
        self.params = packed_tags.with_settings(self.tags, self.params)
        self.tags = packed_tags.with_protocols(self.tags)

    def compared(self, final: FinalMeasurement | None) -> dict[str, tuple[str, float]]:
        """Return the run's scores as `score_names.compared_scores` does."""
        ends = np.flatnonzero(np.diff(self.keys, append=-1))
        latest = {self.metrics[self.keys[end]]: (int(self.steps[end]), float(self.values[end]))
                  for end in ends}
        last_step = int(self.steps.max()) if len(self.steps) else 0
        return compared_scores(latest, last_step, self._protocol_of, final)

    def _protocol_of(self, full: str) -> dict[str, Any]:
        """Return how a score was measured; empty if its tag does not say."""
        try:
            protocol = json.loads(self.tags.get(f"protocol.{full}", ""))
        except (ValueError, RecursionError):
            return {}
        return protocol if isinstance(protocol, dict) else {}


@dataclass(frozen=True)
class Stored:
    """An experiment as MLflow holds it: the tag of what it declares, and the runs of its grid."""

    about: str
    runs: list[StoredRun]


def read_experiment(uri: str, name: str) -> Stored:
    """Return what the store holds of an experiment, but runs that were deleted and study runs.

    Raises:
        UserError: There is no such experiment, or the store cannot be read.
    """
    database = sqlite_path(uri)
    try:
        if database is not None and not database.exists():
            raise UserError(f"there is no {database} yet: run an experiment first, or give --root "
                            f"or --tracking-uri")
        with quiet_mlflow(), _pause_garbage_collection():
            return _by_client(uri, name) if is_server(uri) else _by_sql(uri, name)
    except UserError:
        raise
    except Exception as error:  # from a server, or from any database driver
        raise UserError(f"cannot read MLflow at {without_password(uri)}: {reason(error, uri)}"
                        ) from error


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Pause the search for cycles: among millions of tuples it takes half of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _by_sql(uri: str, name: str) -> Stored:
    with connected(uri) as connection:
        return _select(connection, uri, name)


@contextmanager
def connected(uri: str) -> Iterator[Connection]:
    """Open a database; an SQLite file read-only."""
    import sqlalchemy

    database = sqlite_path(uri)
    if database:
        engine = sqlalchemy.create_engine("sqlite://", creator=lambda: open_read_only(database))
    else:
        engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _select(connection: Connection, uri: str, name: str) -> Stored:
    from sqlalchemy import text

    def rows(query: str, **values: object) -> list[Any]:
        return list(connection.execute(text(query), values))

    for (version,) in rows("select version_num from alembic_version"):
        check_version(uri, version)
    experiments = rows("select name, experiment_id, lifecycle_stage from experiments")
    experiment = _choose(uri, name, {row[0]: (str(row[1]), row[2]) for row in experiments})
    of_experiment = "where experiment_id = :experiment and lifecycle_stage = 'active'"
    runs = {row[0]: StoredRun(row[0], *row[1:]) for row in rows(
        f"select run_uuid, start_time, end_time from runs {of_experiment}",
        experiment=experiment)}
    for table in ("tags", "params"):
        for run, key, value in rows(
                f"select run_uuid, key, value from {table} where run_uuid in "
                f"(select run_uuid from runs {of_experiment})", experiment=experiment):
            if run in runs:  # a run may have begun after the first query
                getattr(runs[run], table)[key] = value
    runs = {run.id: run for run in runs.values() if STUDY not in run.tags}
    for run in runs.values():
        run.unpack()
        # In the order of MLflow's index. The driver's own tuples: there may be millions, and
        # SQLAlchemy would wrap each in an object.
        run.measured(connection.execute(text(
            "select key, step, timestamp, case when is_nan then null else value end from metrics "
            "where run_uuid = :run order by key, step"), {"run": run.id},
        ).cursor.fetchall())
    tags = rows("select value from experiment_tags where experiment_id = :experiment and "
                "key = :key", experiment=experiment, key=ABOUT)
    return Stored(str(tags[0][0]) if tags else "", list(runs.values()))


def _by_client(uri: str, name: str) -> Stored:
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(tracking_uri=uri)
    experiments = {experiment.name: experiment for experiment in _all_pages(
        lambda token: client.search_experiments(ViewType.ALL, page_token=token))}
    _choose(uri, name, {each.name: (each.experiment_id, each.lifecycle_stage)
                        for each in experiments.values()})
    experiment = experiments[name]
    runs, metrics_of_runs = [], []
    for entity in _all_pages(lambda token: client.search_runs(
            [experiment.experiment_id], page_token=token)):
        if STUDY in entity.data.tags:
            continue
        runs.append(StoredRun(entity.info.run_id, entity.info.start_time, entity.info.end_time,
                              dict(entity.data.tags), dict(entity.data.params)))
        runs[-1].unpack()
        metrics_of_runs.append(sorted(entity.data.metrics))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [[pool.submit(client.get_metric_history, run.id, metric) for metric in metrics]
                   for run, metrics in zip(runs, metrics_of_runs, strict=True)]
        for run, histories in zip(runs, futures, strict=True):
            run.measured((m.key, m.step, m.timestamp, m.value) for history in histories
                         for m in history.result())
    return Stored(experiment.tags.get(ABOUT, ""), runs)


def _all_pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield the items of every page of an answer."""
    token = None
    while token != "":
        page = search(token)
        yield from page
        token = page.token or ""


def _choose(uri: str, name: str, experiments: dict[str, tuple[str, str]]) -> str:
    """Return the id of the experiment with this name.

    Args:
        uri: The store.
        name: The experiment's.
        experiments: The id and the lifecycle stage of each by name, deleted ones too.
    """
    experiments.pop("Default", None)  # MLflow creates it
    experiment_id, stage = experiments.get(name, ("", ""))
    if stage == "deleted":
        raise HiddenError(deleted_experiment(uri, name, experiment_id))
    if not stage:
        active = [other for other, (_, stage) in experiments.items() if stage != "deleted"]
        hint = nearest(name, active) if active else "MLflow holds no experiments"
        raise UserError(f"there is no experiment {name!r} in MLflow; {hint}")
    return experiment_id
