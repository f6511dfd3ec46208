"""The cursor file of a run: how far its journal is in each MLflow store. No MLflow here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan_bench import journal
from gan_bench.atomic import replacing
from gan_bench.store import has_run, sqlite_path, without_password

FILE = "mirror.json"
RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Cursor:
    """How far a run's journal is in a store.

    Attributes:
        uri: The store, without password.
        mlflow_run_id: MLflow's own id of the run.
        offset: Bytes of the journal that have been replayed.
        attempt: Time of the record since which the journal's lines have been valid: of its start,
            or of a later record that has declared earlier ones void.
    """

    uri: str
    mlflow_run_id: str
    offset: int
    attempt: int


def read(folder: Path, uri: str) -> Cursor | None:
    """Return the run's cursor in a store; None if there is none that can be read: it is remade."""
    try:
        cursor = Cursor(**_all(folder)[without_password(uri)])
    except (KeyError, TypeError):
        return None
    sound = (isinstance(cursor.mlflow_run_id, str) and RUN_ID.fullmatch(cursor.mlflow_run_id)
             and type(cursor.offset) is int and type(cursor.attempt) is int
             and journal.begins_line(folder, cursor.offset))
    return cursor if sound else None


def write(folder: Path, cursor: Cursor) -> None:
    """Write the run's cursor in its store, whole or not at all, beside those in other stores."""
    known = {**_all(folder), cursor.uri: asdict(cursor)}
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(known, indent=1) + "\n")


def mirrored(folder: Path, uri: str) -> bool:
    """Whether all of the run's journal is in the store at `uri`, without importing MLflow.

    A server is taken at the cursor's word; an SQLite file is asked whether it holds the run.
    """
    cursor, start = read(folder, uri), journal.first(folder)
    if cursor is None or start is None:
        return False
    size = (folder / journal.FILE).stat().st_size
    if cursor.offset != size or cursor.attempt < start["t"]:
        return False
    database = sqlite_path(uri)
    return database is None or has_run(database, cursor.mlflow_run_id)


def _all(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
