"""The declared means of logged curves, from MLflow, or from the journals where MLflow lacks points.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gan_bench.config.declared import Declared
from gan_bench.errors import DamagedError, count
from gan_bench.journal import reading
from gan_bench.journal.schema import Kind
from gan_bench.tracking.reader import StoredRun
from gan_bench.tracking.runs.tags import LOSSES_EVERY
from gan_bench.tracking.thinning import POINTS

Curves = Mapping[str, Mapping[int, float]]  # by name, the values by step


def curve_means(run: StoredRun, declared: Declared, folder: Path | None,
                ) -> dict[str, tuple[str, float]]:
    """Return the declared means of a run's curves: the protocol of each, and its value.

    If a resumed run has logged a step twice, it counts once, by its last value.

    Args:
        folder: Of the run in the root; None if it is not there. Its journal holds the points that
            MLflow did not receive.
    """
    names: set[str] = {mean.of for mean in declared.curve_means.values()}
    if not names:
        return {}
    logged = _journal_curves(folder, names) if folder and LOSSES_EVERY in run.tags else None
    curves = _stored_curves(run, names) if logged is None else logged
    means = {}
    for name, mean in declared.curve_means.items():
        first, last = mean.steps
        values = [value for step, value in curves.get(mean.of, {}).items() if first <= step <= last]
        if values:
            protocol = {"mean of": mean.of, "from step": first, "to step": last,
                        "logged steps": len(values)}
            means[name] = json.dumps(protocol), float(np.mean(values))
    return means


def thinned_means(runs: Sequence[StoredRun], declared: Declared, folders: Mapping[str, Path],
                  ) -> list[str]:
    """Return a note on means over fewer steps than were logged, as the journals are elsewhere.

    Args:
        folders: By MLflow's id, those of the runs that are in the root.
    """
    lacking = [run for run in runs if LOSSES_EVERY in run.tags and run.id not in folders]
    if not lacking or not declared.curve_means:
        return []
    return [f"{', '.join(declared.curve_means)}: of {count(len(lacking), 'run')} over the logged "
            f"steps that MLflow holds, at most {POINTS:,} a curve; a report in the root that holds "
            f"their journals takes all"]


def _journal_curves(folder: Path, names: set[str]) -> Curves | None:
    """Return curves as the journal holds them; None if it cannot be read."""
    curves: dict[str, dict[int, float]] = {name: {} for name in names}
    try:
        records = reading.valid(reading.read_records(folder)[0])
    except (DamagedError, OSError):
        return None
    for record in records:
        if record["kind"] == Kind.METRICS:
            for name in curves.keys() & record["values"].keys():
                curves[name][record["step"]] = record["values"][name]
    return curves if records else None


def _stored_curves(run: StoredRun, names: set[str]) -> Curves:
    """Return curves as MLflow holds them."""
    curves = {}
    for name in names & {*run.metrics}:
        rows = run.keys == run.metrics.index(name)
        curves[name] = dict(zip(run.steps[rows].tolist(), run.values[rows].tolist(), strict=True))
    return curves
