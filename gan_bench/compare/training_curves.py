"""What happened before the final scores: best checkpoint, area under the curve, time to quality.

None of it decides. The best checkpoint of a run is chosen by the score that then judges it, so it
flatters variants that are measured more often or scatter more. It is here because published tables
report it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from gan_bench.compare.frames import METRIC, PROTOCOL, SCORE
from gan_bench.compare.stats.overflow import within_range
from gan_bench.compare.stats.summary import Estimate, Reason, Values, mean_of
from gan_bench.compare.stats.time_to_quality import TimeToQuality, first_passing, time_to_quality
from gan_bench.journal.schema import RESULTS, Status
from gan_bench.journal.scores.score_names import (
    DURING,
    FINAL,
    bare_name,
    is_of_sets,
    protocol_digest,
    remeasured_digest,
    remeasured_name,
    score_name,
    split_latent_set,
)
from gan_bench.registry import Better

if TYPE_CHECKING:
    from gan_bench.compare.results import Results


@dataclass(frozen=True)
class TrainingCurve:
    """A score of one run during training, by step.

    Attributes:
        status: How the run ended.
        steps, seconds, values: (n,) of each; values may be NaN.
    """

    variant: str
    seed: int
    status: str
    steps: Values
    seconds: Values
    values: Values

    @property
    def finished(self) -> bool:
        """Whether the run finished."""
        return self.status == Status.FINISHED

    @property
    def diverged(self) -> bool:
        """Whether the run diverged."""
        return self.status == Status.DIVERGED


@dataclass(frozen=True)
class CurveSummary:
    """How the runs of a variant reached their scores.

    Attributes:
        best: Mean over runs of the best measurement of each during training.
        area: Mean over runs of the area under the curve, divided by the steps that it spans. It is
            in units of the score: a mean over the time of training.
        threshold: The quality to reach: the mean of the baseline's last measurements.
        steps, seconds: Until the runs reach it; None if there is no threshold or no run.
    """

    best: Estimate
    area: Estimate
    threshold: float
    steps: TimeToQuality | None = None
    seconds: TimeToQuality | None = None


def training_curves(results: Results, score: str) -> list[TrainingCurve]:
    """Return the curve of a score in every run.

    A resumed run may repeat a measurement; it counts once, by its last value. A curve that was
    measured anew, as the final score was, counts in the place of the earlier one.
    """
    history, plain = results.history, score_name(DURING, score)
    names = [name for name in history["metric"].cat.categories
             if name == plain or (name.startswith("eval-") and bare_name(name) == score)]
    rows = history.loc[history["metric"].isin(names), ["run", "metric", "step", "seconds", "value"]]
    wanted = _curve_names(results, score, rows)
    rows = rows[rows["metric"].astype(str) == rows["run"].astype(str).map(wanted)]
    rows = rows.sort_values("step", kind="stable").drop_duplicates(["run", "step"], keep="last")
    by_run = {str(run): group for run, group in rows.groupby("run", observed=True, sort=False)}
    no_rows = rows.iloc[:0]
    curves = []
    for run, row in zip(results.runs.index, results.runs[["variant", "seed", "status"]].itertuples(
            index=False), strict=True):
        measured = by_run.get(str(run), no_rows)
        steps, seconds, values = (
            measured[key].to_numpy(np.float64) for key in ("step", "seconds", "value"))
        curves.append(TrainingCurve(str(row.variant), int(row.seed), str(row.status),
                                    steps, seconds, within_range(values)))
    return curves


def _curve_names(results: Results, score: str, rows: pd.DataFrame) -> dict[str, str]:
    """Return the metric that holds each run's curve of a score."""
    plain = score_name(DURING, score)
    found = {(str(run), str(metric)) for run, metric in
             rows[["run", "metric"]].drop_duplicates().itertuples(index=False)}
    full_names, names = _full_names(results, score), {}
    for run in map(str, results.runs.index):
        names[run] = full_names.get(run) or plain
        if names[run].startswith(FINAL.removesuffix("/")):
            # Its curve may have been measured anew in the same way.
            text = results.runs[PROTOCOL + score][run]
            anew = remeasured_name(plain, protocol_digest(json.loads(text))) if text else plain
            names[run] = anew if (run, anew) in found else plain
    return names


def summarise_curves(curves: list[TrainingCurve], better: Better, baseline: str,
                     ) -> dict[str, CurveSummary]:
    """Return a summary of the curves of each variant, in the order of the curves.

    Best checkpoint and area are over the runs that finished: a run that diverged has no whole
    curve, and a good checkpoint before that does not count.
    """
    threshold = _threshold(curves, better, baseline)
    summaries = {}
    for variant in dict.fromkeys(curve.variant for curve in curves):
        variant_curves = [curve for curve in curves if curve.variant == variant]
        summaries[variant] = CurveSummary(
            _mean_best(variant_curves, better), _mean_area(variant_curves), threshold,
            _times(variant_curves, "steps", threshold, better),
            _times(variant_curves, "seconds", threshold, better))
    return summaries


def scores_by_latents(results: Results, score: str) -> dict[str, Mapping[int, list[float]]]:
    """Return for each variant and seed the final score on every set of latents.

    Only finished runs are in it. It is empty if no run was measured on more than one set.
    """
    history = results.history
    sets = {name: split for name in history["metric"].cat.categories
            if (split := split_latent_set(name)) and split[2] == score}
    if not sets:
        return {}
    column = results.runs[SCORE + score]
    rows = history[history["metric"].isin(sets)].drop_duplicates(["run", "metric"], keep="last")
    digests = rows["metric"].astype(str).map({name: split[0] for name, split in sets.items()})
    rows = rows[digests == rows["run"].astype(str).map(_set_digests(results, score))]
    repeats = {str(run): list(within_range(values))
               for run, values in rows.groupby("run", observed=True)["value"]}
    by_variant: dict[str, dict[int, list[float]]] = {}
    for run, row in results.runs.iterrows():
        if row["status"] == Status.FINISHED and np.isfinite(within_range(column[run])):
            by_variant.setdefault(str(row["variant"]), {})[int(row["seed"])] = [
                float(column[run]), *repeats.get(str(run), [])]
    return dict(by_variant)


def _set_digests(results: Results, score: str) -> dict[str, str]:
    """Return the digest in the names of the further sets that belong to each run's score.

    It is empty for what training measured. A run whose further sets belong to another measurement
    is absent.
    """
    history, final = results.history, score_name(FINAL, score)
    with_final = set(history.loc[history["metric"] == final, "run"].astype(str))
    others = {run: [final] for run in with_final}
    return {run: remeasured_digest(full) for run, full in _full_names(results, score).items()
            if full and is_of_sets(full, others.get(run, []))}


def _full_names(results: Results, score: str) -> dict[str, str]:
    """Return the name in the history of each run's score; empty where there is none."""
    column = results.runs.get(METRIC + score)
    return {} if column is None else {str(run): str(full) for run, full in column.items()}


def _threshold(curves: list[TrainingCurve], better: Better, baseline: str) -> float:
    """Return the mean of the baseline's last measurements; NaN if there are none."""
    last_values = [curve.values[-1] for curve in curves
                   if curve.variant == baseline and curve.finished and len(curve.values)]
    finite = [value for value in last_values if np.isfinite(value)]
    return float(np.mean(finite)) if finite and better else float("nan")


def _mean_best(curves: list[TrainingCurve], better: Better) -> Estimate:
    """Return the mean of the best measurements of finished runs."""
    if not better:
        return Estimate(float("nan"), missing=Reason.NO_DIRECTION)
    best = np.nanmin if better == "lower" else np.nanmax
    values = [float(best(curve.values)) for curve in curves
              if curve.finished and np.isfinite(curve.values).any()]
    return mean_of(values, diverged=sum(curve.diverged for curve in curves))


def _mean_area(curves: list[TrainingCurve]) -> Estimate:
    """Return the mean of the areas under the curves of finished runs."""
    areas = [_area(curve) for curve in curves
             if curve.finished and np.isfinite(curve.values).sum() > 1]
    if not areas:
        return Estimate(float("nan"), missing=Reason.MEASURED_ONCE)
    return mean_of(areas, diverged=sum(curve.diverged for curve in curves))


def _area(curve: TrainingCurve) -> float:
    finite = np.isfinite(curve.values)
    steps, values = curve.steps[finite], curve.values[finite]
    return float(trapezoid(values, steps) / (steps[-1] - steps[0]))


def _times(curves: list[TrainingCurve], key: str, threshold: float, better: Better,
           ) -> TimeToQuality | None:
    """Return how long the runs take; runs without a measurement take no part."""
    measured = [curve for curve in curves if len(curve.values) and curve.status in RESULTS]
    if not measured or not np.isfinite(threshold):
        return None
    times: list[Values] = [getattr(curve, key) for curve in measured]
    # All runs had the same steps. If each run were censored at the end of its own seconds, a run
    # on a quick machine that never reaches the quality would drop out early, and the others would
    # look quicker.
    longest = max(float(time[-1]) for time in times)
    passed = [first_passing(time.tolist(), curve.values.tolist(), threshold, better)
              for time, curve in zip(times, measured, strict=True)]
    watched = np.where([curve.diverged for curve in measured], np.inf, longest)
    return time_to_quality(passed, watched.tolist())
