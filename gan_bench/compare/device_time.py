"""How long a run has held its device, in all its attempts."""

from __future__ import annotations

import itertools
from pathlib import Path

from gan_bench.journal import reading
from gan_bench.journal.schema import Kind

BEGINS = Kind.START, Kind.RESUME  # the first record of an attempt


def device_seconds(folder: Path) -> float:
    """Return the time that the attempts of a run took together; 0 of one that has not begun.

    The time between two attempts is left out, and so is that between a run's end and a later
    measurement of it. Attempts whose steps were repeated count. Of a run that continues another one
    it is that of both.

    Args:
        folder: Of the run, with its journal.

    Raises:
        UserError: The journal is damaged.
    """
    records, _ = reading.read_records(folder)
    spent = sum(after["t"] - before["t"] for before, after in itertools.pairwise(records)
                if after["kind"] not in BEGINS and before["kind"] != Kind.END)
    return float(max(0, spent)) / 1000
