"""A run that continues from a shorter one: its state, and the records that both have in common.

The first steps of both are the same to the bit, so they are not trained twice. What a run does
after its last step alone (the last log, grid and measurement) is left out, unless the longer run
does it at that step too. A score is taken over only if both measure it alike.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from gan_bench.atomic import replacing
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, one_line
from gan_bench.journal import reading
from gan_bench.journal.drift import describe_drift, since
from gan_bench.journal.layout import (
    make_snapshot_folder,
    newest_checkpoint,
    remove_checkpoints,
    remove_snapshots,
    snapshot_file,
    snapshot_steps,
)
from gan_bench.journal.schema import Kind, Record
from gan_bench.journal.scores.score_names import CLASS, DURING, LOSSES
from gan_bench.journal.shorter_runs import has_last_networks
from gan_bench.journal.writing import Journal
from gan_bench.training import checkpoint
from gan_bench.training.checkpoint import Checkpoint
from gan_bench.training.loop import due
from gan_bench.training.step.engine import Engine


@dataclass(frozen=True)
class Continued:
    """What became of the attempt to continue from another run.

    Attributes:
        step: The step after which the run continues; 0 if it does not, and its last step if a
            snapshot has its networks.
        problems: Why it continues from none of the runs before the one that it continues from.
        is_spoilt: Whether the engine has loaded a part of a state that does not fit.
        recording: `RunSpec.recording` of the first steps; None if it is not known.
    """

    step: int = 0
    problems: list[str] = field(default_factory=list)
    is_spoilt: bool = False
    recording: str | None = None


def continue_from(predecessors: Sequence[Path], step: int, record: Journal, engine: Engine,
                  here: Mapping[str, Any], protocol: Mapping[str, Any]) -> Continued:
    """Let a run begin with the state and the records of a shorter run.

    Args:
        predecessors: The folders of shorter runs, the furthest first.
        step: That of the run's own checkpoint, 0 if it has none; one that is not further is of no
            use.
        record: The run's journal.
        engine: Loads the state.
        here: The circumstances of this process.
        protocol: How the run's scores are measured.
    """
    problems: list[str] = []
    for predecessor in predecessors:
        try:
            if has_last_networks(predecessor, engine.spec):
                start = _take_last_networks(predecessor, record, engine, here, protocol)
                return Continued(engine.spec.steps, problems, recording=_recording(start))
            saved = _read(predecessor, engine.spec, here)
        except (UserError, OSError) as error:
            problems.append(f"{predecessor.name} cannot be continued from: {one_line(error)}")
            continue
        if saved.step <= step:
            break
        try:
            engine.load(saved.engine)
        except (RuntimeError, ValueError) as error:
            problems.append(f"{predecessor.name} cannot be continued from: its state does not fit "
                            f"the networks any more ({one_line(error)}); their code must have "
                            f"changed")
            return Continued(0, problems, is_spoilt=True)
        start = _adopt(predecessor, saved, record, engine.spec, protocol)
        return Continued(saved.step, problems, recording=_recording(start))
    return Continued(0, problems)


def _recording(start: Record) -> str | None:
    recording: str | None = start.get("facts", {}).get("recording")
    return recording


def _read(predecessor: Path, spec: RunSpec, here: Mapping[str, Any]) -> Checkpoint:
    """Return the state of another run, after refusing one that this run would not have reached.

    Raises:
        UserError: It is damaged, too far, or of other circumstances.
        OSError: It cannot be read.
    """
    saved = checkpoint.read(newest_checkpoint(predecessor))
    if saved.step >= spec.steps:
        raise UserError(f"it is at step {saved.step:,}")
    if not reading.begins_line(predecessor, saved.position):
        raise UserError("its checkpoint does not belong to its journal")
    if drift := since(saved.facts, here):
        raise UserError(f"it was trained with {describe_drift(drift)}")
    _refuse_drift(_records(predecessor, saved))
    return saved


def _refuse_drift(records: Sequence[Record]) -> None:
    if any(record["drift"] for record in records if record["kind"] == Kind.RESUME):
        raise UserError("it was resumed with --allow-drift")


def _take_last_networks(predecessor: Path, record: Journal, engine: Engine, here: Mapping[str, Any],
                        protocol: Mapping[str, Any]) -> Record:
    """Give the engine the networks of the run's last step, from a snapshot of a longer run.

    Returns:
        The start record of the longer run.

    Raises:
        UserError: The snapshot is damaged, or of other circumstances, or the longer run has not
            logged the step.
        OSError: It cannot be read.
    """
    spec, file = engine.spec, snapshot_file(predecessor, engine.spec.steps)
    records = reading.valid(each for each, _ in reading.tail(predecessor, 0))
    records = [each for each in records  # a later measurement says at the end how it measures
               if each["step"] <= spec.steps or each["kind"] == Kind.PROTOCOL]
    if drift := since(records[0].get("facts", {}), here):
        raise UserError(f"it was trained with {describe_drift(drift)}")
    _refuse_drift(records)
    first = first_records(records, spec.steps, spec, protocol)
    # What follows the losses of the last step is measured from the networks.
    first = [each for each in first if each["step"] < spec.steps or _is_loss(each)]
    if all(each["step"] < spec.steps for each in first):  # the last may be a later measurement
        raise UserError(f"it has not logged step {spec.steps:,}")
    try:
        engine.load_measured(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{file}: {one_line(error)}") from None
    _adopt_records(predecessor, spec.steps, first, record, spec)
    return first[0]


def _is_loss(record: Record) -> bool:
    return bool(record["kind"] == Kind.SYSTEM or (
        record["kind"] == Kind.METRICS and all(n.startswith(LOSSES) for n in record["values"])))


def _records(predecessor: Path, saved: Checkpoint) -> list[Record]:
    """Return the valid records up to a checkpoint, undecoded."""
    return reading.valid(record for record, end in reading.tail(predecessor, 0)
                         if end <= saved.position)


def _adopt(predecessor: Path, saved: Checkpoint, record: Journal, spec: RunSpec,
           protocol: Mapping[str, Any]) -> Record:
    """Write the records, pictures and checkpoint of the first steps into the run's own folder.

    Returns:
        The start record of the other run.
    """
    records = first_records(_records(predecessor, saved), saved.step, spec, protocol)
    position = _adopt_records(predecessor, saved.step, records, record, spec)
    facts = {**saved.facts, "recording": spec.recording}
    # Last: without it the next attempt begins here again.
    checkpoint.write(record.folder, replace(saved, position=position, facts=facts), record.segment)
    return records[0]


def _adopt_records(predecessor: Path, step: int, records: Sequence[Record], record: Journal,
                   spec: RunSpec) -> int:
    """Write records, pictures and snapshots of another run into the run's own folder.

    Returns:
        The position in its journal after them.
    """
    record.refuse_superseded()
    remove_checkpoints(record.folder, record.segment)  # of an attempt that is void from now on
    remove_snapshots(record.folder, 0)
    for image in records:
        if image["kind"] == Kind.IMAGE:
            picture = predecessor / image["file"]
            if picture.is_file() and not picture.is_symlink():  # the user may have deleted it
                record.store(image["step"], image["name"], picture.read_bytes())
    position = record.adopt(_lacking(record.folder, records), step, predecessor.name)
    _copy_snapshots(predecessor, step, record.folder, spec)
    record.flush()
    return position


def _copy_snapshots(predecessor: Path, last: int, folder: Path, spec: RunSpec) -> None:
    """Copy the networks of the steps that this run measures too."""
    if not spec.evaluate.snapshots:
        return
    for step in sorted(snapshot_steps(predecessor)):
        if step <= last and due(step, spec.evaluate.every):
            make_snapshot_folder(folder)
            with replacing(snapshot_file(folder, step), durable=True) as temporary:
                shutil.copyfile(snapshot_file(predecessor, step), temporary)


def _lacking(folder: Path, records: Sequence[Record]) -> list[Record]:
    """Return the records that the journal lacks, at the times that they have in it.

    All are moved alike, so that the last of them is of now: the time between both runs is no
    time of training. A killed attempt to adopt them may have left the first ones; the others keep
    to its times.
    """
    present: list[Record] = []
    attempts: set[int] = set()  # when those began that the journal holds, in ms since 1970
    for record, _ in reading.tail(folder, 0):
        present = [] if record["kind"] == Kind.START else present
        present += [] if reading.of_attempt(record) else [record]
        attempts |= {record["t"]} if reading.voids(record) else set()
    latest = time.time_ns() // 1_000_000 - max(record["t"] for record in records)
    moved = present[0].get("moved") if present else None
    if type(moved) is int and moved <= latest:  # else the other run has gone on since then
        begun = _moved(records, moved)
        if present == begun[:len(present)]:
            return begun[len(present):]
    moved = latest
    while records[0]["t"] + moved in attempts:  # MLflow tells them apart by their begin
        moved -= 1
    return _moved(records, moved)


def _moved(records: Sequence[Record], ms: int) -> list[Record]:
    """Return the records at other times; the start record says by how much they are moved."""
    start, *others = ({**record, "t": record["t"] + ms} for record in records)
    return [{**start, "moved": ms}, *others]


def first_records(records: Sequence[Record], step: int, spec: RunSpec,
                  protocol: Mapping[str, Any]) -> list[Record]:
    """Return those records of a shorter run that this run has up to a step too.

    Args:
        records: Valid, undecoded, the start record first.
        protocol: How this run's scores are measured.
    """
    protocol = json.loads(json.dumps(dict(protocol)))
    start = records[0]
    kept = [start, {"t": start["t"], "kind": Kind.PROTOCOL, "step": 0, "protocol": protocol}]
    alike: set[str] = set()  # the names of scores that both measure in the same way
    for record in records[1:]:
        if record["kind"] == Kind.PROTOCOL:
            said = record["protocol"]
            alike -= said.keys()
            alike |= {name for name in said if said[name] == protocol.get(name)}
        elif record["step"] > step:
            continue
        elif record["kind"] == Kind.METRICS:
            values = _common_values(record, spec, alike)
            kept += [{**record, "values": values}] if values else []
        elif record["kind"] == Kind.SYSTEM:
            kept += [record] if due(record["step"], spec.log_every) else []
        elif record["kind"] == Kind.IMAGE and record["name"] == "samples":
            is_due = record["step"] == 0 or due(record["step"], spec.sample_every)
            kept += [record] if is_due else []
    return kept


def _common_values(record: Record, spec: RunSpec, alike: set[str]) -> dict[str, Any]:
    """Return the losses or the scores of a record that this run has too."""
    values: dict[str, Any] = record["values"]
    if all(name.startswith(LOSSES) for name in values):
        return values if due(record["step"], spec.log_every) else {}
    if not due(record["step"], spec.evaluate.every):
        return {}
    return {name: value for name, value in values.items() if _score_of(name) in alike}


def _score_of(name: str) -> str:
    """Return the full name of the score during training that a measurement belongs to."""
    if name.startswith(DURING):
        return name
    return DURING + name.removeprefix(CLASS).partition("/")[0]
