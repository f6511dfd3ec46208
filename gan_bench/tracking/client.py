"""MLflow's client for a store that has been found usable."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import UserError
from gan_bench.tracking.address import (
    is_server,
    mlflow_environment,
    reason,
    resolve_uri,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.database import check_sqlite

if TYPE_CHECKING:
    from mlflow import MlflowClient


class MirrorError(UserError):
    """MLflow did not take what it was given. Nothing is lost: a later `sync` goes on from there."""


@dataclass(frozen=True)
class Store:
    """An MLflow store that has been found usable.

    Attributes:
        uri: Its address, with the password if it has one.
        artifacts: The folder for artifacts; None for a server, which keeps them itself.
        client: MLflow's client for it.
    """

    uri: str
    artifacts: Path | None
    client: MlflowClient


def open_store(root: Path, uri: str | None = None) -> Store:
    """Open the store, creating `<root>/mlflow.db` if that is the one and it is not there.

    Args:
        root: Where runs leave what they make; made if needed.
        uri: MLflow's tracking address; None: `MLFLOW_TRACKING_URI`, else `<root>/mlflow.db`.

    Raises:
        UserError: The root cannot be written, the database is from another MLflow, or the server
            does not answer.
    """
    uri = resolve_uri(root, uri)
    os.environ.update(mlflow_environment())
    database = sqlite_path(uri)
    if database and {"?", "%"} & set(str(database)):  # to MLflow it is part of an address
        raise UserError(f"MLflow cannot keep a database at {without_password(str(database))}: "
                        f"choose another --root, or --tracking-uri, without ? and %")
    try:
        for folder in {root, database.parent if database else root}:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        if database:
            _create_sqlite(database, root)
    except OSError as error:
        raise UserError(f"cannot write to {error.filename or root}: {error.strerror}; "
                        f"choose another --root") from None
    if database:
        check_sqlite(database, root)

    from mlflow import MlflowClient

    # It logs the traceback of each error that it raises as well; ours is one line, said once.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # a server, or whatever database driver is behind the address
        raise UserError(f"MLflow cannot use {without_password(uri)}: {reason(error, uri)}; give "
                        f"another --tracking-uri or MLFLOW_TRACKING_URI, or neither") from error
    return Store(uri, None if is_server(uri) else root.absolute() / "artifacts", client)


def _create_sqlite(database: Path, root: Path) -> None:
    """Create MLflow's database, whole or not at all; if somebody else does, theirs is kept.

    Opening a fresh file from several processes at once breaks MLflow's migrations, and dying in
    the middle leaves a file that no MLflow opens. So it is made under another name.
    """
    if database.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(dir=database.parent, prefix=".mlflow-") as temporary:
        fresh = Path(temporary, database.name)
        artifacts = (root.absolute() / "artifacts").as_uri()
        store = SqlAlchemyStore(f"sqlite:///{fresh}", artifacts)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with suppress(FileExistsError):
            os.link(fresh, database)


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a MirrorError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise MirrorError(f"MLflow at {without_password(uri)} failed: {reason(error, uri)}"
                          ) from error
