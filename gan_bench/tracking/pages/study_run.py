"""The study run: the one MLflow run of an experiment that shows the result of its comparison.

It is no run of the grid. Readers leave it out, and no journal stands behind it. What it shows comes
from above: `tracking` compares nothing. A file in the experiment's folder says which MLflow run it
is in each store, and what that run shows, so that a repetition writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_bench.atomic import replacing
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.schema import Status
from gan_bench.tracking.pages.experiment_page import write_description
from gan_bench.tracking.runs.cursor import RUN_ID, named_run, store_name
from gan_bench.tracking.runs.origin import ROOT_TAG, instance_of
from gan_bench.tracking.runs.tags import NOTE, STUDY
from gan_bench.tracking.store.address import quiet_mlflow, reason, resolve_uri, sqlite_path
from gan_bench.tracking.store.client import (
    Store,
    close_connections,
    find_run_of,
    mlflow_errors,
    open_store,
)
from gan_bench.tracking.store.database import has_run
from gan_bench.tracking.store.relocation import local_path
from gan_bench.tracking.store.shared_artifacts import uploads

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FILE = "study.json"  # in an experiment's folder
NAME = "study"
TABLE, BUDGETS = "summary.json", "budgets.json"
REPORT = "report"  # the folder of the artifacts
VERDICT = "verdict."  # prefix of the tags
MOST_KEY = 250  # characters of a tag's key
REPORT_TAG = "report"  # of a study run that holds one: whether it shows the present table
# By which MLflow's page finds tables; `MlflowClient.log_table` would append to the one that is
# there.
TABLES_TAG = "mlflow.loggedArtifacts"

Cell = str | int | float | None
Table = tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]  # columns, rows


@dataclass(frozen=True)
class StudySummary:
    """What the study run shows besides the report.

    Attributes:
        description: Markdown, for the run and the experiment.
        columns, rows: The table; NaN and infinities are left out.
        verdicts: Of each variant under each score: `<score>.<variant>` → `better`, ….
        budgets: Of a search, a second table: what budgets buy.
    """

    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    verdicts: Mapping[str, str]
    budgets: Table | None = None

    @property
    def digest(self) -> str:
        """Stands for all of it."""
        facts = asdict(self)
        if self.budgets is None:  # as earlier versions computed it
            del facts["budgets"]
        return _digest(json.dumps(facts, sort_keys=True).encode())

    @property
    def tables(self) -> dict[str, Table]:
        """The tables by the names of their artifacts."""
        budgets = {BUDGETS: self.budgets} if self.budgets else {}
        return {TABLE: (self.columns, self.rows), **budgets}


@dataclass(frozen=True)
class StudyCursor:
    """Which MLflow run is the study run in a store.

    Attributes:
        mlflow_run_id: MLflow's id.
        summary: The digest of the summary that it shows.
        report: The digest of the report's files that it holds; empty if it holds none.
    """

    mlflow_run_id: str
    summary: str = ""
    report: str = ""


def show_study(workspace: Workspace, experiment: str, summary: StudySummary,
               report: Mapping[str, Path] | None = None) -> str:
    """Let the study run show a summary; return why MLflow does not show it, or an empty string.

    A store that holds no run of the root may be a third party's: nothing is written there. A study
    run that the user has deleted in MLflow's page stays deleted.

    Args:
        workspace: Names the store, and the root that the experiment's runs are in.
        experiment: The experiment's name.
        summary: What to show.
        report: The files of the report by their place under its folder of artifacts; None: those of
            an earlier report stay.
    """
    try:
        address, home = resolve_uri(workspace), workspace.root / "runs" / experiment
        folders = run_folders(home) if Path(experiment).name == experiment else []
        if not any(named_run(folder, address) for folder in folders):
            return ""
        database = sqlite_path(address)
        if not all(os.access(path, os.W_OK) for path in (home, database) if path is not None):
            return ""  # it is only read
        known = _read_cursor(folders[0], address)
        digest = known.report if known else ""
        if report is not None:
            digest = _digest(*(part for place, file in sorted(report.items())
                               for part in (place.encode(), file.read_bytes())))
        shows_all = known and (known.summary, known.report) == (summary.digest, digest)
        if known and shows_all and (database is None or has_run(database, known.mlflow_run_id)):
            return ""
        with quiet_mlflow():
            store = open_store(workspace)
            try:
                _Study(store, folders[0]).update(summary, report, digest)
            finally:
                close_connections(store)
        return ""
    except UserError as error:
        return str(error)
    except Exception as error:  # from a server, or from any database driver
        return reason(error, resolve_uri(workspace))


def has_study_run(workspace: Workspace, experiment: str) -> bool:
    """Whether the store has been given a study run of the experiment, which may be deleted now."""
    folders = run_folders(workspace.root / "runs" / experiment)
    return bool(folders) and _read_cursor(folders[0], resolve_uri(workspace)) is not None


class _Study:
    """The study run of an experiment in a store.

    Args:
        store: The store.
        folder: Of any run of the experiment.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder, self._home = store, folder, folder.parent
        self._client: MlflowClient = store.client
        self._instance = instance_of(folder.parents[2])

    def update(self, summary: StudySummary, report: Mapping[str, Path] | None, digest: str) -> None:
        with mlflow_errors(self._store.uri):
            experiment = self._client.get_experiment_by_name(self._home.name)
            if experiment is None or experiment.lifecycle_stage != "active":
                return
            number = str(experiment.experiment_id)
            known = _read_cursor(self._folder, self._store.uri)
            run = self._find(number, known) or self._create(number)
            write_description(self._client, number, summary.description, self._instance)
            if run.info.lifecycle_stage != "active":
                return
            cursor = StudyCursor(run.info.run_id, report=known.report if known else "")
            if known is None or known.mlflow_run_id != cursor.mlflow_run_id:
                cursor = replace(cursor, report="")
            _write_cursor(self._folder, self._store.uri, cursor)
            self._write(run, summary, report, holds_report=bool(cursor.report))
            shown = digest if report is not None else cursor.report
            _write_cursor(self._folder, self._store.uri,
                          replace(cursor, summary=summary.digest, report=shown))

    def _find(self, experiment: str, known: StudyCursor | None) -> Run | None:
        """Return the root's study run; a deleted one if the file names it.

        The database in a root was copied with the root, so there the run of the root that was
        copied is meant.
        """
        run = find_run_of(self._client, known.mlflow_run_id) if known else None
        if run is not None and self._is_own(run, experiment):
            return run
        origin = (f"tags.`{STUDY}` = '{self._home.name}' and "
                  f"tags.`{ROOT_TAG}` = '{self._instance}'")
        return min(self._client.search_runs([experiment], filter_string=origin), default=None,
                   key=lambda run: (run.info.start_time, run.info.run_id))

    def _create(self, experiment: str) -> Run:
        """Create the study run; of several that were created at once, the first one stays."""
        now = int(time.time() * 1000)
        tags = {STUDY: self._home.name, ROOT_TAG: self._instance, "mlflow.source.name": "gan-bench"}
        created = self._client.create_run(experiment, now, tags, NAME)
        kept = self._find(experiment, None) or created
        if kept.info.run_id != created.info.run_id:
            self._client.delete_run(created.info.run_id)
        return kept

    def _is_own(self, run: Run, experiment: str) -> bool:
        database = sqlite_path(self._store.uri)
        is_in_root = database is not None and database.parent == self._folder.parents[2]
        tags = run.data.tags
        return (str(run.info.experiment_id) == experiment and tags.get(STUDY) == self._home.name
                and (is_in_root or tags.get(ROOT_TAG) == self._instance))

    def _write(self, run: Run, summary: StudySummary, report: Mapping[str, Path] | None, *,
               holds_report: bool) -> None:
        from mlflow.entities import RunTag

        number, location = run.info.run_id, str(run.info.artifact_uri)
        verdicts = _verdict_tags(summary.verdicts)
        for key in run.data.tags:
            if key.startswith(VERDICT) and key not in verdicts:
                self._client.delete_tag(number, key)
        tables = [{"path": name, "type": "table"} for name in summary.tables]
        tags = {**verdicts, TABLES_TAG: json.dumps(tables), NOTE: summary.description,
                STUDY: self._home.name, ROOT_TAG: self._instance}
        if report is not None:
            tags[REPORT_TAG] = "of the same runs as the table"
        elif holds_report:
            tags[REPORT_TAG] = (f"older than the table: `gan-bench report {self._home.name}` makes "
                                f"it anew")
        self._client.log_batch(number, tags=[RunTag(k, v) for k, v in tags.items()])
        with uploads(location):
            for name, (columns, rows) in summary.tables.items():
                table = {"columns": columns,
                         "data": [[_json_cell(cell) for cell in row] for row in rows]}
                self._client.log_dict(number, table, name)
            if report is not None and location.startswith(("file:", "/")):
                shutil.rmtree(local_path(location) / REPORT, ignore_errors=True)
            for place, file in (report or {}).items():
                folder = Path(REPORT, place).parent.as_posix()
                self._client.log_artifact(number, str(file), folder)
        # It takes no time, however often it is written.
        self._client.set_terminated(number, Status.FINISHED.value, run.info.start_time)


def _verdict_tags(verdicts: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of verdicts: MLflow refuses keys such as `lr=0.0001` or `r1+r2`."""
    tags: dict[str, str] = {}
    for name, verdict in verdicts.items():
        key = VERDICT + re.sub(r"[^\w.\- ]", "_", name)
        if key in tags or len(key) > MOST_KEY:
            key = f"{key[:MOST_KEY - 9]}-{_digest(name.encode())[:8]}"
        tags[key] = verdict
    return tags


def _json_cell(cell: Cell) -> Cell:
    """Return what JSON can hold of a cell."""
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]


def _read_cursor(folder: Path, uri: str) -> StudyCursor | None:
    entry = _read_file(folder).get(store_name(folder, uri))
    try:
        cursor = StudyCursor(**entry) if isinstance(entry, dict) else None
    except TypeError:
        return None
    is_sound = cursor and all(isinstance(text, str) for text in asdict(cursor).values())
    return cursor if cursor and is_sound and RUN_ID.fullmatch(cursor.mlflow_run_id) else None


def _write_cursor(folder: Path, uri: str, cursor: StudyCursor) -> None:
    cursors = {**_read_file(folder), store_name(folder, uri): asdict(cursor)}
    with replacing(folder.parent / FILE) as temporary:
        temporary.write_text(json.dumps(cursors, indent=1) + "\n")


def _read_file(folder: Path) -> dict[str, Any]:
    cursors: object = None
    with suppress(OSError, ValueError, RecursionError):
        cursors = json.loads((folder.parent / FILE).read_text())
    return cursors if isinstance(cursors, dict) else {}
