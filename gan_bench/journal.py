"""The journal: an append-only file of all that happened in a run, with step and time. The truth.

One JSON object a line, `{"t": ms since 1970, "kind": ..., "step": ..., ...}`:

| kind | further fields | what |
|---|---|---|
| `start` | `facts` | the first line: versions, device, data fingerprint, git commit |
| `protocol` | `protocol` | how the scores that follow are measured, by metric |
| `metrics` | `values` | losses and scores: the same in every repetition of the run |
| `system` | `values` | images/s, memory: measurements, different every time |
| `image` | `name`, `file` | a picture under the run's folder, written before this line |
| `end` | `status`, `why` | the last line: FINISHED, DIVERGED or FAILED |

The time is stored here, once, so that replaying a journal into MLflow twice gives the same rows.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_bench.errors import UserError

FILE = "journal.jsonl"
Record = dict[str, Any]

# JSON has no NaN or infinity, and a diverged loss is worth recording as what it was.
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Journal:
    """Appends records to `<folder>/journal.jsonl`; an earlier attempt's journal is replaced.

    A record is on its way to the disk when the call returns: it survives a SIGKILL of the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._fd = os.open(folder / FILE, flags, 0o644)
        self._step = 0

    def start(self, facts: Mapping[str, Any]) -> None:
        """Write the first record: what this attempt runs on."""
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
        (self.folder / file).parent.mkdir(exist_ok=True)
        (self.folder / file).write_bytes(png)
        self._write("image", step, name=name, file=str(file))

    def end(self, status: str, why: str = "") -> None:
        """Write the last record, at the last step recorded, to the disk itself; close the file."""
        self._write("end", self._step, status=status, why=why)
        os.fsync(self._fd)
        os.close(self._fd)

    def _write(self, kind: str, step: int, **fields: Any) -> None:
        self._step = step
        record = {"t": time.time_ns() // 1_000_000, "kind": kind, "step": step, **fields}
        os.write(self._fd, (json.dumps(record, allow_nan=False) + "\n").encode())


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
        UserError: A line is no record.
    """
    try:
        with (folder / FILE).open("rb") as file:
            file.seek(offset)
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    complete = data[: data.rfind(b"\n") + 1]
    return [_decode(line, folder) for line in complete.splitlines()], offset + len(complete)


def last(folder: Path) -> Record | None:
    """Return the last complete record without reading the rest; None when there is none."""
    try:
        with (folder / FILE).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    return _decode(lines[-1], folder) if lines else None


def repeatable(records: list[Record]) -> list[Record]:
    """Return what must be equal in a repetition of the run: all but times and measurements."""
    return [
        {k: v for k, v in record.items() if k != "t"}
        for record in records
        if record["kind"] != "system"
    ]


def _encode(values: Mapping[str, float]) -> dict[str, float | str]:
    return {k: float(v) if math.isfinite(v) else str(float(v)) for k, v in values.items()}


def _decode(line: bytes, folder: Path) -> Record:
    try:
        record: Record = json.loads(line)
    except ValueError:
        raise UserError(f"{folder / FILE}: is damaged (a line of it is no record); delete the "
                        f"folder {folder}, and the run is made again") from None
    if "values" in record:
        record["values"] = {k: _NON_FINITE.get(v, v) if isinstance(v, str) else v
                            for k, v in record["values"].items()}
    return record
