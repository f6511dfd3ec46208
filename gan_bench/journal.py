"""The journal: an append-only file of all that happened in a run, with step and time. The truth.

One JSON object a line, `{"t": ms since 1970, "kind": ..., "step": ..., ...}`:

| kind | further fields | what |
|---|---|---|
| `start` | `facts` | versions, device, data fingerprint, git commit; all lines before it are void |
| `protocol` | `protocol` | how the scores that follow are measured, by metric |
| `metrics` | `values` | losses and scores: the same in every repetition of the run |
| `system` | `values` | images/s, memory: measurements, different every time |
| `image` | `name`, `file` | a picture under the run's folder, written before this line |
| `end` | `status`, `why` | FAILED or KILLED: the end of this attempt |
| `end` | `status`, `why`, `weights` | FINISHED or DIVERGED: the last line; hash of the weights |
| `resume` | `note`, `drift`, `void` | a new attempt goes on after `step` |

A resumed run makes again what came after its checkpoint. Nothing is cut off for that: what it makes
is compared with the lines that are there, which keep their times, and so a replay into MLflow gives
the same rows however often the run was killed. Only where it cannot be the same to the bit (another
version of torch, say) does its `resume` line declare the later lines of earlier attempts void.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import stat
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from gan_bench.atomic import replacing, sync
from gan_bench.errors import DamagedError, UserError
from gan_bench.records import Record as Record
from gan_bench.records import parse

FILE = "journal.jsonl"
FINAL = ("FINISHED", "DIVERGED")  # a diverged run is a result: repeating it would give it again
PATIENCE = 10.0  # seconds for the process of a launcher that has died to be gone too

# JSON has no NaN or infinity, and a diverged loss is worth recording as what it was.
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Journal:
    """Appends records to `<folder>/journal.jsonl`, after those that are there.

    A record is on its way to the disk when the call returns: it survives a SIGKILL of the process.
    The file is locked while it is open, so `is_open` tells the living from the dead.

    Raises:
        UserError: Another process has it open.
        OSError: It cannot be written, here and in every method: the disk is full, for example.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = _plain(folder, os.O_RDWR | os.O_CREAT | os.O_APPEND)
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
        self._write("start", 0, facts=dict(facts))

    def protocol(self, protocol: Mapping[str, Any]) -> None:
        """Record how each metric is measured."""
        self._write("protocol", 0, protocol=dict(protocol))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record losses or scores at `step`."""
        self._write("metrics", step, values=_encode(values))

    def system(self, step: int, values: Mapping[str, float]) -> None:
        """Record measurements of the machine at `step`."""
        self._write("system", step, values=_encode(values))

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
        self._write("image", step, name=name, file=str(file))

    def repeat(self, position: int) -> bool:
        """Expect the records after byte `position` once more; return whether they can be.

        They cannot where a later attempt has declared some of them void.
        """
        tail = _tail(self.folder, position)
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
        self._append("resume", step, note=note, drift=dict(drift), void=void)

    def end(self, status: str, why: str = "", weights: str | None = None) -> None:
        """Write the last record, at the last step recorded, to the disk itself; close the file.

        Args:
            weights: The sha256 of the final weights' file, of a FINISHED or DIVERGED run.
        """
        if status in FINAL:
            known = self._to_repeat[0][0] if self._to_repeat else None
            self._write("end", self._step, status=status, why=why, weights=weights)
            if known:  # `resume` came after it, and the last line says how the run ended
                self._append(**known)
        else:
            self._append("end", self._step, status=status, why=why)
        self.flush()
        self.close()

    def flush(self) -> int:
        """Wait until all is on the disk itself; return the position after the last record."""
        if self._pictures:
            for path in (*self._pictures, self._pictures[0].parent, self.folder):
                sync(path)
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
    record = last(folder)
    if record is None or record["kind"] == "end":
        return False
    book = Journal(folder)
    book._step = record["step"]
    book.end(status, why)
    return True


def is_open(folder: Path) -> bool:
    """Whether a process is writing the journal."""
    file = _opened(folder)
    if file is None:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
    records, _ = read(folder)
    end = records[-1]
    if end["kind"] != "end":
        raise ValueError(f"{folder}: the run has not ended")
    known = {name for record in records for name in record.get("values", ())}
    values = {name: value for name, value in values.items() if name not in known}
    if not values:
        return False
    now, step = time.time_ns() // 1_000_000, end["step"]
    lines = [{"t": now, "kind": "protocol", "step": step, "protocol": dict(protocol)},
             {"t": now, "kind": "metrics", "step": step, "values": _encode(values)}, end]
    with (folder / FILE).open("ab") as file:
        file.write("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())
    return True


def read(folder: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Return the complete records from byte `offset` on, and the offset after the last of them.

    A torn last line, as a killed process leaves it, is not a record yet. No journal: no records.

    Raises:
        UserError: A line is no record, or the journal is no plain file.
    """
    tail = _tail(folder, offset)
    return [_decode(record) for record, _ in tail], tail[-1][1] if tail else offset


def last(folder: Path) -> Record | None:
    """Return the last complete record without reading the rest; None when there is none."""
    file = _opened(folder)
    if file is None:
        return None
    with file:
        size = file.seek(0, os.SEEK_END)
        begin = max(0, size - 65536)
        file.seek(begin)
        data = file.read()
        if begin and data[: data.rfind(b"\n") + 1].count(b"\n") < 2:  # one very long line
            begin = file.seek(0)
            data = file.read()
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    if not lines:
        return None
    return _decode(_parse(lines[-1], folder, begin + sum(map(len, lines[:-1]))))


def first(folder: Path) -> Record | None:
    """Return the first record; None when there is none that is whole."""
    file = _opened(folder)
    if file is None:
        return None
    with file:
        line = file.readline()
    return _parse(line, folder, 0) if line.endswith(b"\n") else None


def begins_line(folder: Path, offset: int) -> bool:
    """Whether a line of the journal begins, or the last one ends, at byte `offset`."""
    file = _opened(folder)
    if file is None:
        return offset == 0
    with file:
        if not 0 < offset <= os.fstat(file.fileno()).st_size:
            return offset == 0
        file.seek(offset - 1)
        return file.read(1) == b"\n"


def valid(records: Iterable[Record]) -> list[Record]:
    """Leave out what later records have declared void, and all ends but the last."""
    kept: list[Record] = []
    for record in records:
        if record["kind"] == "start":
            kept.clear()
        elif voids(record):
            kept = [known for known in kept if known["step"] <= record["step"]]
        elif record["kind"] == "end" and record in kept:
            kept.remove(record)
        if kept and kept[-1]["kind"] == "end" and kept[-1]["status"] not in FINAL:
            kept.pop()
        kept.append(record)
    return kept


def voids(record: Record) -> bool:
    """Whether a record declares records before it void."""
    return bool(record["kind"] == "start" or (record["kind"] == "resume" and record["void"]))


def of_attempt(record: Record) -> bool:
    """Whether a record tells of one attempt, and is no part of what every repetition makes."""
    return bool(record["kind"] == "resume"
                or (record["kind"] == "end" and record["status"] not in FINAL))


def repeatable(records: Iterable[Record]) -> list[Record]:
    """Return what must be equal in a repetition of the run: all but times and measurements."""
    return [{k: v for k, v in record.items() if k != "t"} for record in valid(records)
            if record["kind"] != "system" and not of_attempt(record)]


def _opened(folder: Path) -> IO[bytes] | None:
    """Open the journal for reading; None if there is none."""
    try:
        return os.fdopen(_plain(folder, os.O_RDONLY), "rb")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _plain(folder: Path, flags: int) -> int:
    """Open the journal, if it is a plain file: a link leads elsewhere, a pipe waits for ever."""
    try:
        descriptor = os.open(folder / FILE, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES):
            raise
        raise DamagedError(f"{folder / FILE}: cannot be used: {error.strerror}; move {folder} "
                           f"away, and the run is made again") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedError(f"{folder / FILE}: is no plain file; move {folder} away, and the run "
                           f"is made again")
    return descriptor


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


def _tail(folder: Path, offset: int) -> list[tuple[Record, int]]:
    """The complete records from byte `offset` on as they are, each with the position of its end."""
    file = _opened(folder)
    if file is None:
        return []
    with file:
        file.seek(offset)
        data = file.read()
    records = []
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        record = _parse(line, folder, offset)
        offset += len(line)
        records.append((record, offset))
    return records


def _difference(known: Record, made: Record) -> str:
    """In what a record differs from the one that an earlier attempt made, in words."""
    what = f"at step {made['step']}"
    if (known["kind"], known["step"]) != (made["kind"], made["step"]):
        return (f"{what} there is a record of {made['kind']}, where there was one of "
                f"{known['kind']} at step {known['step']}")
    if made["kind"] in ("start", "system"):  # of the circumstances, which may be others
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


def _parse(line: bytes, folder: Path, offset: int) -> Record:
    try:
        return parse(line)
    except ValueError:
        file = folder / FILE
        number = file.read_bytes()[:offset].count(b"\n") + 1
        raise DamagedError(f"{file}: line {number} is damaged: it is no record; delete the folder "
                           f"{folder}, and the run is made again") from None


def _decode(record: Record) -> Record:
    if "values" in record:
        record["values"] = {k: _NON_FINITE.get(v, v) if isinstance(v, str) else v
                            for k, v in record["values"].items()}
    return record
