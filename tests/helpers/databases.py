"""A new database of MLflow's without its 60 migrations: a copy of one that is migrated already."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


def copied(database: Callable[[], Path]) -> Callable[[Path, Path], None]:
    """Return what stands in for `client._create_sqlite`.

    Args:
        database: Returns a migrated database, which has no runs; it is called when one is needed.
    """
    def create(file: Path, artifacts: Path) -> None:
        if file.exists():
            return
        migrated = database()
        with TemporaryDirectory(dir=file.parent, prefix=".mlflow-") as folder:
            fresh = Path(shutil.copy(migrated, folder))
            with closing(sqlite3.connect(fresh)) as db, db:
                db.execute("update experiments set artifact_location = replace(artifact_location, "
                           "?, ?)", (migrated.parent.as_uri(), artifacts.as_uri()))
            with suppress(FileExistsError):
                os.link(fresh, file)

    return create
