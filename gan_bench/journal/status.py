"""The states of runs, and how they ended, read from their journals. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_bench.config.declared import FinalMeasurement
from gan_bench.config.spec import EvaluateSpec, RunSpec, measurement_of
from gan_bench.journal import reading, schema, segments
from gan_bench.journal.about import asked_weights
from gan_bench.journal.drift import describe_drift
from gan_bench.journal.layout import WEIGHTS, is_trained
from gan_bench.journal.schema import Kind, Status
from gan_bench.journal.scores.score_names import bare_name, compared_scores, names_at


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: The run's id.
        status: FINISHED; DIVERGED (a result, not a failure); FAILED (the program raised);
            KILLED (its process died without recording an end).
        why: The reason, in a line; empty for FINISHED.
        missing: What MLflow lacks of a run that was to be mirrored, and what to do, a line each.
    """

    run: str
    status: Status
    why: str = ""
    missing: tuple[str, ...] = ()


@dataclass
class Progress:
    """The progress of a run, as far as its journal records it.

    Attributes:
        spec: The run.
        folder: The run's folder.
        state: WAITING, RUNNING, or how the run ended.
        why: The reason of any end but FINISHED.
        step: The last step in the journal.
        values: The latest value of every loss, score and measurement, by name.
        scores: The final scores that the specification asks for, without prefix; of a run that
            goes on, those of the last measurement.
        protocols: How each of `scores` was measured, by the same names.
        announced: How each score of the journal is measured, by its full name.
        measured: At which steps each score, of each full name, was measured.
        recording: `RunSpec.recording` of what was measured and recorded when the run ended.
        numerics: The NUMERICS under which the run began; None if its journal does not say.
        notes: A line for each time that the run resumed.
        is_measuring: Whether it is trained, and a process measures what it lacks.
        unmeasured: Why it could not be measured; empty if it could.
        offset: The bytes of the journal that have been read.
        segment: The number of the segment that it was written to then.
    """

    spec: RunSpec
    folder: Path
    state: Status = Status.WAITING
    why: str = ""
    step: int = 0
    values: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    announced: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    measured: dict[str, set[int]] = field(default_factory=dict, repr=False)
    recording: str | None = None
    numerics: int | None = None
    notes: list[str] = field(default_factory=list, repr=False)
    is_measuring: bool = False
    unmeasured: str = ""
    offset: int = 0
    segment: int = field(default=0, repr=False)

    def follow(self) -> bool:
        """Read the new records of the journal; return whether there are any."""
        self._begin_again_if_cut()
        records, self.offset = reading.read_records(self.folder, self.offset)
        for record in records:
            self.step = record["step"]
            if record["kind"] in (Kind.METRICS, Kind.SYSTEM):
                self._add_values(record)
            elif record["kind"] == Kind.PROTOCOL:
                self.announced.update(record["protocol"])
            elif record["kind"] == Kind.START:
                self.values, self.measured, self.numerics = {}, {}, _numerics(record)
                self.state, self.why = Status.RUNNING, ""
            elif record["kind"] == Kind.RESUME:
                self.state, self.why = Status.RUNNING, ""
                if record["void"]:
                    self._forget_after(record["step"])
                self.notes.append(_describe_resume(record))
            elif record["kind"] == Kind.END:
                self.state, self.why = Status(record["status"]), record["why"]
                self.recording = record.get("recording")
        is_finished = self.state == Status.FINISHED
        scores = self.compared(self.asked() if is_finished else None)
        self.scores = {name: value for name, (_, value) in scores.items()}
        self.protocols = {name: self.announced.get(full, {})
                          for name, (full, _) in scores.items()}
        return bool(records)

    def _begin_again_if_cut(self) -> None:
        """Forget what was read if a new attempt has left some of it out of the journal."""
        present = segments.segments(self.folder)
        newest = present[-1] if present else 0
        if newest != self.segment and not segments.counts(self.folder, self.segment, self.offset):
            self.values, self.scores, self.protocols = {}, {}, {}
            self.announced, self.measured, self.offset = {}, {}, 0
        self.segment = newest

    def _add_values(self, record: schema.Record) -> None:
        for name, value in record["values"].items():
            if bare_name(name) is None:
                self.values[name] = value
                continue
            steps = self.measured.setdefault(name, set())
            steps.add(record["step"])
            if record["step"] == max(steps):  # an earlier step may be measured after the run
                self.values[name] = value

    def _forget_after(self, step: int) -> None:
        """Forget the scores after a step, which will be measured anew."""
        for name, steps in list(self.measured.items()):
            self.measured[name] = {each for each in steps if each <= step}
            if not self.measured[name]:
                del self.measured[name], self.values[name]

    def asked(self, plan: EvaluateSpec | None = None) -> FinalMeasurement:
        """Return what a plan measures, under the extractors' weights that are asked for.

        Args:
            plan: None: that after the last step.
        """
        plan = plan or self.spec.evaluate.final or self.spec.evaluate
        return measurement_of(plan).under(asked_weights(self.folder.parent))

    def names_at(self, step: int, asked: FinalMeasurement) -> dict[str, str]:
        """Return the run's scores of a step as `score_names.names_at` does."""
        return names_at(step, self.measured, self.protocol_of, asked)

    def compared(self, final: FinalMeasurement | None) -> dict[str, tuple[str, float]]:
        """Return the run's scores as `score_names.compared_scores` does."""
        latest = {name: (max(steps), self.values[name]) for name, steps in self.measured.items()}
        return compared_scores(latest, self.step, self.protocol_of, final)

    def protocol_of(self, full: str) -> dict[str, Any]:
        """Return how the score of a full name is measured; empty if unknown."""
        return self.announced.get(full, {})


def _numerics(start: schema.Record) -> int | None:
    versions = start.get("facts", {}).get("versions", {})
    numerics = versions.get("numerics") if isinstance(versions, dict) else None
    return numerics if isinstance(numerics, int) else None


def progress_of(run: RunSpec, root: Path) -> Progress:
    """Return a run's progress under `root`; WAITING unless it has a result and its weights."""
    progress = Progress(run, run.folder(root))
    progress.follow()
    return progress if is_trained(progress.folder) else Progress(run, run.folder(root))


def state_of(run: RunSpec, root: Path) -> tuple[Status, int]:
    """Return (state, last step) of a run from the end of its journal alone.

    Without an end record the run is RUNNING if a process has the journal open, else KILLED. A run
    whose weights are missing will be trained again: it is WAITING, as in `progress_of`.
    """
    state, record = state_in(run.folder(root))
    return state, record["step"] if record and state != Status.WAITING else 0


def state_in(folder: Path) -> tuple[Status, schema.Record | None]:
    """Return the state of the run in a folder as `state_of` does, and the journal's last record."""
    record = reading.last(folder)
    if reading.is_open(folder):
        return Status.RUNNING, record
    if record is None:
        return Status.WAITING, None
    state = Status(record["status"]) if record["kind"] == Kind.END else Status.KILLED
    if state.is_result and not (folder / WEIGHTS).exists():
        state = Status.WAITING
    return state, record


def _describe_resume(record: schema.Record) -> str:
    """Describe in a line how a run resumed."""
    if record.get("continues"):
        return f"continues {record['continues']} from step {record['step']}"
    action = f"resumes after step {record['step']}" if record["step"] else "begins again"
    if not (record["step"] or record["drift"] or record["note"]):
        return f"{action}: it had no checkpoint yet"
    drift = f", though changed: {describe_drift(record['drift'])}" if record["drift"] else ""
    note = f" ({record['note']})" if record["note"] else ""
    return action + drift + note
