"""Writing journals: a run's own records, and what is added to one whose process has ended.

A resumed run makes again what came after its checkpoint. Nothing is cut off for that: what it makes
is compared with the lines that are there, which keep their times, and so a replay into MLflow gives
the same rows however often the run was killed. Only where it cannot be the same to the bit (another
version of torch, say) does its `resume` line declare the later lines of earlier attempts void.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_bench.atomic import fsync_path, replacing
from gan_bench.errors import UserError
from gan_bench.journal import reading
from gan_bench.journal.reading import of_attempt, voids
from gan_bench.journal.schema import Kind, Record, Status

PATIENCE = 10.0  # seconds for the process of a launcher that has died to be gone too


class Journal:
    """Appends records to `<folder>/journal.jsonl`, after those that are there.

    A record is on its way to the disk when the call returns: it survives a SIGKILL of the process.
    The file is locked while it is open, so `reading.is_open` tells the living from the dead.

    Raises:
        UserError: Another process has it open.
        OSError: It cannot be written, here and in every method: the disk is full, for example.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = reading.open_plain(folder, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            _lock(self._fd, folder)
            content = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
            # The beginning of a line that a killed process, or a full disk, did not let end.
            os.ftruncate(self._fd, content.rfind(b"\n") + 1)
        except BaseException:
            os.close(self._fd)
            raise
        self._to_repeat: deque[tuple[Record, int]] = deque()  # each with the position of its end
        self._repeated = 0  # the position up to which all is made again
        self._pictures: list[Path] = []  # written, and perhaps not on the disk itself yet
        self._step = 0

    def start(self, facts: Mapping[str, Any]) -> None:
        """Write the first record: what this attempt runs on. All before it is void."""
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
        file = Path("samples") / f"{name}-{step:07d}.png"
        home = (self.folder / file).parent
        home.mkdir(exist_ok=True)
        if home.is_symlink():
            raise UserError(f"{home}: is a link; remove it: what a run makes stays in its folder")
        with replacing(self.folder / file) as temporary:
            temporary.write_bytes(png)
        self._pictures.append(self.folder / file)
        self._write(Kind.IMAGE, step, name=name, file=str(file))

    def repeat(self, position: int) -> bool:
        """Expect the records after byte `position` once more; return whether they can be.

        They cannot where a later attempt has declared some of them void.
        """
        tail = reading.tail(self.folder, position)
        if any(voids(record) for record, _ in (tail if position else tail[1:])):
            return False
        self._to_repeat = deque((record, end) for record, end in tail if not of_attempt(record))
        self._repeated = position
        return True

    def resume(self, step: int, note: str, drift: Mapping[str, Any], void: bool) -> None:
        """Record that this attempt goes on after `step`.

        Args:
            note: What there is to say of it, e.g. that a checkpoint was damaged.
            drift: What has changed since the checkpoint, `{name: [before, now]}`.
            void: Whether what earlier attempts recorded of later steps no longer counts.
        """
        self._append(Kind.RESUME, step, note=note, drift=dict(drift), void=void)

    def end(self, status: str, why: str = "", weights: str | None = None) -> None:
        """Write the last record, at the last step recorded, to the disk itself; close the file.

        Args:
            weights: The sha256 of the final weights' file, of a FINISHED or DIVERGED run.
        """
        if Status(status).is_result:
            known = self._to_repeat[0][0] if self._to_repeat else None
            self._write(Kind.END, self._step, status=status, why=why, weights=weights)
            if known:  # `resume` came after it, and the last line says how the run ended
                self._append(**known)
        else:
            self._append(Kind.END, self._step, status=status, why=why)
        self.flush()
        self.close()

    def flush(self) -> int:
        """Wait until all is on the disk itself; return the position after the last record."""
        if self._pictures:
            for path in (*self._pictures, self._pictures[0].parent, self.folder):
                fsync_path(path)
            self._pictures.clear()
        os.fsync(self._fd)
        return self.position

    @property
    def position(self) -> int:
        """The number of bytes up to the last record that has been made, or made again."""
        return self._repeated if self._to_repeat else os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file and let go of its lock."""
        os.close(self._fd)

    def _write(self, kind: str, step: int, **fields: Any) -> None:
        """Append a record, unless it is there from an earlier attempt: then compare."""
        if not self._to_repeat:
            self._append(kind, step, **fields)
            return
        known, self._repeated = self._to_repeat.popleft()
        if difference := _difference(known, {"kind": kind, "step": step, **fields}):
            raise UserError(
                f"the run does not repeat itself: {difference}; code, data or machine must have "
                f"changed: delete {self.folder} to begin it again, or go on with --allow-drift")
        self._step = step

    def _append(self, kind: str, step: int, **fields: Any) -> None:
        record = {"t": time.time_ns() // 1_000_000, "kind": kind, "step": step, **fields}
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        size = os.fstat(self._fd).st_size
        try:
            while line:  # a disk that is nearly full takes a part, and then none
                line = line[os.write(self._fd, line) :]
        except OSError:
            os.ftruncate(self._fd, size)  # what comes next would be taken for the rest of the line
            raise
        self._step = step


def settle(folder: Path, status: str, why: str) -> bool:
    """Record how a run ended whose process did not say; return whether there was need.

    Raises:
        UserError: A process has the journal open: the run lives.
    """
    record = reading.last(folder)
    if record is None or record["kind"] == Kind.END:
        return False
    book = Journal(folder)
    book._step = record["step"]
    book.end(status, why)
    return True


def amend(folder: Path, protocol: Mapping[str, Any], values: Mapping[str, float]) -> bool:
    """Add what was measured of a run after its end; return whether any of it is new.

    What the journal has a value for keeps it, so that adding something again changes nothing.

    The records carry the run's last step. The end is repeated as it was, time included, so that the
    last line still says how and when the run ended. All lines are one write: whole or not at all.

    Args:
        folder: A run whose journal has its end.
        protocol: As for `Journal.protocol`; full names.
        values: As for `Journal.metrics`; the same names.
    """
    records, _ = reading.read(folder)
    end = records[-1]
    if end["kind"] != Kind.END:
        raise ValueError(f"{folder}: the run has not ended")
    known = {name for record in records for name in record.get("values", ())}
    values = {name: value for name, value in values.items() if name not in known}
    if not values:
        return False
    now, step = time.time_ns() // 1_000_000, end["step"]
    lines = [{"t": now, "kind": Kind.PROTOCOL, "step": step, "protocol": dict(protocol)},
             {"t": now, "kind": Kind.METRICS, "step": step, "values": _encode(values)}, end]
    with (folder / reading.FILE).open("ab") as file:
        file.write("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())
    return True


def _lock(descriptor: int, folder: Path) -> None:
    """Take the file for this process alone."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UserError(f"{folder} is being written by another process; wait for it or "
                                f"stop it") from None
            time.sleep(0.05)
        else:
            return


def _difference(known: Record, made: Record) -> str:
    """In what a record differs from the one that an earlier attempt made, in words."""
    what = f"at step {made['step']}"
    if (known["kind"], known["step"]) != (made["kind"], made["step"]):
        return (f"{what} there is a record of {made['kind']}, where there was one of "
                f"{known['kind']} at step {known['step']}")
    if made["kind"] in (Kind.START, Kind.SYSTEM):  # of the circumstances, which may be others
        return ""
    for key in sorted((known.keys() | made.keys()) - {"t"}):
        before, now = known.get(key), made.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            key = next(k for k in {**before, **now} if before.get(k) != now.get(k))
            before, now = before.get(key), now.get(key)
        return f"{what} {key} is {now}, and was {before}"
    return ""


def _encode(values: Mapping[str, float]) -> dict[str, float | str]:
    return {k: float(v) if math.isfinite(v) else str(float(v)) for k, v in values.items()}
