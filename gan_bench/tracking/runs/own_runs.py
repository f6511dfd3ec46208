"""The MLflow runs of a root: found by their recorded origin, adopted, created and deleted.

A run of another root is left alone, even if it shows the same run: this root creates its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.journal import reading
from gan_bench.tracking.runs import cursor as cursors
from gan_bench.tracking.runs import tags as run_tags
from gan_bench.tracking.runs.origin import (
    ROOT_TAG,
    attempt_of,
    instance_of,
    origin_tags,
    run_root,
)
from gan_bench.tracking.store.address import sqlite_path
from gan_bench.tracking.store.client import Store, find_run_of

if TYPE_CHECKING:
    from mlflow.entities import Run


class OwnRuns:
    """What a store holds of roots on this machine.

    Args:
        store: The store.
        refuse_superseded: As for `Mirror`.
    """

    def __init__(self, store: Store, refuse_superseded: Callable[[], None]) -> None:
        self._store, self._refuse_superseded = store, refuse_superseded
        self._client = store.client
        self._instances: dict[Path, str] = {}

    def adopt(self, folder: Path, mlflow_run_id: str) -> Run | None:
        """Return this run if the store has it for the root to write to; record the root there.

        None if it was deleted in MLflow, is a run of another root, or shows another run.
        """
        run = find_run_of(self._client, mlflow_run_id)
        if run is None or not self._is_own(folder, run):
            return None
        self._claim(folder, run)
        return run

    def show_names(self, run: Run, name: str, tags: Mapping[str, str],
                   params: Mapping[str, str]) -> None:
        """Let MLflow show the present name, identity, note and params of a run.

        A name or a note that the user has written in MLflow's page stays, and so does every param
        that is there.
        """
        from mlflow.entities import Param, RunTag

        shown = run.data.tags
        who = shown.get("variant"), shown.get("seed"), shown.get("draw")
        before = run_tags.name(*who), run_tags.label(*who)
        new_params = [Param(k, v) for k, v in params.items() if k not in run.data.params]
        names = {key: tags.get(key, "") for key in run_tags.IDENTITY
                 if shown.get(key, "") != tags.get(key, "")}
        if shown.get(run_tags.NOTE, "").startswith(run_tags.note_begin(shown.get("variant", ""))):
            names[run_tags.NOTE] = tags[run_tags.NOTE]
        if run.info.run_name in before and run.info.run_name != name:
            self._client.update_run(run.info.run_id, name=name)
        self._client.log_batch(run.info.run_id, params=new_params,
                               tags=[RunTag(k, v) for k, v in names.items()])

    def was_deleted(self, folder: Path, mlflow_run_id: str) -> bool:
        """Whether the user deleted this MLflow run of the root.

        A run that shows an attempt which the journal voids was deleted by `find_or_create`.
        """
        run = find_run_of(self._client, mlflow_run_id)
        if run is None or run.info.lifecycle_stage == "active" or not self._shows(folder, run):
            return False
        records, _ = reading.read_records(folder)
        return self._attempt(run) == reading.attempts(records)[-1]

    def find_or_create(self, folder: Path, experiment: str, attempts: Sequence[int], name: str,
                       tags: Mapping[str, str]) -> str:
        """Return MLflow's id of the run of the last attempt; delete what shows an earlier attempt.

        Deleted are the attempts that the journal voids, and the run that the cursor file names, as
        a journal may have been replaced. Others under this root's identity may be of a clone that
        shares it.

        The answer to an earlier call may have been lost on the way, or the request doubled: of
        several runs of this attempt, one stays.

        Args:
            folder: The run's.
            experiment: MLflow's id of its experiment.
            attempts: When each attempt of the journal began, in ms since 1970; the last one counts.
            name, tags: Of a new run.
        """
        *voided, attempt = attempts
        named = cursors.named_run(folder, self._store.uri)
        runs = self._of_attempts(folder, experiment, named)
        for run in runs:
            began = self._attempt(run)
            if began != attempt and (began in voided or run.info.run_id == named):
                self._client.delete_run(run.info.run_id)
        same = [run for run in runs if self._attempt(run) == attempt]
        if same:
            kept = max(same, key=lambda run: len(run.data.metrics))
            self._claim(folder, kept)
            self.show_names(kept, name, tags, {})  # the replay logs all params
            self._delete_twins(same, kept.info.run_id)
            return str(kept.info.run_id)
        origin = origin_tags(self._instance(folder), attempt)
        self._refuse_superseded()  # whoever has taken over creates it
        created = self._client.create_run(experiment, attempt, {**tags, **origin}, name)
        self._delete_twins([run for run in self._of_origin(folder, experiment)
                            if self._attempt(run) == attempt], created.info.run_id)
        return str(created.info.run_id)

    def _of_attempts(self, folder: Path, experiment: str, named: str | None) -> list[Run]:
        """Return the root's MLflow runs of this run, and the run that its cursor file names."""
        runs = {run.info.run_id: run for run in self._of_origin(folder, experiment)}
        run = find_run_of(self._client, named) if named and named not in runs else None
        if run is not None and self._is_own(folder, run):
            runs[run.info.run_id] = run
        return list(runs.values())

    def _of_origin(self, folder: Path, experiment: str) -> list[Run]:
        origin = (f"tags.run_id = '{folder.name}' and "
                  f"tags.`{ROOT_TAG}` = '{self._instance(folder)}'")
        return list(self._client.search_runs([experiment], filter_string=origin))

    def _is_own(self, folder: Path, run: Run) -> bool:
        """Whether a run that the cursor file names is one to write to."""
        return run.info.lifecycle_stage == "active" and self._shows(folder, run)

    def _shows(self, folder: Path, run: Run) -> bool:
        """Whether an MLflow run shows this run of the root.

        Runs of earlier versions record no root. The database in a root was copied with the root, so
        there a run of the root that was copied is meant.
        """
        if run.data.tags.get("run_id") not in (folder.name,
                                               cursors.shown_id(folder, self._store.uri)):
            return False
        database = sqlite_path(self._store.uri)
        is_in_root = database is not None and database.parent == run_root(folder)
        return is_in_root or run.data.tags.get(ROOT_TAG) in (None, self._instance(folder))

    def _claim(self, folder: Path, run: Run) -> None:
        """Record the root in an adopted run, so that a copy of the root leaves it alone."""
        origin = origin_tags(self._instance(folder), self._attempt(run))
        for key, value in origin.items():
            if run.data.tags.get(key) != value:
                self._client.set_tag(run.info.run_id, key, value)

    def _delete_twins(self, runs: list[Run], kept: str) -> None:
        for run in runs:
            if run.info.run_id != kept and not run.data.metrics:
                self._client.delete_run(run.info.run_id)

    def _instance(self, folder: Path) -> str:
        root = run_root(folder)
        if root not in self._instances:
            self._instances[root] = instance_of(root)
        return self._instances[root]

    @staticmethod
    def _attempt(run: Run) -> int:
        return attempt_of(run.data.tags, run.info.start_time)
