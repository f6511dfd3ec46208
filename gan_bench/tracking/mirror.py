"""Replays the journals of runs into MLflow. It may lag or restart; it loses and doubles nothing.

The journal is the truth and MLflow a view of it. Everything that MLflow receives follows from the
run's folder alone, times included. So replaying a record twice changes nothing: a metric's primary
key is (key, timestamp, step, run, value), and each picture has a fixed name. A cursor file in the
run's folder says how far the replay got, and a tag of the MLflow run says so too. If the cursor is
lost, or the store was set back to an older copy, the replay begins again.

mlflow (3.17) is imported inside functions: the import takes over a second.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_bench.errors import DamagedError
from gan_bench.journal import reading, segments
from gan_bench.journal.about import read_varied
from gan_bench.journal.layout import LOG, TABLE, TRACE, WEIGHTS
from gan_bench.journal.plugin_files import PLUGINS
from gan_bench.journal.reading import valid, voids
from gan_bench.journal.schema import Kind, Record, Status
from gan_bench.journal.spec_file import read_names, read_values
from gan_bench.tracking.durable import make_durable
from gan_bench.tracking.pages.experiments import Experiments, declared_in
from gan_bench.tracking.runs import cursor as cursors
from gan_bench.tracking.runs import tags
from gan_bench.tracking.runs.cursor import Cursor
from gan_bench.tracking.runs.own_runs import OwnRuns
from gan_bench.tracking.store.client import (
    DeletedRun,
    Store,
    mlflow_errors,
    write_shared,
)
from gan_bench.tracking.store.shared_artifacts import uploads
from gan_bench.tracking.thinning import Thinning, last_losses, thinning_of

if TYPE_CHECKING:
    from mlflow.entities import Run


class Mirror:
    """Copies new records from journals to MLflow. One thread at a time.

    Args:
        store: The store to write to.
        refuse_superseded: Raises a SupersededError if another process mirrors the experiment now,
            as this one was frozen for longer than its lease.
    """

    def __init__(self, store: Store, refuse_superseded: Callable[[], None] = lambda: None,
                 ) -> None:
        self.store = store
        self._client = store.client
        self._refuse_superseded = refuse_superseded
        self._own_runs = OwnRuns(store, refuse_superseded)
        self._experiments = Experiments(store)
        self._checked: set[str] = set()

    @property
    def elsewhere(self) -> dict[str, str]:
        """By experiment, the folder of another root that its artifacts go to."""
        return self._experiments.elsewhere

    def open_experiment(self, folder: Path) -> str:
        """Return MLflow's id of the experiment in this folder; create it if needed.

        Raises:
            DeletedExperiment: It was deleted in MLflow.
            MirrorError: MLflow fails.
        """
        return self._experiments.open(folder)

    def sync(self, folder: Path) -> None:
        """Replay the new records of the run's journal.

        Raises:
            DeletedRun: The user deleted the run in MLflow.
            SupersededError: Another process mirrors the experiment now.
            MirrorError: MLflow fails; call again later.
        """
        self._refuse_superseded()
        began = reading.first(folder)
        if began is None:
            return
        with mlflow_errors(self.store.uri):
            cursor = self._find_cursor(folder)
            segment = max(segments.segments(folder), default=1)  # or an earlier one than is read
            records, offset = reading.read_records(folder, cursor.offset if cursor else 0)
            if cursor is None or any(map(voids, records)):
                records, offset = reading.read_records(folder)
                run_id = self._find_or_create(folder, reading.attempts(records))
                store = cursors.store_name(folder, self.store.uri)
                varied = ",".join(read_varied(folder.parent))
                cursor = Cursor(store, run_id, 0, began["t"], varied=varied)
                records = valid(records)
            self._checked.add(cursor.mlflow_run_id)
            if records:
                make_durable(folder, is_new=cursor.offset == 0)
                self._replay(folder, cursor.mlflow_run_id, records)
                self._client.set_tag(cursor.mlflow_run_id, tags.COPIED, str(offset))
            if records or not cursor.shows_names(folder):
                variant, place = read_names(folder)
                cursors.write_cursor(folder, replace(
                    cursor, offset=offset, segment=segment, run_id=folder.name, naming=tags.NAMING,
                    variant=variant or cursor.variant, place=place,
                    varied=_varied(folder, cursor)))
            self._experiments.prepare_page(folder)

    def _find_cursor(self, folder: Path) -> Cursor | None:
        """Return the cursor if the store still has its run, and no other root has claimed it.

        It is at the journal's begin if the store has less of the run than the cursor says. If the
        store has more than the journal, its run is deleted.
        """
        late = cursors.run_with_more(folder, self.store.uri)
        if late is not None and self._own_runs.adopt(folder, late) is not None:
            self._client.delete_run(late)
        cursor = cursors.read_cursor(folder, self.store.uri)
        if cursor is None or (cursor.mlflow_run_id in self._checked
                              and cursor.shows_names(folder)):
            return cursor
        run = self._own_runs.adopt(folder, cursor.mlflow_run_id)
        if run is None:
            if self._own_runs.was_deleted(folder, cursor.mlflow_run_id):
                self.open_experiment(folder.parent)  # raises if that was deleted
                raise DeletedRun(f"{folder.parent.name}/{folder.name} was deleted in MLflow")
            return None
        if not cursor.shows_names(folder):
            self._show_names(folder, run, cursor)
        behind = tags.is_behind(run.data.tags.get(tags.COPIED), cursor.offset)
        return replace(cursor, offset=0) if behind else cursor

    def _find_or_create(self, folder: Path, attempts: list[int]) -> str:
        """Return the MLflow run of the last attempt; delete the MLflow runs of earlier attempts."""
        name, run_tags = _names(folder)
        experiment = self.open_experiment(folder.parent)
        return self._own_runs.find_or_create(folder, experiment, attempts, name,
                                             {**run_tags, tags.COPIED: "0"})

    def _show_names(self, folder: Path, run: Run, cursor: Cursor) -> None:
        """Let MLflow show the present names of a run, and its `spec.json`, which holds them."""
        varied = _varied(folder, cursor)
        params, _ = tags.params(read_values(folder), varied.split(",")) if varied else ({}, {})
        self._own_runs.show_names(run, *_names(folder), params)
        last = reading.last(folder)
        if last is not None and last["kind"] == Kind.END:  # before, it is no artifact
            with uploads(str(run.info.artifact_uri)):
                self._client.log_artifact(run.info.run_id, str(_within(folder, "spec.json")))

    def _replay(self, folder: Path, mlflow_run_id: str, records: list[Record]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        thinning = thinning_of(read_values(folder))
        kept = [*thinning.values(records), *_last_losses(folder, thinning, records)]
        metrics = [Metric(key, value, record["t"], record["step"]) for record, key, value in kept]
        images = [record for record in records if record["kind"] == Kind.IMAGE]
        run_tags = {"mlflow.loggedImages": "True"} if images else {}
        if len(kept) < sum(len(record.get("values", ())) for record in records):
            run_tags[tags.LOSSES_EVERY] = str(thinning.every)
        params: dict[str, str] = {}
        for record in records:
            if record["kind"] == Kind.START:
                params, settings = tags.params(read_values(folder), read_varied(folder.parent))
                run_tags |= settings | tags.circumstance_tags(record["facts"])
                if record["facts"].get("dataset"):
                    self._log_dataset(mlflow_run_id, record["facts"]["dataset"])
            elif record["kind"] == Kind.PROTOCOL:
                run_tags |= tags.protocol(_protocols(folder)) | tags.measured_by(record)
            elif record["kind"] == Kind.RESUME:
                run_tags |= tags.resumed(record)
        run_tags["heartbeat"] = tags.when(records[-1]["t"])
        # One call: the client splits it into batches of 1,000, MLflow's limit.
        self._client.log_batch(mlflow_run_id, metrics,
                               [Param(k, v) for k, v in params.items()],
                               [RunTag(k, v) for k, v in run_tags.items()])
        if images:
            self._log_images(folder, mlflow_run_id, images)
        state = next((r for r in reversed(records) if r["kind"] in (Kind.RESUME, Kind.END)), None)
        if state and state["kind"] == Kind.END:
            # Scores that were added after an end that is there: so are the weights. (Training
            # writes its protocol at step 0.)
            is_amended = (records[0]["kind"] == Kind.PROTOCOL
                          and records[0]["step"] == state["step"] > 0)
            files = () if is_amended else (WEIGHTS, TABLE, TRACE)
            self._end(folder, mlflow_run_id, state, files)
        elif state:
            self._client.update_run(mlflow_run_id, Status.RUNNING.value)

    def _log_dataset(self, mlflow_run_id: str, facts: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        profile = {"train": facts["train"], "test": facts["test"]}
        dataset = Dataset(facts["name"], facts["fingerprint"][:36], "gan_bench",
                          json.dumps({"name": facts["name"]}), profile=json.dumps(profile))
        context = InputTag("mlflow.data.context", "training")
        inputs = [DatasetInput(dataset, [context])]
        write_shared(lambda: self._client.log_inputs(mlflow_run_id, inputs))

    def _log_images(self, folder: Path, mlflow_run_id: str, records: list[Record]) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            for record in records:
                picture = _within(folder, record["file"])
                if picture.exists():  # the user may have deleted it to save space
                    for name in tags.picture(folder.name, record):
                        shutil.copyfile(picture, Path(temporary, name))
            self._client.log_artifacts(mlflow_run_id, temporary, "images")

    def _end(self, folder: Path, mlflow_run_id: str, end: Record, files: Sequence[str]) -> None:
        """Record how the run ended, and upload its files; these are copied beside the journal."""
        from mlflow.entities import RunTag

        status, why = end["status"], end["why"]
        is_result = Status(status).is_result
        log = () if is_result else (LOG,)  # with the traceback, if there is one
        with uploads(str(self._client.get_run(mlflow_run_id).info.artifact_uri)):
            for name in ("spec.json", *files, *log):
                if _within(folder, name).exists():
                    self._client.log_artifact(mlflow_run_id, str(folder / name))
            self._log_journal(folder, mlflow_run_id)
            if protocols := _protocols(folder):
                self._client.log_dict(mlflow_run_id, protocols, "protocols.json")
            for file in sorted((folder / PLUGINS).rglob("*.py")):
                place = _within(folder, str(file.relative_to(folder))).parent
                self._client.log_artifact(mlflow_run_id, str(file),
                                          place.relative_to(folder).as_posix())
        run_tags = {"status": status, "why": why} if why else {"status": status}
        self._client.log_batch(mlflow_run_id, tags=[RunTag(k, v) for k, v in run_tags.items()])
        # Divergence is a result of the experiment, not a failure of the program.
        mlflow_status = Status.FINISHED if is_result else Status(status)
        self._client.set_terminated(mlflow_run_id, mlflow_status.value, end["t"])

    def _log_journal(self, folder: Path, mlflow_run_id: str) -> None:
        """Upload the journal as one file, in however many segments it lies."""
        if segments.segments(folder) == [1]:
            self._client.log_artifact(mlflow_run_id, str(_within(folder, reading.FILE)))
            return
        with tempfile.TemporaryDirectory() as temporary:
            whole = Path(temporary, reading.FILE)
            whole.write_bytes(reading.content(folder))
            self._client.log_artifact(mlflow_run_id, str(whole))


def _names(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the name of a run in MLflow, and its tags of identity and note."""
    spec, declared = read_values(folder), declared_in(folder.parent)
    note = tags.note(folder.name, spec, declared.question,
                     declared.differs.get(spec["variant"], ""), declared.command)
    identity = {**tags.identity(folder.name, spec), tags.NOTE: note}
    return tags.name(spec["variant"], spec["seed"], spec.get("draw")), identity


def _varied(folder: Path, cursor: Cursor) -> str:
    """Return which settings a run shows as params: those that it showed, and what the grid added.
    """
    if not cursor.varied:
        return ""
    return ",".join(sorted({*cursor.varied.split(","), *read_varied(folder.parent)}))


def _protocols(folder: Path) -> dict[str, Any]:
    """Return how each score of a run's journal was measured, by its full name."""
    protocols: dict[str, Any] = {}
    for record in valid(reading.read_records(folder)[0]):
        if record["kind"] == Kind.PROTOCOL:
            protocols |= record["protocol"]
    return protocols


def _last_losses(folder: Path, thinning: Thinning, records: Sequence[Record],
                 ) -> Iterator[tuple[Record, str, float]]:
    """Yield the last losses of a run that diverges in these records, where thinning omits them."""
    if thinning.every > 1 and records[-1]["kind"] == Kind.END:
        yield from Thinning(1, 0).values(last_losses(valid(reading.read_records(folder)[0])))


def _within(folder: Path, name: str) -> Path:
    """Return the path of a run's file; refuse a link out of the folder, which may be private."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise DamagedError(f"{file}: is a link out of the run's folder; remove it")
    return file
