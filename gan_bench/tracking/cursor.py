"""The cursor file of a run: how much of its journal each MLflow store holds. No MLflow here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan_bench.atomic import replacing
from gan_bench.errors import DamagedError
from gan_bench.journal import reading
from gan_bench.journal.spec_file import read_variant
from gan_bench.tracking.address import sqlite_path, without_password
from gan_bench.tracking.database import has_run

FILE = "mirror.json"
RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Cursor:
    """How much of a run's journal a store holds.

    Attributes:
        uri: The store, without password.
        mlflow_run_id: MLflow's own id of the run.
        offset: Bytes of the journal that have been replayed.
        began: Time of the journal's first record, which identifies the journal. Its order means
            nothing, as the clock may have been reset.
        run_id, variant: What MLflow shows as the run's id and variant; empty in a file of an
            earlier version.
    """

    uri: str
    mlflow_run_id: str
    offset: int
    began: int
    run_id: str = ""
    variant: str = ""

    def shows_names(self, folder: Path) -> bool:
        """Whether MLflow shows the present names of the run in this folder."""
        return (self.run_id, self.variant) == (folder.name, read_variant(folder) or self.variant)


def read_cursor(folder: Path, uri: str) -> Cursor | None:
    """Return the run's cursor in a store; None if it is missing or belongs to another journal.

    Raises:
        DamagedError: The journal is damaged.
    """
    try:
        cursor = Cursor(**_read_file(folder)[without_password(uri)])
    except (KeyError, TypeError):
        return None
    start = reading.first(folder)
    sound = (isinstance(cursor.mlflow_run_id, str) and RUN_ID.fullmatch(cursor.mlflow_run_id)
             and type(cursor.offset) is int and reading.begins_line(folder, cursor.offset)
             and isinstance(cursor.run_id, str) and isinstance(cursor.variant, str)
             and type(cursor.began) is int and start is not None and cursor.began == start["t"])
    return cursor if sound else None


def named_run(folder: Path, uri: str) -> str | None:
    """Return MLflow's id of the run that the cursor file names, even for another journal."""
    cursor = _read_file(folder).get(without_password(uri))
    name = cursor.get("mlflow_run_id") if isinstance(cursor, dict) else None
    return name if isinstance(name, str) and RUN_ID.fullmatch(name) else None


def shown_id(folder: Path, uri: str) -> str | None:
    """Return the run's id that MLflow shows, as far as the cursor file says so."""
    cursor = _read_file(folder).get(without_password(uri))
    run_id = cursor.get("run_id") if isinstance(cursor, dict) else None
    return run_id if isinstance(run_id, str) and run_id else None


def named_runs(experiment: Path, uri: str) -> set[str]:
    """Return MLflow's ids of the runs that the cursor files of an experiment's folder name."""
    if experiment.name in ("", "..") or not experiment.is_dir():
        return set()
    names = [named_run(file.parent, uri) for file in experiment.glob(f"*/{FILE}")]
    return {name for name in names if name is not None}


def write_cursor(folder: Path, cursor: Cursor) -> None:
    """Write the run's cursor in its store, whole or not at all, beside those in other stores."""
    cursors = {**_read_file(folder), cursor.uri: asdict(cursor)}
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(cursors, indent=1) + "\n")


def forget_cursor(folder: Path, uri: str) -> None:
    """Remove the run's cursor in a store, so that the next replay begins again with a new run."""
    cursors = _read_file(folder)
    if cursors.pop(without_password(uri), None) is not None:
        with replacing(folder / FILE) as temporary:
            temporary.write_text(json.dumps(cursors, indent=1) + "\n")


def mirrored(folder: Path, uri: str) -> bool:
    """Whether the store at `uri` holds the run's whole journal and its present names.

    MLflow is not imported.

    For a server the cursor alone decides; an SQLite file must also hold as much of the run, as an
    older copy of the file may have been put in its place.
    """
    try:
        cursor = read_cursor(folder, uri)
    except DamagedError:  # the replay of this journal reports it
        return False
    if cursor is None or cursor.offset != (folder / reading.FILE).stat().st_size:
        return False
    if not cursor.shows_names(folder):
        return False
    database = sqlite_path(uri)
    return database is None or has_run(database, cursor.mlflow_run_id, cursor.offset)


def _read_file(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the fields of the run's cursors by store; empty if the file cannot be read."""
    try:
        cursors = json.loads((folder / FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return cursors if isinstance(cursors, dict) else {}
