"""The cursor file of a run: how far its journal is in an MLflow store. No MLflow here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from gan_bench import journal
from gan_bench.store import has_run, sqlite_path, without_password

FILE = "mirror.json"


@dataclass(frozen=True)
class Cursor:
    """How far a run's journal is in a store.

    Attributes:
        uri: The store, without password.
        mlflow_run_id: MLflow's own id of the run.
        offset: Bytes of the journal that have been replayed.
        attempt: Time of the journal's start record: another one is another journal. 0 if none.
    """

    uri: str
    mlflow_run_id: str
    offset: int
    attempt: int


def read(folder: Path) -> Cursor | None:
    """Return the run's cursor; None if there is none that can be read, so that it is made anew."""
    try:
        return Cursor(**json.loads((folder / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write(folder: Path, cursor: Cursor) -> None:
    """Write the run's cursor, whole or not at all."""
    temporary = folder / f".{FILE}"
    temporary.write_text(json.dumps(asdict(cursor)) + "\n")
    os.replace(temporary, folder / FILE)


def attempt(folder: Path) -> int:
    """Return the time of the journal's start record in ms since 1970; 0 while there is none."""
    try:
        with (folder / journal.FILE).open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return 0
    return int(json.loads(line)["t"]) if line.endswith(b"\n") else 0


def mirrored(folder: Path, uri: str) -> bool:
    """Whether all of the run's journal is in the store at `uri`, without importing MLflow.

    A server is taken at the cursor's word; an SQLite file is asked whether it holds the run.
    """
    cursor, start = read(folder), attempt(folder)
    if cursor is None or not start:
        return False
    size = (folder / journal.FILE).stat().st_size
    if (cursor.uri, cursor.attempt, cursor.offset) != (without_password(uri), start, size):
        return False
    database = sqlite_path(uri)
    return database is None or has_run(database, cursor.mlflow_run_id)
