"""Checks of an SQLite database, without importing MLflow."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from gan_bench.errors import UserError
from gan_bench.tracking.runs.tags import COPIED, is_behind
from gan_bench.tracking.store.address import sqlite_path, without_password

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


def check_sqlite(database: Path) -> None:
    """Check that this MLflow can write to the database, and switch it to write-ahead logging.

    Raises:
        UserError: It is read-only, locked, not MLflow's, or from a newer or an older MLflow.
    """
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("begin immediate")  # fails on a file that cannot be written
            (version,) = connection.execute("select version_num from alembic_version").fetchone()
            check_version(f"sqlite:///{database}", version)  # first: other tables may differ there
            connection.rollback()
            connection.execute("pragma journal_mode = wal")
    except (sqlite3.Error, TypeError) as error:  # TypeError: no row, a migration was interrupted
        raise UserError(f"cannot use {database} as MLflow's database ({error}); "
                        f"{_remedy(database, error)}, or name another with --tracking-uri"
                        ) from error


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
