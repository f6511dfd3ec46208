"""Reads the journal: the append-only record of every event of a run, with step and time.

Each line is one JSON object, `{"t": ms since 1970, "kind": ..., "step": ..., ...}`:

| kind | further fields | content |
|---|---|---|
| `start` | `facts` | versions, device, data fingerprint, git commit; it voids all lines before it |
| `start` | …, `moved` | the first steps' records are another run's, moved by so many ms |
| `protocol` | `protocol` | how the following scores are measured, by metric |
| `metrics` | `values` | losses and scores: the same in every repetition of the run |
| `system` | `values` | images/s, memory: measurements, different every time |
| `image` | `name`, `file` | a picture in the run's folder, written before this line |
| `end` | `status`, `why` | FAILED or KILLED: the end of this attempt |
| `end` | `status`, `why`, `weights` | FINISHED or DIVERGED: the last line; hash of the weights |
| `resume` | `note`, `drift`, `void` | a new attempt continues after `step` |
| `resume` | …, `continues` | the run of this id took the steps until here |

`journal/writing.py` writes it. The launcher reads it while it grows; so do the mirror and every
command that shows a run's state. A line that is not a record is damage, and the error names it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from gan_bench.errors import DamagedError
from gan_bench.journal import segments
from gan_bench.journal.schema import Kind, Record, Status, parse_record
from gan_bench.journal.segments import Pieces
from gan_bench.journal.sharing.claims import is_held

FILE = segments.FILE  # the journal, unless an attempt was lost from sight
START = f'"kind": "{Kind.START}"'.encode()  # every start record contains it
END_OF_FILE = 65536  # bytes that are read for the last record

# JSON has no NaN or infinity; the journal records a diverged loss as one of these strings.
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def is_open(folder: Path) -> bool:
    """Whether a process is writing the journal, as far as its claim says."""
    return is_held(folder)


def length(folder: Path) -> int:
    """Return the bytes of the journal, an incomplete last line included."""
    with segments.opened(folder) as pieces:
        return pieces.size


def content(folder: Path) -> bytes:
    """Return the whole journal, as it would be if it had been written to one file."""
    with segments.opened(folder) as pieces:
        return pieces.read()


def read_records(folder: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Return the complete records from byte `offset` on, and the offset after the last of them.

    A killed process may leave a torn last line, which is not a record yet. Without a journal there
    are no records.

    Raises:
        UserError: A line is not a record, or the journal is not a plain file.
    """
    records = tail(folder, offset)
    end = records[-1][1] if records else offset
    return [_decode(record) for record, _ in records], end


def last(folder: Path) -> Record | None:
    """Return the last complete record without reading the whole file; None if there is none."""
    with segments.opened(folder) as pieces:
        begin = max(0, pieces.size - END_OF_FILE)
        data = pieces.read(begin)
        if begin and data[: data.rfind(b"\n") + 1].count(b"\n") < 2:  # one very long line
            begin = 0
            data = pieces.read()
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines:
            return None
        return _decode(_parse(lines[-1], pieces, begin + sum(map(len, lines[:-1]))))


def first(folder: Path) -> Record | None:
    """Return the first record; None if it is missing or incomplete."""
    with segments.opened(folder) as pieces:
        line, end, _ = pieces.read(0, END_OF_FILE).partition(b"\n")
        if not end:
            line, end, _ = pieces.read().partition(b"\n")
        return _parse(line, pieces, 0) if end else None


def began(folder: Path) -> Record | None:
    """Return the last `start` record, which is the valid one; None if no line is complete.

    A journal has a second `start` record if the run began again without a checkpoint.
    """
    with segments.opened(folder) as pieces:
        data = pieces.read()
        data = data[: data.rfind(b"\n") + 1]
        # Within strings, quotes are \".
        begin = data.rfind(b"\n", 0, max(0, data.rfind(START))) + 1
        line = data[begin:].partition(b"\n")[0]
        return _parse(line, pieces, begin) if line else None


def begins_line(folder: Path, offset: int) -> bool:
    """Whether a line of the journal begins, or the last one ends, at byte `offset`."""
    with segments.opened(folder) as pieces:
        if not 0 < offset <= pieces.size:
            return offset == 0
        return pieces.read(offset - 1, offset) == b"\n"


def valid(records: Iterable[Record]) -> list[Record]:
    """Return the records without those that later records void, and without ends but the last."""
    result: list[Record] = []
    for record in records:
        if record["kind"] == Kind.START:
            result.clear()
        elif voids(record):
            result = [earlier for earlier in result if earlier["step"] <= record["step"]]
        elif record["kind"] == Kind.END:  # scores were added, and the end is repeated
            result = [earlier for earlier in result if earlier["kind"] != Kind.END]
        if result and _is_attempts_end(result[-1]):
            result.pop()
        result.append(record)
    return result


def voids(record: Record) -> bool:
    """Whether a record voids records before it."""
    return bool(record["kind"] == Kind.START or (record["kind"] == Kind.RESUME and record["void"]))


def attempts(records: Sequence[Record]) -> list[int]:
    """Return when each attempt of a whole journal began, in ms since 1970; the last one counts."""
    return [records[0]["t"], *(record["t"] for record in records[1:] if voids(record))]


def of_attempt(record: Record) -> bool:
    """Whether a record belongs to one attempt only; a repetition of the run does not repeat it."""
    return bool(record["kind"] == Kind.RESUME) or _is_attempts_end(record)


def _is_attempts_end(record: Record) -> bool:
    return record["kind"] == Kind.END and not Status(record["status"]).is_result


def tail(folder: Path, offset: int) -> list[tuple[Record, int]]:
    """Return the undecoded records from byte `offset` on, each with the position of its end."""
    records = []
    with segments.opened(folder) as pieces:
        data = pieces.read(offset)
        for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
            record = _parse(line, pieces, offset)
            offset += len(line)
            records.append((record, offset))
    return records


def _parse(line: bytes, pieces: Pieces, position: int) -> Record:
    try:
        return parse_record(line)
    except ValueError:
        file, number = pieces.place(position)
        raise DamagedError(f"{file}: line {number} is damaged: it is not a record; delete the "
                           f"folder {file.parent}, and repeat the run") from None


def _decode(record: Record) -> Record:
    if "values" in record:
        values = record["values"]
        texts = {name: value for name, value in values.items() if isinstance(value, str)}
        values.update({name: _NON_FINITE.get(text, text) for name, text in texts.items()})
    return record
