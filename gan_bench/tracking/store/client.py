"""Opens an MLflow store: checks it, creates its database, and returns MLflow's client for it."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.atomic import scratch_folder
from gan_bench.errors import UserError, unwritable
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.store.address import (
    is_server,
    mlflow_environment,
    reason,
    resolve_uri,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.store.database import check_sqlite
from gan_bench.tracking.store.database_server import (
    Tables,
    check_connection,
    tables_of,
)
from gan_bench.tracking.store.relocation import check_addresses

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


CREATION = 60.0  # seconds that another process may take to make MLflow's tables
TRIES = 5  # to write a row that other roots write at the same moment


class MirrorError(UserError):
    """MLflow refused records. Nothing is lost: a later `sync` continues from there."""


class DeletedExperiment(MirrorError):
    """An experiment was deleted in MLflow, which takes no records for it."""


class DeletedRun(MirrorError):
    """A run was deleted in MLflow's page, and is not made anew before the user asks for it."""


@dataclass(frozen=True)
class Store:
    """An MLflow store that has passed the checks of `open_store`.

    Attributes:
        uri: Its address, with the password if it has one.
        artifacts: The folder for artifacts; None for a server, which keeps them itself.
        client: MLflow's client for it.
    """

    uri: str
    artifacts: Path | None
    client: MlflowClient


def open_store(workspace: Workspace) -> Store:
    """Open the store, and create an SQLite database that is missing.

    Args:
        workspace: Names the store. Its root is created if needed.

    Raises:
        UnreachableError: A database that is no file does not answer.
        UserError: The root cannot be written, the database is from another MLflow, or the server
            does not answer.
    """
    uri, root = resolve_uri(workspace), workspace.root
    os.environ.update(mlflow_environment())
    database = sqlite_path(uri)
    if database and {"?", "%"} & set(str(database)):  # special characters in an address
        raise UserError(f"MLflow cannot keep a database at {without_password(str(database))}: "
                        f"choose another --root, or --tracking-uri, without ? and %")
    try:
        for folder in {root, database.parent if database else root}:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        if database:
            _create_sqlite(database, workspace.artifacts)
    except OSError as error:
        raise unwritable(error.filename or root, error, elsewhere="choose another --root") from None
    if database:
        check_sqlite(database)
        if database == workspace.database:
            check_addresses(database)
    elif not is_server(uri):
        check_connection(uri)
    # MLflow also logs the traceback of each error; the program reports the error in one line.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    return Store(uri, None if is_server(uri) else workspace.artifacts, _connect(uri))


def _connect(uri: str) -> MlflowClient:
    """Return MLflow's client for a store that answers.

    The client of an empty database makes MLflow's tables, which fails where another process makes
    them at the same time; the one that fails tries again.
    """
    from mlflow import MlflowClient

    deadline, was_whole = time.monotonic() + CREATION, False
    while True:
        try:
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
            return client
        except Exception as error:  # from a server, or from any database driver
            is_database = sqlite_path(uri) is None and not is_server(uri)
            state = tables_of(uri) if is_database and time.monotonic() < deadline else None
            if state is None or (state == Tables.WHOLE and was_whole):
                raise UserError(f"MLflow cannot use {without_password(uri)}: {reason(error, uri)}; "
                                f"give another --tracking-uri or MLFLOW_TRACKING_URI, or neither"
                                ) from error
            was_whole = state == Tables.WHOLE
            time.sleep(0.5)


def _create_sqlite(database: Path, artifacts: Path) -> None:
    """Create MLflow's database, whole or not at all; keep one that another process creates first.

    MLflow's migrations break when several processes open a fresh file at once. A process that dies
    in a migration leaves a file that MLflow cannot open. So the file starts under another name.

    Raises:
        UserError: The write-ahead log of another database is there, or the disk is full.
    """
    if database.exists():
        return
    log = Path(f"{database}-wal")
    if log.exists() and log.stat().st_size:  # SQLite would apply it to the new database
        raise UserError(f"{log}: has no database beside it; move it to where {database.name} was "
                        f"moved, or away")
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with scratch_folder(database.parent, ".mlflow-") as temporary:
        fresh = temporary / database.name
        try:
            store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
                f"sqlite:///{fresh}", artifacts.as_uri())
            store.engine.dispose()
        except Exception as error:  # of SQLAlchemy, Alembic or MLflow: the disk is full, say
            raise UserError(f"cannot make {database}: {reason(error)}; free some space, or choose "
                            f"another --root or --tracking-uri") from error
        with suppress(FileExistsError):
            os.link(fresh, database)


def close_connections(store: Store) -> None:
    """Close the connections that MLflow keeps to a database; the next call opens others.

    A process that copies an SQLite file drops the locks of its own connections to it.
    """
    engine = getattr(store.client._tracking_client.store, "engine", None)
    if engine is not None:
        engine.dispose()


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into a MirrorError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise MirrorError(f"MLflow at {without_password(uri)} failed: {reason(error, uri)}"
                          ) from error


def write_shared(write: Callable[[], object]) -> None:
    """Write what belongs to an experiment, and not to one run, so that other roots write it too.

    MLflow looks for the row, and adds it if it is missing. Where another root adds it in between,
    the database refuses the second one; another look sees the row of the other root.

    Raises:
        MlflowException: MLflow fails, or refuses it again and again.
    """
    from mlflow.exceptions import MlflowException

    for is_last in (*[False] * (TRIES - 1), True):
        try:
            write()
            return
        except MlflowException as error:
            if is_last or error.error_code != "BAD_REQUEST":  # MLflow's code for a clash
                raise


def find_run_of(client: MlflowClient, mlflow_run_id: str) -> Run | None:
    """Return a run of MLflow, deleted or not; None if the store has none of this id."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(mlflow_run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
