"""Checks of an SQLite database, without importing MLflow."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gan_bench.errors import UserError
from gan_bench.paths import normal_path
from gan_bench.tracking.address import sqlite_path, without_password
from gan_bench.tracking.tags import ABOUT, COPIED, is_behind

EXPERIMENTS = ("select e.name, e.artifact_location, t.value from experiments e left join "
               "experiment_tags t on t.experiment_id = e.experiment_id and t.key = ? "
               "where e.experiment_id != 0")
RUNS = ("select r.run_uuid, r.artifact_uri, t.value from runs r join tags t on "
        "t.run_uuid = r.run_uuid and t.key = 'run_id'")
COPIED_OF = ("select t.value from runs r left join tags t on t.run_uuid = r.run_uuid and t.key = ? "
             "where r.run_uuid = ?")


def open_read_only(database: Path) -> sqlite3.Connection:
    """Open an SQLite file read-only, even in a folder that cannot be written to.

    Raises:
        sqlite3.Error: It cannot be read.
        UserError: There a log beside it holds newer data.
    """
    address = f"{database.as_uri()}?mode=ro"
    try:
        connection = sqlite3.connect(address, uri=True)
        connection.execute("select 1 from sqlite_master")
    except sqlite3.OperationalError:
        if os.access(database.parent, os.W_OK, effective_ids=True):
            raise
    else:
        return connection
    # To read a database with a write-ahead log, SQLite creates files beside it. Where it cannot,
    # and the logs are empty, the file itself holds all data.
    for log in (Path(f"{database}{ending}") for ending in ("-wal", "-journal")):
        if log.exists() and log.stat().st_size:
            raise UserError(f"{database}: cannot be read in a folder that cannot be written to, "
                            f"as {log.name} holds newer data; copy both files to another folder, "
                            f"and read them there")
    return sqlite3.connect(f"{address}&immutable=1", uri=True)


def has_run(database: Path, mlflow_run_id: str, offset: int = 0) -> bool:
    """Whether the SQLite store holds the run, even one that is deleted in MLflow's page.

    Args:
        offset: How many bytes of its journal the store must have received.
    """
    if not database.exists():
        return False
    try:
        with closing(open_read_only(database)) as connection:
            row = connection.execute(COPIED_OF, [COPIED, mlflow_run_id]).fetchone()
            return row is not None and not is_behind(row[0], offset)
    except (sqlite3.Error, UserError):  # open_store reports what is wrong with the file
        return False


def check_sqlite(database: Path, root: Path) -> None:
    """Check that this MLflow can write to the database, and switch it to write-ahead logging.

    Raises:
        UserError: It is read-only, locked, not MLflow's, from a newer or an older MLflow, or the
            artifacts of the root's runs are elsewhere because `root` was moved.
    """
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("begin immediate")  # fails on a file that cannot be written
            (version,) = connection.execute("select version_num from alembic_version").fetchone()
            check_version(f"sqlite:///{database}", version)  # first: other tables may differ there
            experiments = connection.execute(EXPERIMENTS, [ABOUT]).fetchall()
            runs = connection.execute(RUNS).fetchall()
            connection.rollback()
            connection.execute("pragma journal_mode = wal")
    except (sqlite3.Error, TypeError) as error:  # TypeError: no row, a migration was interrupted
        raise UserError(f"cannot use {database} as MLflow's database ({error}); "
                        f"{_remedy(database, error)}, or name another with --tracking-uri"
                        ) from error
    if database.parent == root:
        # What others keep in the database is no matter of the program.
        names = {path.name for path in (root / "runs").glob("*")}
        _check_artifacts(database, [row for row in experiments if row[0] in names])
        run_ids = {path.name for path in (root / "runs").glob("*/*")}
        _check_runs(database, [(run, location) for run, location, run_id in runs
                               if run_id in run_ids])


def _remedy(database: Path, error: Exception) -> str:
    """Return what helps against an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension
    is_writable = all(os.access(path, os.W_OK, effective_ids=True)
                      for path in (database.parent, database))
    if code == sqlite3.SQLITE_FULL:
        return "make room"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
                sqlite3.SQLITE_IOERR) and not is_writable:
        return "make it and its folder writable"
    if code == sqlite3.SQLITE_IOERR:
        return "make sure that the disk is sound and has room"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "wait for the process that writes to it"
    return "move the file away"


def check_version(uri: str, schema: str) -> None:
    """Check that a database fits the installed MLflow, without importing MLflow.

    Args:
        uri: The database.
        schema: Its version, from the table `alembic_version`.

    Raises:
        UserError: It is from a newer or an older MLflow.
    """
    head, older = _schemas()
    if schema == head:
        return
    address = without_password(uri)
    database = sqlite_path(uri) or address
    if schema in older:
        raise UserError(f"{database} is from an older MLflow (schema {schema}, here {head}): back "
                        f"it up, then run `mlflow db upgrade {address}`")
    raise UserError(f"{database} is from a newer MLflow (schema {schema}, here {head}): upgrade "
                    f"with `pip install --upgrade mlflow`, or choose another --root")


@cache
def _schemas() -> tuple[str, set[str]]:
    """Return the schema of the installed MLflow, and the older ones, read from its migrations.

    Alembic would import the migrations, which import all of MLflow.
    """
    mlflow = find_spec("mlflow")
    if mlflow is None or mlflow.origin is None:
        raise UserError("MLflow is not installed: `pip install mlflow`")
    schemas: set[str] = set()
    older: set[str] = set()
    for file in Path(mlflow.origin).parent.glob("store/db_migrations/versions/*.py"):
        for line in re.findall(r"^(?:down_)?revision\b.*=.*$", file.read_text(), re.MULTILINE):
            names = re.findall(r"[\"']([0-9a-z]+)[\"']", line)
            (older if line.startswith("down") else schemas).update(names)
    (head,) = schemas - older
    return head, older


def _check_artifacts(database: Path, experiments: list[tuple[str, str, str | None]]) -> None:
    """Check that artifacts lie in the root: MLflow stores absolute addresses, which outlive a move.

    Args:
        database: The database in the root.
        experiments: Name, artifact address and the tag that says that the program has made it.
    """
    home = (database.parent / "artifacts").resolve()
    for name, location, about in experiments:
        if not location.startswith("file:") or home in local_path(location).resolve().parents:
            continue
        if about is None:
            raise UserError(f"{database}: its experiment {name!r} is not of gan-bench, and keeps "
                            f"its artifacts in {location}; give one of the two another name")
        raise UserError(f"{database.parent} was moved: the artifacts of {name!r} belong to "
                        f"{location}; move it back, or {_start_over(database)}")


def _check_runs(database: Path, runs: list[tuple[str, str | None]]) -> None:
    """Check that no run's artifact address leads out of the root, as MLflow writes there."""
    home = (database.parent / "artifacts").resolve()
    within: dict[Path, bool] = {}
    for run, location in runs:
        if location is None or not location.startswith(("file:", "/")):
            continue
        folder = local_path(location).parent.parent  # of the experiment: <folder>/<run>/artifacts
        if folder not in within:
            within[folder] = folder.resolve().is_relative_to(home)
        if not within[folder]:
            raise UserError(f"{database}: the artifacts of its run {run} belong to {location}, out "
                            f"of {home}; {_start_over(database)}")


def _start_over(database: Path) -> str:
    return (f"move {database.name}* away, as it may hold other runs too, and run the experiment "
            f"again, which fills a new one from the runs' journals")


def local_path(location: str) -> Path:
    """Return the path that MLflow makes of a local address, without `..`.

    A root given as `../root` left addresses with `..`, which are as good as any.
    """
    path = urlsplit(location).path if location.startswith("file:") else location
    return normal_path(url2pathname(path))
