"""Writes journals: a run's records, and what is added after its process has ended.

A resumed run repeats the records after its checkpoint. The journal keeps the old lines, with their
times, and compares each repeated record with its line. So a replay into MLflow gives the same rows
however often the run was killed. If the run cannot repeat them to the bit (with another version of
torch, say), its `resume` line voids the later lines of earlier attempts.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_bench.atomic import fsync_path, replacing
from gan_bench.errors import UserError
from gan_bench.journal import reading, segments
from gan_bench.journal.reading import of_attempt, voids
from gan_bench.journal.schema import Kind, Record, Status, parse_record
from gan_bench.journal.sharing.claims import (
    Claim,
    Release,
    SupersededError,
    Watch,
    lost_attempts,
    take,
)

END, RESUME = (f'"kind": "{kind}"'.encode() for kind in (Kind.END, Kind.RESUME))


@dataclass(frozen=True)
class Amendment:
    """What is added to the journal of a run that has ended.

    Attributes:
        protocol: As for `Journal.protocol`; full names.
        at_end: As for `Journal.metrics`, at the run's last step; the same names.
        values: Likewise at earlier steps, by step.
        pictures: PNGs of the last step by name; those that the run has stay.
        end: Fields of the end record that change.
        by: The circumstances of the process that measured.
    """

    protocol: Mapping[str, Any]
    at_end: Mapping[str, float]
    values: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    end: Mapping[str, Any] = field(default_factory=dict)
    by: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """Appends records to the newest segment of a run's journal: see `segments`.

    When a call returns, the kernel has the record: it survives a SIGKILL of the process. The run is
    claimed while it is open, so `reading.is_open` tells whether its process lives. Opening it
    removes an incomplete last line, and scores from an `add` that was killed before it finished.
    If an attempt that writes to the newest segment was not released, its process may still write:
    the records of this attempt then go to a segment of its own.

    Args:
        claim: Of the run, if the caller or its parent process holds it; it stays held.

    Attributes:
        segment: The number of the segment that is written to.

    Raises:
        UserError: Another process has claimed the run; here and in every method that writes.
        OSError: It cannot be written, here and in every method: the disk is full, for example. The
            file is as before the call then.
    """

    def __init__(self, folder: Path, claim: Claim | None = None) -> None:
        self.folder = folder
        self._owns_claim = claim is None
        self._claim = claim or claim_run(folder)
        try:
            self.segment = self._open_segment()
        except BaseException:
            self._release(Release.KILLED)
            raise
        self._to_repeat: deque[tuple[Record, int]] = deque()  # each with the position of its end
        self._repeated = 0  # the position after the last repeated record
        self._pictures: list[Path] = []  # written, and perhaps not synced to the disk yet
        self._step = 0

    def _open_segment(self) -> int:
        """Open the segment that this attempt writes to, cut to what is whole; return its number."""
        number = self._own_segment()
        file = segments.segment_file(self.folder, number)
        self._fd = segments.open_plain(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            self._base = segments.base(self.folder, number)
            size = _whole_length(reading.content(self.folder)) - self._base
            # Whoever takes over from now on writes to another segment, as this attempt is not
            # released: what is cut here is nobody else's.
            self._claim.refuse_superseded()
            os.ftruncate(self._fd, size)
        except BaseException:
            os.close(self._fd)
            raise
        return number

    def _own_segment(self) -> int:
        """Return the number of the segment that this attempt writes to; create one after a loss.

        Raises:
            SupersededError: Another process has taken the run over.
        """
        attempt, present = self._claim.attempt, segments.segments(self.folder)
        newest = present[-1] if present else 1
        if newest < attempt and lost_attempts(self.folder, newest, attempt):
            size = _whole_length(reading.content(self.folder))
            self._claim.refuse_superseded()
            segments.create_segment(self.folder, attempt, newest if present else None, size)
            newest = attempt
        self._claim.refuse_superseded()
        if newest > attempt:  # of a successor whose claim has been removed by hand
            raise SupersededError(f"{self.folder}: a later attempt has written to it; this one "
                                  f"writes no more")
        return newest

    def start(self, facts: Mapping[str, Any]) -> None:
        """Write the first record: what this attempt runs on. It voids all records before it."""
        self._write(Kind.START, 0, facts=dict(facts))

    def protocol(self, protocol: Mapping[str, Any]) -> None:
        """Record how each metric is measured."""
        self._write(Kind.PROTOCOL, 0, protocol=dict(protocol))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record losses or scores at `step`."""
        self._write(Kind.METRICS, step, values=_encode(values))

    def system(self, step: int, values: Mapping[str, float]) -> None:
        """Record measurements of the machine at `step`."""
        self._write(Kind.SYSTEM, step, values=_encode(values))

    def image(self, step: int, name: str, png: bytes) -> None:
        """Write the picture to `samples/`, then record it."""
        file = self.store(step, name, png)
        self._pictures.append(self.folder / file)
        self._write(Kind.IMAGE, step, name=name, file=file)

    def store(self, step: int, name: str, png: bytes) -> str:
        """Write a picture that a record names or will name; return the file's name there."""
        file = Path("samples") / f"{name}-{step:07d}.png"
        pictures = (self.folder / file).parent
        pictures.mkdir(exist_ok=True)
        if pictures.is_symlink():
            raise UserError(f"{pictures}: is a link; remove it: a run's files stay in its folder")
        with replacing(self.folder / file) as temporary:
            temporary.write_bytes(png)
        return str(file)

    def repeat(self, position: int) -> bool:
        """Expect the records after byte `position` again; return whether they can be repeated.

        They cannot if a later attempt voids some of them.
        """
        tail = reading.tail(self.folder, position)
        later = tail if position else tail[1:]
        if any(voids(record) for record, _ in later):
            return False
        self._to_repeat = deque((record, end) for record, end in tail if not of_attempt(record))
        self._repeated = position
        return True

    def resume(self, step: int, note: str, drift: Mapping[str, Any], void: bool) -> None:
        """Record that this attempt continues after `step`.

        Args:
            note: A remark, e.g. that a checkpoint was damaged.
            drift: What changed since the checkpoint, `{name: [before, after]}`.
            void: Whether the records of earlier attempts after `step` no longer count.
        """
        self._append(Kind.RESUME, step, note=note, drift=dict(drift), void=void)

    def adopt(self, records: Sequence[Record], step: int, predecessor: str) -> int:
        """Begin with the records of another run's first steps; return the position after them.

        Args:
            records: They begin with a start record, which voids what the journal held, or follow
                on from what it holds. None is of a later time than now.
            step: The step after which this run continues.
            predecessor: The id of the other run.
        """
        now = time.time_ns() // 1_000_000
        self._extend([*records, {"t": now, "kind": Kind.RESUME, "step": step, "note": "",
                                 "drift": {}, "void": False, "continues": predecessor}])
        self._step = step
        return self.position

    def end(self, status: str, why: str = "", weights: str | None = None,
            recording: str | None = None) -> None:
        """Write the last record, at the last recorded step; sync and close the file.

        Args:
            weights: The sha256 of the final weights' file, of a FINISHED or DIVERGED run.
            recording: `RunSpec.recording`, of such a run.
        """
        if Status(status).is_result:
            earlier = self._to_repeat[0][0] if self._to_repeat else None
            self._write(Kind.END, self._step, status=status, why=why, weights=weights,
                        recording=recording)
            # A `resume` line follows the earlier end. Repeated, it is the last line, as an end
            # must be.
            if earlier:
                self._append(**earlier)
        else:
            self._append(Kind.END, self._step, status=status, why=why)
        self.flush()
        self.close(Release.FAILED if status == Status.FAILED else Release.DONE)

    def flush(self) -> int:
        """Sync everything to the disk; return the position after the last record."""
        if self._pictures:
            for path in (*self._pictures, self._pictures[0].parent, self.folder):
                fsync_path(path)
            self._pictures.clear()
        os.fsync(self._fd)
        return self.position

    @property
    def position(self) -> int:
        """The number of bytes up to the end of the last record, written or repeated."""
        return self._repeated if self._to_repeat else self._base + os.fstat(self._fd).st_size

    def refuse_superseded(self) -> None:
        """Raise if another process has taken the run over.

        Raises:
            SupersededError: It has; nothing of this attempt counts from now on.
        """
        self._claim.refuse_superseded()

    def close(self, how: Release = Release.DONE) -> None:
        """Close the file, and release the claim if it was made here."""
        os.close(self._fd)
        self._release(how)

    def _release(self, how: Release) -> None:
        if self._owns_claim:
            self._claim.release(how)

    def _write(self, kind: str, step: int, **fields: Any) -> None:
        """Append a record, or compare it with the line of an earlier attempt."""
        if not self._to_repeat:
            self._append(kind, step, **fields)
            return
        earlier, self._repeated = self._to_repeat.popleft()
        if difference := _describe_difference(earlier, {"kind": kind, "step": step, **fields}):
            raise UserError(
                f"the run does not repeat itself: {difference}; code, data or machine must have "
                f"changed: delete {self.folder} to begin again, or continue with --allow-drift")
        self._step = step

    def add(self, amendment: Amendment) -> bool:
        """Add to a run that has ended; see `amend`."""
        records = reading.valid(reading.read_records(self.folder)[0])
        end = records[-1] if records else None
        if end is None or end["kind"] != Kind.END or not Status(end["status"]).is_result:
            raise UserError(f"{self.folder}: the run is not finished, so no score is added; run "
                            f"its experiment to the end first")
        _refuse_other_protocols(self.folder, amendment, records)
        recorded = {(name, record["step"]) for record in records
                    for name in record.get("values", ())}
        new = {step: {name: value for name, value in values.items()
                      if (name, step) not in recorded}
               for step, values in {**amendment.values, end["step"]: amendment.at_end}.items()}
        lines = [_metrics_record(step, values, records) for step, values in sorted(new.items())
                 if values]
        pictures = {name: png for name, png in amendment.pictures.items()
                    if not any(record.get("name") == name for record in records)}
        for name, png in pictures.items():
            lines.append({"t": end["t"], "kind": Kind.IMAGE, "step": end["step"], "name": name,
                          "file": self.store(end["step"], name, png)})
        ended = {**end, **amendment.end}
        if lines or ended != end:
            t = time.time_ns() // 1_000_000
            by = {"by": dict(amendment.by)} if amendment.by else {}
            protocol = {"t": t, "kind": Kind.PROTOCOL, "step": end["step"],
                        "protocol": dict(amendment.protocol), **by}
            self._extend([protocol, *lines, ended])  # MLflow has the files of such a run
        return any(new.values())

    def _append(self, kind: str, step: int, **fields: Any) -> None:
        self._extend([{"t": time.time_ns() // 1_000_000, "kind": kind, "step": step, **fields}])
        self._step = step

    def _extend(self, records: Sequence[Record]) -> None:
        """Append records, whole or not at all: the only way in which a journal grows."""
        self._claim.refuse_superseded()
        data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
        size = os.fstat(self._fd).st_size
        try:
            while data:  # a nearly full disk first takes a part of the data, then nothing
                data = data[os.write(self._fd, data) :]
            if len(records) > 1:
                os.fsync(self._fd)  # some file systems notice only now that the disk is full
        except BaseException as error:
            os.ftruncate(self._fd, size)  # the next record would continue the torn line
            if isinstance(error, OSError):
                file = segments.segment_file(self.folder, self.segment)
                raise OSError(error.errno, error.strerror, str(file)) from None
            raise


def claim_run(folder: Path, watch: Watch | None = None, hardware: str = "") -> Claim:
    """Claim a run, to write its files.

    Args:
        watch, hardware: As for `claims.take`.

    Raises:
        ClaimedError: Another process holds it.
        UserError: It cannot be claimed: the disk is full, for example.
    """
    present = segments.segments(folder)  # of an earlier version, without claims
    return take(folder, watch=watch, least=present[-1] + 1 if present else 1, hardware=hardware)


def settle_run(folder: Path, status: str, why: str, claim: Claim | None = None) -> None:
    """Record how a run ended, if its process has not recorded it.

    Args:
        claim: Of the run, if the caller holds it.

    Raises:
        UserError: A process has the journal open: the run is alive.
        OSError: The journal cannot be written, and is as before.
    """
    if not _lacks_end(reading.last(folder)):
        return
    with closing(Journal(folder, claim)) as journal:
        record = reading.last(folder)  # without what is not whole
        if record is not None and _lacks_end(record):
            journal._append(Kind.END, record["step"], status=status, why=why)
            journal.flush()


def amend(folder: Path, amendment: Amendment, claim: Claim | None = None) -> bool:
    """Add scores that were measured after a run's end; return whether any of them is new.

    A value in the journal stays as it is, so adding a score twice changes nothing.

    A score has the time at which training reached its step. The end record is repeated, time
    included, so the last line still says how and when the run ended.

    Args:
        folder: A run whose journal has its end.
        claim: Of the run, if the caller or its parent process holds it.

    Raises:
        UserError: A process has the journal open, or the run is not finished (any more): another
            process may have begun it again.
        OSError: The journal cannot be written, and is as before.
    """
    with closing(Journal(folder, claim)) as journal:
        return journal.add(amendment)


def last_whole(folder: Path) -> Record | None:
    """Return the last record of a run that no process trains, after cutting what is not whole."""
    last = reading.last(folder)
    if not _lacks_end(last) or reading.is_open(folder):
        return last
    with closing(Journal(folder)):
        return reading.last(folder)


def _lacks_end(last: Record | None) -> bool:
    return last is not None and last["kind"] != Kind.END


def _whole_length(content: bytes) -> int:
    """Return the length of a journal without what a killed process or a full disk leaves.

    That is an incomplete last line, and scores that were added to an ended run without the
    repetition of its end record.
    """
    whole = content.rfind(b"\n") + 1
    begin = content.rfind(b"\n", 0, max(0, content.rfind(END, 0, whole))) + 1
    after = content.find(b"\n", begin) + 1
    tail = content[after:whole]
    if not tail or reading.START in tail or RESUME in tail:  # a new attempt
        return whole
    try:
        end = parse_record(content[begin:after])
    except ValueError:  # a reader reports the damage
        return whole
    return after if end["kind"] == Kind.END and Status(end["status"]).is_result else whole


def _describe_difference(earlier: Record, repeated: Record) -> str:
    """Return how a repeated record differs from the earlier attempt's; empty if it does not."""
    place = f"at step {repeated['step']}"
    if (earlier["kind"], earlier["step"]) != (repeated["kind"], repeated["step"]):
        return (f"{place} there is a record of {repeated['kind']}, where there was one of "
                f"{earlier['kind']} at step {earlier['step']}")
    if repeated["kind"] in (Kind.START, Kind.SYSTEM):  # the circumstances may differ
        return ""
    for key in sorted((earlier.keys() | repeated.keys()) - {"t"}):
        old, new = earlier.get(key), repeated.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            key = next(k for k in {**old, **new} if old.get(k) != new.get(k))
            old, new = old.get(key), new.get(key)
        return f"{place} {key} is {new}, and was {old}"
    return ""


def _refuse_other_protocols(folder: Path, amendment: Amendment, records: Sequence[Record]) -> None:
    """Refuse scores whose names another process has used for other protocols in the meantime."""
    said: dict[str, Any] = {}
    for record in records:
        said |= record.get("protocol", {})
    for name, protocol in json.loads(json.dumps(dict(amendment.protocol))).items():
        if said.get(name, protocol) != protocol:
            raise UserError(f"{folder}: another process has measured it at the same time; repeat "
                            f"the command")


def _metrics_record(step: int, values: Mapping[str, float], records: Sequence[Record]) -> Record:
    """Return a record of scores with the time of the last record that training wrote by then."""
    t = next(record["t"] for record in reversed(records)
             if record["step"] <= step and record["kind"] != Kind.PROTOCOL)
    return {"t": t, "kind": Kind.METRICS, "step": step, "values": _encode(values)}


def _encode(values: Mapping[str, float]) -> dict[str, float | str]:
    encoded: dict[str, float | str] = {}
    for name, value in values.items():
        encoded[name] = float(value) if math.isfinite(value) else str(float(value))
    return encoded
