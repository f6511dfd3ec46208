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

`journal/writing.py` writes it. It is read here, by the launcher while it grows, by the mirror, and
by every command that shows how a run stands. A line that is no record is damage, and is named.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from gan_bench.errors import DamagedError
from gan_bench.journal.schema import Kind, Status, parse_record
from gan_bench.journal.schema import Record as Record

FILE = "journal.jsonl"
START = f'"kind": "{Kind.START}"'.encode()  # in a line of such a record

# JSON has no NaN or infinity, and a diverged loss is worth recording as what it was.
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


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


def read_records(folder: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Return the complete records from byte `offset` on, and the offset after the last of them.

    A torn last line, as a killed process leaves it, is not a record yet. No journal: no records.

    Raises:
        UserError: A line is no record, or the journal is no plain file.
    """
    found = tail(folder, offset)
    return [_decode(record) for record, _ in found], found[-1][1] if found else offset


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


def began(folder: Path) -> Record | None:
    """Return the `start` record that counts, which is the last; None where the first is not whole.

    It is the first too unless the run was begun anew, without anything to go on from.
    """
    file = _opened(folder)
    if file is None:
        return None
    with file:
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]
    begin = data.rfind(b"\n", 0, max(0, data.rfind(START))) + 1  # within strings, quotes are \"
    line = data[begin:].partition(b"\n")[0]
    return _parse(line, folder, begin) if line else None


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
        if record["kind"] == Kind.START:
            kept.clear()
        elif voids(record):
            kept = [known for known in kept if known["step"] <= record["step"]]
        elif record["kind"] == Kind.END and record in kept:
            kept.remove(record)
        if kept and _is_attempts_end(kept[-1]):
            kept.pop()
        kept.append(record)
    return kept


def voids(record: Record) -> bool:
    """Whether a record declares records before it void."""
    return bool(record["kind"] == Kind.START or (record["kind"] == Kind.RESUME and record["void"]))


def of_attempt(record: Record) -> bool:
    """Whether a record tells of one attempt, and is no part of what every repetition makes."""
    return bool(record["kind"] == Kind.RESUME) or _is_attempts_end(record)


def _is_attempts_end(record: Record) -> bool:
    return record["kind"] == Kind.END and not Status(record["status"]).is_result


def repeatable(records: Iterable[Record]) -> list[Record]:
    """Return what must be equal in a repetition of the run: all but times and measurements."""
    return [{k: v for k, v in record.items() if k != "t"} for record in valid(records)
            if record["kind"] != Kind.SYSTEM and not of_attempt(record)]


def tail(folder: Path, offset: int) -> list[tuple[Record, int]]:
    """Return the records from byte `offset` on as they are, each with the position of its end."""
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


def open_plain(folder: Path, flags: int) -> int:
    """Open the journal, if it is a plain file: a link leads elsewhere, a pipe waits for ever.

    Raises:
        DamagedError: It is none.
        OSError: There is none, or it cannot be opened.
    """
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


def _opened(folder: Path) -> IO[bytes] | None:
    """Open the journal for reading; None if there is none."""
    try:
        return os.fdopen(open_plain(folder, os.O_RDONLY), "rb")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _parse(line: bytes, folder: Path, offset: int) -> Record:
    try:
        return parse_record(line)
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
