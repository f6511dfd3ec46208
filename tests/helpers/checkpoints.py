"""Stopping a run, and what it leaves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

from helpers.journals import repeatable

from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS
from gan_bench.journal.sharing.claims import holder_of

_NUMBER = re.compile(r"^(journal|checkpoint)\.[0-9]+\.|^attempt\.[0-9]+$")


def stop_after(steps: int) -> Callable[[], bool]:
    """A `stop` that says so when it has been asked so many times."""
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


def left(folder: Path) -> dict[str, object]:
    """What a run leaves that must be equal to the bit."""
    assert holder_of(folder) is None
    records = reading.read_records(folder)[0]
    return {"records": repeatable(records),
            "measurements": [r["step"] for r in records if r["kind"] == "system"],
            "weights": (folder / WEIGHTS).read_bytes(),
            "files": files(folder),
            "pictures": {str(f.relative_to(folder)): f.read_bytes()
                         for f in sorted(folder.rglob("*.png"))}}


def files(folder: Path) -> list[str]:
    """The names of a run's files, whichever attempt has written them.

    Claims and the segments of a journal are as many as the attempts; all else is there once.
    """
    names = [_NUMBER.sub(lambda number: f"{number[1]}." if number[1] else "attempt",
                         str(file.relative_to(folder))) for file in folder.rglob("*")]
    many = {"attempt", reading.FILE}
    return sorted([name for name in names if name not in many] + [*many & {*names}])
