"""Time to quality: how long until a score passes a threshold, and what if it never does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gan_bench.compare.stats.summary import LEVEL, Estimate, Reason
from gan_bench.registry import Better


@dataclass(frozen=True)
class TimeToQuality:
    """When runs reach a quality, in the units of the times given: steps, or seconds.

    Attributes:
        n: Number of runs.
        reached: How many of them got there.
        median: Kaplan–Meier estimate of the time by which half of the runs are there, with its
            interval (Brookmeyer and Crowley 1982, on the log(−log) scale); the upper end is
            infinite where the runs set no limit to it. NaN where fewer than half get there.
        mean: Restricted mean: of the times up to `horizon`, which stands for those that are later.
        horizon: How long the longest run was watched.
    """

    n: int
    reached: int
    median: Estimate
    mean: float
    horizon: float


def first_passing(times: Sequence[float], scores: Sequence[float], threshold: float,
                  better: Better) -> float | None:
    """Return the time of the first measurement that is as good as the threshold; None: none is.

    A run may have got there at any time since the measurement before. Scores that agree to 12
    digits are one number, as in `stats`, whose median may be the threshold.

    Raises:
        ValueError: Neither direction is better, so no score is good.
    """
    if better is None:
        raise ValueError("a score of which neither direction is better has no quality to reach")
    edge, rounded = _rounded(threshold), map(_rounded, scores)
    passed = (score <= edge if better == "lower" else score >= edge for score in rounded)
    return next((time for time, there in zip(times, passed, strict=True) if there), None)


def _rounded(score: float) -> float:
    return float(f"{score:.12g}")


def time_to_quality(reached: Sequence[float | None], watched: Sequence[float]) -> TimeToQuality:
    """Return when runs reach a quality, those that never do treated as censored.

    Args:
        reached: For each run, the time at which it did (`first_passing`), or None.
        watched: For each run, how long it was watched. For one that diverged, infinity: it will
            never get there, and to take it for a run that might have got there a step later would
            make a variant that diverges look fast.

    Raises:
        ValueError: There are no runs.
    """
    if not reached:
        raise ValueError("there are no runs")
    ends = [end for end in watched if math.isfinite(end)]
    horizon = max([*ends, *(time for time in reached if time is not None)], default=math.nan)
    got = sum(time is not None for time in reached)
    if not got:
        return TimeToQuality(len(reached), 0, Estimate(
            math.nan, missing=Reason.NEVER_REACHED, details=(len(reached),)), horizon, horizon)
    never = [min(end, horizon) for time, end in zip(reached, watched, strict=True) if time is None]
    curve = stats.ecdf(stats.CensoredData([t for t in reached if t is not None], right=never)).sf
    times, waiting = curve.quantiles, curve.probabilities
    with warnings.catch_warnings():  # at 0 and 1 there is no interval, which is dealt with below
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = curve.confidence_interval(LEVEL, method="log-log")
    low = np.where(waiting == 0, 0.0, np.nan_to_num(interval.low.probabilities, nan=1.0))
    high = np.nan_to_num(interval.high.probabilities, nan=1.0)
    value, first, last = (_when(times, line) for line in (waiting, low, high))
    if math.isinf(value):
        median = Estimate(math.nan, first, missing=Reason.FEWER_THAN_HALF,
                          details=(got, len(reached)))
    else:
        median = Estimate(value, first, last,
                          missing=Reason.NO_UPPER_LIMIT if math.isinf(last) else None)
    edges = np.concatenate([[0.0], np.minimum(times, horizon), [horizon]])
    heights = np.concatenate([[1.0], waiting])
    return TimeToQuality(len(reached), got, median, float((np.diff(edges) * heights).sum()),
                         horizon)


def _when(times: np.ndarray[tuple[int], np.dtype[np.float64]],
          line: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Return the first time at which the line is down to a half; infinite if it never is."""
    down = np.flatnonzero(line <= 0.5 + 1e-12)
    return float(times[down[0]]) if len(down) else math.inf
