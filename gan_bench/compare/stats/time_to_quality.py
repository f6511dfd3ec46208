"""Time to quality: how long until a score passes a threshold, with runs that never do."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gan_bench.compare.stats.summary import LEVEL, Estimate, Reason
from gan_bench.registry import Better


@dataclass(frozen=True)
class TimeToQuality:
    """When runs reach a quality, in the units of the input: steps, or seconds.

    Attributes:
        n: Number of runs.
        reached: How many of them reached the quality.
        median: Kaplan–Meier estimate of the time when half of the runs have reached it, with its
            interval (Brookmeyer and Crowley 1982, on the log(−log) scale). The upper end is
            infinite if the runs set no limit to it. NaN if fewer than half reached it.
        mean: Restricted mean: later times count as `horizon`.
        horizon: How long the longest run was watched.
    """

    n: int
    reached: int
    median: Estimate
    mean: float
    horizon: float


def first_passing(times: Sequence[float], scores: Sequence[float], threshold: float,
                  better: Better) -> float | None:
    """Return the time of the first measurement as good as the threshold; None if there is none.

    A run may have reached the threshold at any time since the measurement before. Scores that agree
    to 12 digits are one number, as in `summary`, whose median may be the threshold.

    Raises:
        ValueError: Neither direction is better, so no score is good.
    """
    if better is None:
        raise ValueError("a score without a better direction has no quality to reach")
    edge, rounded = _rounded(threshold), map(_rounded, scores)
    reaches = operator.le if better == "lower" else operator.ge
    return next((time for time, score in zip(times, rounded, strict=True) if reaches(score, edge)),
                None)


def _rounded(score: float) -> float:
    return float(f"{score:.12g}")


def time_to_quality(reached: Sequence[float | None], watched: Sequence[float]) -> TimeToQuality:
    """Return when runs reach a quality; runs that do not are censored.

    Args:
        reached: For each run, the time when it reached the quality (`first_passing`), or None.
        watched: For each run, how long it was watched. For a diverged run, infinity: it never
            reaches the quality. If it were censored at its last step, a variant that diverges
            would look fast.

    Raises:
        ValueError: There are no runs.
    """
    if not reached:
        raise ValueError("there are no runs")
    ends = [end for end in watched if math.isfinite(end)]
    horizon = max([*ends, *(time for time in reached if time is not None)], default=math.nan)
    passed = [time for time in reached if time is not None]
    if not passed:
        never = Estimate(math.nan, missing=Reason.NEVER_REACHED, details=(len(reached),))
        return TimeToQuality(len(reached), 0, never, horizon, horizon)
    censored = [min(end, horizon) for time, end in zip(reached, watched, strict=True)
                if time is None]
    curve = stats.ecdf(stats.CensoredData(passed, right=censored)).sf
    times, waiting = curve.quantiles, curve.probabilities
    with warnings.catch_warnings():  # at 0 and 1 there is no interval; the lines below fill it
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = curve.confidence_interval(LEVEL, method="log-log")
    low = np.where(waiting == 0, 0.0, np.nan_to_num(interval.low.probabilities, nan=1.0))
    high = np.nan_to_num(interval.high.probabilities, nan=1.0)
    value, first, last = (_time_of_half(times, line) for line in (waiting, low, high))
    if math.isinf(value):
        median = Estimate(math.nan, first, missing=Reason.FEWER_THAN_HALF,
                          details=(len(passed), len(reached)))
    else:
        missing = Reason.NO_UPPER_LIMIT if math.isinf(last) else None
        median = Estimate(value, first, last, missing=missing)
    edges = np.concatenate([[0.0], np.minimum(times, horizon), [horizon]])
    heights = np.concatenate([[1.0], waiting])
    return TimeToQuality(len(reached), len(passed), median, float((np.diff(edges) * heights).sum()),
                         horizon)


def _time_of_half(times: np.ndarray[tuple[int], np.dtype[np.float64]],
                  line: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Return the first time when the line is at most a half; infinite if it never is."""
    down = np.flatnonzero(line <= 0.5 + 1e-12)
    return float(times[down[0]]) if len(down) else math.inf
