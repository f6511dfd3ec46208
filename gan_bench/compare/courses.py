"""What happened on the way to the final scores: best checkpoint, area under the curve, time.

None of it decides. The best checkpoint of a run is chosen by the score that it is then judged by,
and flatters whoever is measured more often or scatters more; it is here because published tables
report it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.integrate import trapezoid

from gan_bench.compare.results import SCORE
from gan_bench.compare.stats.summary import Estimate, Reason, Values, mean_of
from gan_bench.compare.stats.time_to_quality import TimeToQuality, first_passing, time_to_quality
from gan_bench.journal.names import AGAIN
from gan_bench.journal.schema import RESULTS, Status
from gan_bench.registry import Better

if TYPE_CHECKING:
    import pandas as pd

    from gan_bench.compare.results import Results


@dataclass(frozen=True)
class Curve:
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


@dataclass(frozen=True)
class Course:
    """How a variant's runs came to their scores.

    Attributes:
        best: Mean over runs of each one's best measurement during training.
        area: Mean over runs of the area under the curve, over the steps that it spans: so it is in
            units of the score, and a mean over the time of training.
        threshold: What a run has to reach: the mean of the baseline's last measurements.
        steps, seconds: Until it did; None where there is no threshold or no run.
    """

    best: Estimate
    area: Estimate
    threshold: float
    steps: TimeToQuality | None = None
    seconds: TimeToQuality | None = None


def curves(results: Results, score: str) -> list[Curve]:
    """Return a score's course in every run, a measurement repeated on resumption counted once."""
    rows = _of_metric(results, results.curve_of(score))
    rows = rows.sort_values("step", kind="stable").drop_duplicates(["run", "step"], keep="last")
    by_run = {str(run): own for run, own in rows.groupby("run", observed=True, sort=False)}
    found = []
    for run, row in zip(results.runs.index, results.runs[["variant", "seed", "status"]].itertuples(
            index=False), strict=True):
        own = by_run.get(str(run), rows.iloc[:0])
        found.append(Curve(str(row.variant), int(row.seed), str(row.status),
                           *(own[key].to_numpy(np.float64) for key in ("step", "seconds",
                                                                       "value"))))
    return found


def courses(found: list[Curve], better: Better, baseline: str) -> dict[str, Course]:
    """Return what the curves of each variant say, in their order.

    Best checkpoint and area are over the runs that finished: where a run diverged there is no whole
    curve, and that its best checkpoint was fine is beside the point.
    """
    final = [one.values[-1] for one in found if one.variant == baseline and len(one.values)
             and one.status == Status.FINISHED and np.isfinite(one.values[-1])]
    threshold = float(np.mean(final)) if final and better else float("nan")
    result = {}
    for variant in dict.fromkeys(one.variant for one in found):
        own = [one for one in found if one.variant == variant]
        whole = [one for one in own if one.status == Status.FINISHED
                 and np.isfinite(one.values).any()]
        lost = sum(one.status == Status.DIVERGED for one in own)
        best = mean_of([_best(one.values, better) for one in whole], diverged=lost) if better else (
            Estimate(float("nan"), missing=Reason.NO_DIRECTION))
        areas = [_area(one) for one in whole if np.isfinite(one.values).sum() > 1]
        area = mean_of(areas, diverged=lost) if areas else Estimate(
            float("nan"), missing=Reason.MEASURED_ONCE)
        result[variant] = Course(best, area, threshold, *(
            _times(own, key, threshold, better) for key in ("steps", "seconds")))
    return result


def repeated(results: Results, score: str) -> dict[str, Mapping[int, list[float]]]:
    """Return for each variant and seed the final score on every set of latents it was measured on.

    Only those of finished runs; empty where no run was measured on more than one.
    """
    history = results.history
    names = [name for name in history["metric"].cat.categories
             if name.startswith(AGAIN) and name.split("/", 2)[2:] == [score]]
    if not names:
        return {}
    rows = history[history["metric"].isin(names)].drop_duplicates(["run", "metric"], keep="last")
    more = {str(run): list(own) for run, own in rows.groupby("run", observed=True)["value"]}
    column = results.runs[SCORE + score]
    sets: dict[str, dict[int, list[float]]] = {}
    for run, row in results.runs.iterrows():
        if row["status"] == Status.FINISHED and np.isfinite(column[run]):
            sets.setdefault(str(row["variant"]), {})[int(row["seed"])] = [
                float(column[run]), *more.get(str(run), [])]
    return dict(sets)


def _of_metric(results: Results, metric: str) -> pd.DataFrame:
    history = results.history
    return history.loc[history["metric"] == metric, ["run", "step", "seconds", "value"]]


def _best(values: Values, better: Better) -> float:
    return float(np.nanmin(values) if better == "lower" else np.nanmax(values))


def _area(one: Curve) -> float:
    there = np.isfinite(one.values)
    steps, values = one.steps[there], one.values[there]
    return float(trapezoid(values, steps) / (steps[-1] - steps[0]))


def _times(own: list[Curve], key: str, threshold: float, better: Better) -> TimeToQuality | None:
    """Return how long the runs take; those of which nothing is known take no part."""
    seen = [one for one in own if len(one.values) and one.status in RESULTS]
    if not seen or not np.isfinite(threshold):
        return None
    times: list[Values] = [getattr(one, key) for one in seen]
    # All were given the same steps. Were each censored after seconds of its own, a run on a quick
    # machine that never gets there would drop out early, and make the others look quicker.
    longest = max(float(time[-1]) for time in times)
    return time_to_quality(
        [first_passing(time.tolist(), one.values.tolist(), threshold, better)
         for time, one in zip(times, seen, strict=True)],
        [float("inf") if one.status == Status.DIVERGED else longest for one in seen])
