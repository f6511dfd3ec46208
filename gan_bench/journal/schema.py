"""What a line of a journal may hold.

Journals are read long after they were written, and on other machines. So reading trusts no file: it
refuses a damaged or forged line at once, before later code fails on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any

Record = dict[str, Any]

LATEST = 253_402_300_800_000  # ms since 1970: the end of the year 9999
LARGEST = 2**63
NON_FINITE = ("nan", "inf", "-inf")
PICTURE = re.compile(r"samples/[A-Za-z0-9][A-Za-z0-9_-]{0,63}-[0-9]{7,20}\.png")


class Status(StrEnum):
    """The state of a run, or how it ended: see `gan_bench.journal.status`."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def is_result(self) -> bool:
        """Whether the run is done. Divergence is a result too: a repetition diverges again."""
        return self in (Status.FINISHED, Status.DIVERGED)


class Kind(StrEnum):
    """What a record describes: see `gan_bench.journal.reading`."""

    START = "start"
    PROTOCOL = "protocol"
    METRICS = "metrics"
    SYSTEM = "system"
    IMAGE = "image"
    END = "end"
    RESUME = "resume"


# For text from outside a journal, which may be no status at all.
RESULTS = tuple(status for status in Status if status.is_result)
_ENDS = (*RESULTS, Status.FAILED, Status.KILLED)


def parse_record(line: bytes) -> Record:
    """Return the record that a line holds.

    Raises:
        ValueError: The line is not a record.
    """
    if b"\\u0000" in line or b"\\ud" in line or b"\\uD" in line:
        json.dumps(json.loads(line), ensure_ascii=False).encode()  # raises at a lone surrogate
        if b"\\u0000" in line:
            raise ValueError("holds a NUL")
    try:
        record = json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict) or not _is_sound(record):
        raise ValueError("not a record")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _is_sound(record: Record) -> bool:
    kind = record.get("kind")
    return (_is_count(record.get("t"), LATEST) and _is_count(record.get("step"), LARGEST)
            and isinstance(kind, str) and kind in _KINDS and _KINDS[kind](record))


def _is_count(value: object, end: int) -> bool:
    return type(value) is int and 0 <= value < end


def _is_start(record: Record) -> bool:
    facts = record.get("facts")
    if not isinstance(facts, dict) or not isinstance(facts.get("versions", {}), dict):
        return False
    data = facts.get("dataset")
    return data is None or (
        isinstance(data, dict)
        and all(isinstance(data.get(k), str) for k in ("name", "fingerprint"))
        and all(_is_count(data.get(k), LARGEST) for k in ("train", "test")))


def _is_protocol(record: Record) -> bool:
    protocols, by = record.get("protocol"), record.get("by", {})
    return (isinstance(protocols, dict) and all(map(_names_extractor, protocols.values()))
            and isinstance(by, dict) and isinstance(by.get("versions", {}), dict))


def _names_extractor(protocol: object) -> bool:
    return isinstance(protocol, dict) and all(
        isinstance(protocol.get(key), (str, type(None))) for key in ("extractor", "weights"))


def _has_values(record: Record) -> bool:
    values = record.get("values")
    return isinstance(values, dict) and all(
        type(v) is float or v in NON_FINITE or (type(v) is int and abs(v) < LARGEST)
        for v in values.values())


def _is_image(record: Record) -> bool:
    name, file = record.get("name"), record.get("file")
    return (isinstance(name, str) and isinstance(file, str) and PICTURE.fullmatch(file) is not None
            and file == f"samples/{name}-{record['step']:07d}.png")


def _is_end(record: Record) -> bool:
    return (record.get("status") in _ENDS and isinstance(record.get("why"), str)
            and isinstance(record.get("weights"), (str, type(None))))


def _is_resume(record: Record) -> bool:
    drift = record.get("drift")
    return (isinstance(record.get("note"), str) and type(record.get("void")) is bool
            and isinstance(record.get("continues"), (str, type(None))) and isinstance(drift, dict)
            and all(isinstance(pair, list) and len(pair) == 2 for pair in drift.values()))


_KINDS: dict[str, Callable[[Record], bool]] = {
    Kind.START: _is_start, Kind.PROTOCOL: _is_protocol, Kind.METRICS: _has_values,
    Kind.SYSTEM: _has_values, Kind.IMAGE: _is_image, Kind.END: _is_end, Kind.RESUME: _is_resume}
