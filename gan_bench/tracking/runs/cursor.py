"""The cursor file of a run: how much of its journal each MLflow store holds. No MLflow here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gan_bench.atomic import replacing
from gan_bench.errors import DamagedError
from gan_bench.journal import reading, segments
from gan_bench.journal.about import read_varied
from gan_bench.journal.layout import DATABASE
from gan_bench.journal.spec_file import read_names
from gan_bench.tracking.runs.origin import run_root
from gan_bench.tracking.runs.tags import NAMING
from gan_bench.tracking.store.address import sqlite_path, without_password
from gan_bench.tracking.store.database import has_run

FILE = "mirror.json"
RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Cursor:
    """How much of a run's journal a store holds.

    Attributes:
        uri: The store, as `store_name` gives it.
        mlflow_run_id: MLflow's own id of the run.
        offset: Bytes of the journal that have been replayed.
        began: Time of the journal's first record, which identifies the journal. Its order means
            nothing, as the clock may have been reset.
        run_id, variant: What MLflow shows as the run's id and variant; empty in a file of an
            earlier version.
        naming: `tags.NAMING` of the name that MLflow shows.
        varied: The settings that are params of the run if they are not null, with commas; empty:
            all are.
        place: What MLflow shows as the run's draw and stage, as `read_names` returns them.
        segment: The newest segment of the journal at that time. A later one may drop what was
            replayed of it.
    """

    uri: str
    mlflow_run_id: str
    offset: int
    began: int
    run_id: str = ""
    variant: str = ""
    naming: int = 0
    varied: str = ""
    segment: int = 1
    place: str = ""

    def shows_names(self, folder: Path) -> bool:
        """Whether MLflow shows the present names and params of the run in this folder."""
        variant, place = read_names(folder)
        names = folder.name, variant or self.variant, NAMING, place
        if (self.run_id, self.variant, self.naming, self.place) != names:
            return False
        return not self.varied or {*self.varied.split(",")} >= {*read_varied(folder.parent)}


def read_cursor(folder: Path, uri: str) -> Cursor | None:
    """Return the run's cursor in a store; None if it is missing or belongs to another journal.

    None also if the store has more of the run than the journal holds by now.

    Raises:
        DamagedError: The journal is damaged.
    """
    try:
        cursor = replace(Cursor(**_entry(folder, uri)), uri=store_name(folder, uri))
    except TypeError:
        return None
    start = reading.first(folder)
    sound = (isinstance(cursor.mlflow_run_id, str) and RUN_ID.fullmatch(cursor.mlflow_run_id)
             and type(cursor.offset) is int and reading.begins_line(folder, cursor.offset)
             and isinstance(cursor.run_id, str) and isinstance(cursor.variant, str)
             and type(cursor.naming) is int and isinstance(cursor.varied, str)
             and isinstance(cursor.place, str)
             and run_with_more(folder, uri) is None
             and type(cursor.began) is int and start is not None and cursor.began == start["t"])
    return cursor if sound else None


def run_with_more(folder: Path, uri: str) -> str | None:
    """Return MLflow's id of a run that holds records which its journal has dropped; else None.

    They are those of a writer that was lost from sight, and had been replaced when it wrote them.
    """
    entry = _entry(folder, uri)
    segment, offset = entry.get("segment", 1), entry.get("offset")
    if type(segment) is not int or type(offset) is not int:
        return None
    return None if segments.counts(folder, segment, offset) else named_run(folder, uri)


def named_run(folder: Path, uri: str) -> str | None:
    """Return MLflow's id of the run that the cursor file names, even for another journal."""
    name = _entry(folder, uri).get("mlflow_run_id")
    return name if isinstance(name, str) and RUN_ID.fullmatch(name) else None


def shown_id(folder: Path, uri: str) -> str | None:
    """Return the run's id that MLflow shows, as far as the cursor file says so."""
    run_id = _entry(folder, uri).get("run_id")
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
    if cursor.uri == DATABASE:
        cursors.pop(_own_uri(folder), None)
    _write_file(folder, cursors)


def _write_file(folder: Path, cursors: dict[str, dict[str, Any]]) -> None:
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(cursors, indent=1) + "\n")


def forget_cursor(folder: Path, uri: str) -> None:
    """Remove the run's cursor in a store, so that the next replay begins again with a new run."""
    cursors = _read_file(folder)
    names = {store_name(folder, uri), without_password(uri)} & cursors.keys()
    if names:
        _write_file(folder, {k: v for k, v in cursors.items() if k not in names})


def note_shown_id(folder: Path) -> None:
    """Note that the stores show the run under the name of its folder, which is about to change."""
    cursors = _read_file(folder)
    unnoted = {name: cursor for name, cursor in cursors.items()
               if isinstance(cursor, dict) and not cursor.get("run_id")}
    if unnoted:
        _write_file(folder, {**cursors, **{name: {**cursor, "run_id": folder.name}
                                           for name, cursor in unnoted.items()}})


def take_over(folder: Path, uri: str) -> None:
    """Let the cursor of another address count for the database in the root, which lay there."""
    cursors = _read_file(folder)
    cursor = cursors.pop(uri, None)
    if isinstance(cursor, dict):
        _write_file(folder, {DATABASE: cursor, **cursors})


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
    if cursor is None or cursor.offset != reading.length(folder):
        return False
    if not cursor.shows_names(folder):
        return False
    database = sqlite_path(uri)
    return database is None or has_run(database, cursor.mlflow_run_id, cursor.offset)


def store_name(folder: Path, uri: str) -> str:
    """Return the name of a store in the cursor file: its address without password.

    The database in the root has the same name wherever the root lies.
    """
    return DATABASE if uri == _own_uri(folder) else without_password(uri)


def _own_uri(folder: Path) -> str:
    return f"sqlite:///{run_root(folder) / DATABASE}"


def _entry(folder: Path, uri: str) -> dict[str, Any]:
    """Return the fields of the run's cursor in a store; empty if there is none."""
    cursors = _read_file(folder)
    # Earlier versions named the root's own database by its address too.
    entry = cursors.get(store_name(folder, uri)) or cursors.get(without_password(uri))
    return entry if isinstance(entry, dict) else {}


def _read_file(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the fields of the run's cursors by store; empty if the file cannot be read."""
    try:
        cursors = json.loads((folder / FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return cursors if isinstance(cursors, dict) else {}
