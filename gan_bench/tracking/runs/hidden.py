"""Runs that a store has received, and that its page and reports do not show in their experiment.

What a user deletes, renames or moves in MLflow's page is not taken back by itself: it is said. What
a store has lost, as it was set back to an older copy, is copied again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from gan_bench.config.declared import Declared
from gan_bench.config.run_id import settings_under
from gan_bench.errors import DamagedError, count
from gan_bench.journal.about import read_about
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.spec_file import read_values
from gan_bench.tracking.runs import tags
from gan_bench.tracking.runs.cursor import Cursor, read_cursor
from gan_bench.tracking.store.address import is_server, quiet_mlflow, sqlite_path, without_password
from gan_bench.tracking.store.database import open_read_only

AT_ONCE = 8  # requests to a server
NAMED = 5  # runs in a line
PLACES = ("select r.run_uuid, r.lifecycle_stage, e.name, e.lifecycle_stage, e.experiment_id, "
          "t.value from runs r join experiments e on e.experiment_id = r.experiment_id "
          f"left join tags t on t.run_uuid = r.run_uuid and t.key = '{tags.COPIED}'")


class HiddenReason(StrEnum):
    """Why MLflow does not show a run, or all of it."""

    LOST = "lost"
    BEHIND = "lacks records"
    DELETED = "deleted"
    ELSEWHERE = "in another experiment"
    EXPERIMENT_DELETED = "in a deleted experiment"


@dataclass(frozen=True)
class Place:
    """Where a store has a run.

    Attributes:
        stage: Of the run: "active" or "deleted".
        experiment, experiment_stage, experiment_id: Of its experiment.
        copied: The run's tag `COPIED`; None if it has none.
    """

    stage: str
    experiment: str
    experiment_stage: str
    experiment_id: str
    copied: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class HiddenRun:
    """A run whose journal the store has received, and which it does not show, or not all of it.

    Attributes:
        folder: The run's.
        reason: Why it is not shown.
        place: Where the store has it; None if it is lost.
    """

    folder: Path
    reason: HiddenReason
    place: Place | None


def hidden_runs(folders: Iterable[Path], uri: str) -> list[HiddenRun]:
    """Return the runs that the store hides, among those that it has received.

    Args:
        folders: Of runs.
        uri: The store.

    Raises:
        Exception: Whatever the server or the database driver raises.
    """
    received = {}
    for folder in folders:
        try:
            cursor = read_cursor(folder, uri)
        except DamagedError:  # the replay of this journal reports it
            cursor = None
        if cursor is not None:
            received[folder] = cursor
    if not received:
        return []
    places = _places(uri, [cursor.mlflow_run_id for cursor in received.values()])
    hidden = [(folder, cursor, places.get(cursor.mlflow_run_id))
              for folder, cursor in received.items()]
    return [HiddenRun(folder, reason, place) for folder, cursor, place in hidden
            if (reason := _reason(place, folder.parent.name, cursor))]


def lacking_runs(hidden: Iterable[HiddenRun]) -> list[Path]:
    """Return the folders of the runs that the store has lost, or part of them: to copy again."""
    return [run.folder for run in hidden
            if run.reason in (HiddenReason.LOST, HiddenReason.BEHIND)]


def lacking_line(folders: Sequence[Path]) -> str:
    """Return what to say of the runs that a store has lost, or part of them."""
    return (f"MLflow has lost records of {count(len(folders), 'run')} ({listed(folders)}), as if "
            f"it was set back to an older copy: they are copied again")


def of_current_settings(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of the runs under settings that their experiment declares.

    A report goes by settings, too, so a variant that was renamed keeps its runs. Where an
    experiment declares no settings, all runs count.
    """
    current = []
    of_experiment: dict[Path, Declared] = {}
    for folder in folders:
        home = folder.parent
        if home not in of_experiment:
            of_experiment[home] = _declared(home)
        try:
            spec = read_values(folder)
        except DamagedError:
            continue
        settings = of_experiment[home].settings
        if not settings or settings_under(folder.name, spec) in settings.values():
            current.append(folder)
    return current


def hidden_lines(hidden: Sequence[HiddenRun], workspace: Workspace, uri: str) -> list[str]:
    """Return what to say of an experiment's hidden runs, a line for each reason and place."""
    lines = []
    for place in dict.fromkeys(run.place for run in hidden
                               if run.reason == HiddenReason.EXPERIMENT_DELETED):
        assert place is not None
        lines.append(deleted_experiment(uri, place.experiment, place.experiment_id))
    groups: dict[str, list[Path]] = {}
    for run in hidden:
        if run.reason == HiddenReason.DELETED:
            groups.setdefault("deleted in MLflow", []).append(run.folder)
        elif run.reason == HiddenReason.ELSEWHERE:
            assert run.place is not None
            where = f"in the experiment {run.place.experiment!r} in MLflow"
            groups.setdefault(where, []).append(run.folder)
    for where, folders in groups.items():
        verb, pronoun = ("is", "it") if len(folders) == 1 else ("are", "them")
        command = anew_command(workspace, uri)
        lines.append(f"{count(len(folders), 'run')} of the journals {verb} {where}: left out "
                     f"({listed(folders)}); `{command}` copies {pronoun} anew")
    return lines


def hidden_in(workspace: Workspace, uri: str, experiment: str) -> list[str]:
    """Return what to say of the hidden runs of an experiment under its current settings."""
    home = workspace.root / "runs" / experiment
    if Path(experiment).name != experiment or not home.is_dir():
        return []
    folders = of_current_settings(run_folders(home))
    with quiet_mlflow():
        return hidden_lines(hidden_runs(folders, uri), workspace, uri)


def deleted_experiment(uri: str, name: str, experiment_id: str) -> str:
    """Return the line on an experiment that was deleted in MLflow, with the command for a shell."""
    address = shlex.quote(without_password(uri))
    return (f"the experiment {name!r} was deleted in MLflow: restore it with `MLFLOW_TRACKING_URI="
            f"{address} mlflow experiments restore -x {experiment_id}`, or rename the experiment")


def anew_command(workspace: Workspace, uri: str) -> str:
    """Return the command that copies hidden runs anew, for a shell."""
    return f"{sync_command(workspace, uri)} --anew"


def sync_command(workspace: Workspace, uri: str) -> str:
    """Return the command that copies what a store lacks, for a shell."""
    is_default = uri == f"sqlite:///{workspace.database}"
    store = "" if is_default else f" --to {shlex.quote(without_password(uri))}"
    return f"gan-bench sync --root {shlex.quote(str(workspace.root))}{store}"


def _declared(experiment: Path) -> Declared:
    try:
        return read_about(experiment)
    except ValueError:  # reading the results reports it
        return Declared()


def _reason(place: Place | None, experiment: str, cursor: Cursor) -> HiddenReason | None:
    if place is None:
        return HiddenReason.LOST
    if place.experiment_stage != "active" and place.experiment == experiment:
        return HiddenReason.EXPERIMENT_DELETED
    if place.stage != "active" or place.experiment_stage != "active":
        return HiddenReason.DELETED
    if place.experiment != experiment:
        return HiddenReason.ELSEWHERE
    return HiddenReason.BEHIND if tags.is_behind(place.copied, cursor.offset) else None


def listed(folders: Sequence[Path]) -> str:
    """Return the names of the first runs."""
    names = ", ".join(map(_name, folders[:NAMED]))
    return names + (", …" if len(folders) > NAMED else "")


def _name(folder: Path) -> str:
    try:
        values = read_values(folder)
        return tags.label(values["variant"], values["seed"], values.get("draw"))
    except DamagedError:
        return folder.name


def _places(uri: str, runs: list[str]) -> dict[str, Place]:
    """Return where the store has each run; what is missing there is missing here."""
    if is_server(uri):
        return _places_at_server(uri, runs)
    return {run: Place(stage, name, experiment_stage, str(number), copied)
            for run, stage, name, experiment_stage, number, copied in rows_of(uri, PLACES)}


def rows_of(uri: str, query: str) -> list[tuple[Any, ...]]:
    """Return what a database answers; nothing if it is an SQLite file that is missing."""
    database = sqlite_path(uri)
    if database is None:
        from sqlalchemy import text

        from gan_bench.tracking.reader import connected

        with connected(uri) as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    if not database.exists():
        return []
    with closing(open_read_only(database)) as file:
        return file.execute(query).fetchall()


def _places_at_server(uri: str, runs: list[str]) -> dict[str, Place]:
    from mlflow import MlflowClient
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=uri)
    experiments: dict[str, tuple[str, str]] = {}
    token: str | None = None
    while token != "":
        page = client.search_experiments(ViewType.ALL, page_token=token)
        experiments |= {found.experiment_id: (found.name, found.lifecycle_stage) for found in page}
        token = page.token or ""

    def place(run: str) -> Place | None:
        try:
            entity = client.get_run(run)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        info, copied = entity.info, entity.data.tags.get(tags.COPIED)
        name, stage = experiments.get(info.experiment_id, ("", "deleted"))
        return Place(info.lifecycle_stage, name, stage, info.experiment_id, copied)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        places = dict(zip(runs, pool.map(place, runs), strict=True))
    return {run: found for run, found in places.items() if found is not None}
