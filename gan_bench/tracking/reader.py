"""The rows that MLflow holds of an experiment, from a database or from a server.

A database is read by SQL: MLflow's client makes an object of every measurement, and takes minutes
for what takes seconds so. It is opened for reading alone, so that a report never changes it.
"""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gan_bench.errors import UserError
from gan_bench.registry import nearest
from gan_bench.tracking.address import (
    is_server,
    quiet_mlflow,
    reason,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.database import check_version
from gan_bench.tracking.tags import ABOUT

if TYPE_CHECKING:
    from sqlalchemy import Connection

LARGEST = 1.7976931348623157e308  # what MLflow's database holds in the place of infinity
AT_ONCE = 8  # requests to a server


@dataclass
class StoredRun:
    """A run as MLflow holds it.

    Attributes:
        id: MLflow's.
        started, ended: In ms since 1970; `ended` is None while it is running.
        tags, params: As text.
        metrics: The names of its metrics.
        keys: (n,) index into `metrics`, for each measurement.
        steps, times, values: (n,) of each; times in ms since 1970. By metric, step and time.
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
        """Take over its measurements, (metric, step, time, value) each, and put them in order."""
        names, steps, times, values = list(zip(*rows, strict=True)) or [(), (), (), ()]
        place = {name: i for i, name in enumerate(dict.fromkeys(names))}
        self.metrics = list(place)
        keys = np.fromiter((place[name] for name in names), np.int32, len(names))
        self.steps, self.times = np.array(steps, np.int64), np.array(times, np.int64)
        order = np.lexsort((self.times, self.steps, keys))
        self.keys, self.steps, self.times = keys[order], self.steps[order], self.times[order]
        found = np.array(values, np.float64)[order]
        self.values = np.where(np.abs(found) >= LARGEST, np.copysign(np.inf, found), found)


@dataclass(frozen=True)
class Stored:
    """An experiment as MLflow holds it: the tag of what it declares, and its runs."""

    about: str
    runs: list[StoredRun]


def read_experiment(uri: str, name: str) -> Stored:
    """Return what the store holds of an experiment; runs that were deleted there are left out.

    Raises:
        UserError: There is no such experiment, or the store cannot be read.
    """
    database = sqlite_path(uri)
    try:
        if database is not None and not database.exists():
            raise UserError(f"there is no {database} yet: run an experiment first, or give --root "
                            f"or --tracking-uri")
        with quiet_mlflow(), _uncollected():
            return _by_client(uri, name) if is_server(uri) else _by_sql(uri, name)
    except UserError:
        raise
    except Exception as error:  # a server, or whatever database driver is behind the address
        raise UserError(f"cannot read MLflow at {without_password(uri)}: {reason(error, uri)}"
                        ) from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from searching millions of tuples for cycles, again and again: half the time."""
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
    """Open a database, an SQLite file for reading alone."""
    import sqlalchemy

    database = sqlite_path(uri)
    engine = (sqlalchemy.create_engine("sqlite://", creator=lambda: _open(database)) if database
              else sqlalchemy.create_engine(uri))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _open(database: Path) -> sqlite3.Connection:
    """Open a database for reading alone, also where nothing can be written beside it."""
    address = f"{database.as_uri()}?mode=ro"
    try:
        connection = sqlite3.connect(address, uri=True)
        connection.execute("select 1 from sqlite_master")
    except sqlite3.OperationalError:
        if os.access(database.parent, os.W_OK, effective_ids=True):
            raise
    else:
        return connection
    # SQLite makes files beside a database with a write-ahead log even to read it. Where it cannot,
    # and nothing is left in a log, all is in the file itself.
    for log in (Path(f"{database}{ending}") for ending in ("-wal", "-journal")):
        if log.exists() and log.stat().st_size:
            raise UserError(f"{database}: cannot be read in a folder that cannot be written to, "
                            f"for {log.name} holds what is not in it yet; copy both to another "
                            f"folder, and read them there")
    return sqlite3.connect(f"{address}&immutable=1", uri=True)


def _select(connection: Connection, uri: str, name: str) -> Stored:
    from sqlalchemy import text

    def rows(query: str, **values: object) -> list[Any]:
        return list(connection.execute(text(query), values))

    for (version,) in rows("select version_num from alembic_version"):
        check_version(uri, version)
    active = rows("select name, experiment_id from experiments where lifecycle_stage = 'active'")
    experiment = _choose(name, dict(map(tuple, active)))
    of_it = "where experiment_id = :experiment and lifecycle_stage = 'active'"
    runs = {row[0]: StoredRun(row[0], *row[1:]) for row in rows(
        f"select run_uuid, start_time, end_time from runs {of_it}", experiment=experiment)}
    for table in ("tags", "params"):
        for run, key, value in rows(
                f"select run_uuid, key, value from {table} where run_uuid in "
                f"(select run_uuid from runs {of_it})", experiment=experiment):
            if run in runs:  # another may have begun since
                getattr(runs[run], table)[key] = value
    for run in runs.values():
        # In the order of MLflow's own index. The driver's tuples, of which there may be millions,
        # without an object of SQLAlchemy's around each.
        run.measured(connection.execute(text(
            "select key, step, timestamp, case when is_nan then null else value end from metrics "
            "where run_uuid = :run order by key, step"), {"run": run.id},
        ).cursor.fetchall())
    tags = rows("select value from experiment_tags where experiment_id = :experiment and "
                "key = :key", experiment=experiment, key=ABOUT)
    return Stored(str(tags[0][0]) if tags else "", list(runs.values()))


def _by_client(uri: str, name: str) -> Stored:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = {e.name: e for e in _all(lambda token: client.search_experiments(
        page_token=token))}
    experiment = experiments[_choose(name, {name: name for name in experiments})]
    runs, histories = [], []
    for found in _all(lambda token: client.search_runs(
            [experiment.experiment_id], page_token=token)):
        runs.append(StoredRun(found.info.run_id, found.info.start_time, found.info.end_time,
                              dict(found.data.tags), dict(found.data.params)))
        histories.append(sorted(found.data.metrics))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [[pool.submit(client.get_metric_history, run.id, key) for key in keys]
                   for run, keys in zip(runs, histories, strict=True)]
        for run, answers in zip(runs, futures, strict=True):
            run.measured((m.key, m.step, m.timestamp, m.value) for answer in answers
                         for m in answer.result())
    return Stored(experiment.tags.get(ABOUT, ""), runs)


def _all(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield what every page of an answer holds."""
    token = None
    while token != "":
        page = search(token)
        yield from page
        token = page.token or ""


def _choose(name: str, known: dict[str, str]) -> str:
    known.pop("Default", None)  # MLflow's own
    if name not in known:
        raise UserError(f"there is no experiment {name!r} in MLflow; "
                        + (nearest(name, list(known)) if known else "it holds none at all"))
    return known[name]
