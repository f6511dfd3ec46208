"""Stopping a run, and what it leaves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from helpers.journals import repeatable

from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS


def stop_after(steps: int) -> Callable[[], bool]:
    """A `stop` that says so when it has been asked so many times."""
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


def left(folder: Path) -> dict[str, object]:
    """What a run leaves that must be equal to the bit."""
    records = reading.read_records(folder)[0]
    return {"records": repeatable(records),
            "measurements": [r["step"] for r in records if r["kind"] == "system"],
            "weights": (folder / WEIGHTS).read_bytes(),
            "files": {str(f.relative_to(folder)): f.read_bytes() if f.suffix == ".png" else b""
                      for f in sorted(folder.rglob("*"))}}
