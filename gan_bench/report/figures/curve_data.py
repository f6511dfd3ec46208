"""The numbers that figures over training steps show: each run's line, and the mean over runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from gan_bench.compare.stats.overflow import within_range
from gan_bench.compare.stats.summary import UNBOUNDED, Values, mean_of
from gan_bench.errors import count
from gan_bench.journal.schema import Status

if TYPE_CHECKING:
    import pandas as pd

    from gan_bench.compare.results import Results

POINTS = 500  # of a line


@dataclass(frozen=True)
class VariantCurves:
    """One metric of one variant's runs over the steps.

    Attributes:
        runs: How many runs the variant has, and how many of them `diverged`.
        lines: For each run with values, its steps and finite values.
        ends: The ends of the lines of diverged runs: (step, value).
        mean: (steps, mean, low, high) at the steps where all runs that have the metric and did not
            diverge have a value; low and high are NaN without an interval.
        notes: Remarks on the curves.
    """

    variant: str
    runs: int
    diverged: int
    lines: dict[str, tuple[Values, Values]]
    ends: list[tuple[float, float]]
    mean: tuple[Values, Values, Values, Values]
    notes: list[str]

    @property
    def label(self) -> str:
        """The variant and its number of runs."""
        lost = f", {self.diverged} diverged" if self.diverged else ""
        return f"{self.variant}\n({count(self.runs, 'run')}{lost})"


def metric_curves(results: Results, metric: str, bounds: tuple[float, float] = UNBOUNDED,
                  points: int = POINTS) -> list[VariantCurves]:
    """Return a metric's curves for each variant, in the experiment's order.

    Args:
        metric: Its name in the history.
        bounds: The least and the greatest possible value.
        points: The number of steps, evenly spread, at which means are taken at most.
    """
    rows = results.history.loc[results.history["metric"] == metric, ["run", "step", "value"]]
    rows = rows[np.isfinite(within_range(rows["value"]))].sort_values("step", kind="stable")
    rows = rows.drop_duplicates(["run", "step"], keep="last")
    lines = {str(run): (line["step"].to_numpy(np.float64), line["value"].to_numpy(np.float64))
             for run, line in rows.groupby("run", observed=True, sort=False)}
    return [_variant_curves(str(variant), runs["status"], lines, bounds, points)
            for variant, runs in results.runs.groupby("variant", observed=True, sort=True)]


def _variant_curves(variant: str, status: pd.Series, lines: dict[str, tuple[Values, Values]],
                    bounds: tuple[float, float], points: int) -> VariantCurves:
    lines = {str(run): lines[str(run)] for run in status.index if str(run) in lines}
    lost = {str(run) for run in status.index[status == Status.DIVERGED]}
    whole = [line for run, line in lines.items() if run not in lost]
    notes = []
    if unseen := [str(status[run]) for run in status.index if str(run) not in lines]:
        notes.append(f"{variant}: {len(unseen)} of {count(len(status), 'run')} without a value "
                     f"({', '.join(sorted(set(unseen)))})")
    steps = reduce(np.intersect1d, [line[0] for line in whole]) if whole else np.empty(0)
    everywhere, counts = np.unique(np.concatenate([np.empty(0), *(line[0] for line in whole)]),
                                   return_counts=True)
    if len(steps) < len(everywhere):
        fewer = counts[counts < len(whole)]
        runs = str(fewer.min())
        if fewer.max() > fewer.min():
            runs += f" to {fewer.max()}"
        notes.append(f"{variant}: no mean at {len(fewer)} of {count(len(everywhere), 'step')}, "
                     f"where {runs} of {count(len(whole), 'run')} have a value")
    if len(steps) > points:
        steps = steps[np.linspace(0, len(steps) - 1, points).round().astype(int)]
    at = np.array([y[np.searchsorted(x, steps)] for x, y in whole]).reshape(len(whole), len(steps))
    means = [mean_of(values, bounds, len(lost)) for values in at.T]
    value, low, high = (np.array([getattr(mean, end) for mean in means], dtype=np.float64)
                        for end in ("value", "low", "high"))
    ends = [(float(x[-1]), float(y[-1])) for run, (x, y) in lines.items() if run in lost]
    return VariantCurves(variant, len(status), len(lost), lines, ends, (steps, value, low, high),
                         notes)


def thinned(x: Values, y: Values, points: int = POINTS) -> tuple[Values, Values]:
    """Return at most `points` points of a line: the ends, and the extremes of every stretch.

    So a spike of a single step remains visible.
    """
    if len(x) <= points:
        return x, y
    chosen = {0, len(x) - 1}
    for part in np.array_split(np.arange(1, len(x) - 1), points // 2 - 1):
        chosen |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    index = sorted(chosen)
    return x[index], y[index]
