"""Statistics over training seeds: the unit is the run, for retraining moves a score about three
times as much as drawing new samples from a trained generator.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Verdict = Literal["better", "worse", "inconclusive"]


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference of means, with its 95% interval (nan where none can be given)."""

    value: float
    low: float
    high: float


def mean_of(values: list[float]) -> Estimate:
    """Return the mean with its 95% t-interval; with one value there is no interval."""
    mean = float(np.mean(values)) if values else float("nan")
    if len(values) < 2:
        return Estimate(mean, float("nan"), float("nan"))
    if np.ptp(values) == 0:
        return Estimate(mean, mean, mean)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    return Estimate(mean, float(low), float(high))


def difference(values: list[float], baseline: list[float]) -> Estimate:
    """Return mean(values) − mean(baseline) with Welch's 95% interval (unequal variances)."""
    value = float(np.mean(values) - np.mean(baseline)) if values and baseline else float("nan")
    if min(len(values), len(baseline)) < 2:
        return Estimate(value, float("nan"), float("nan"))
    if np.ptp(values) == 0 and np.ptp(baseline) == 0:
        return Estimate(value, value, value)
    with warnings.catch_warnings():
        # Seeds that agree to the last digits: the interval is then as narrow as it looks.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        interval = stats.ttest_ind(values, baseline, equal_var=False).confidence_interval(0.95)
    return Estimate(value, float(interval.low), float(interval.high))


def verdict(gap: Estimate, lower_is_better: bool) -> Verdict:
    """Return what the interval of a difference from the baseline allows to say."""
    if not gap.low * gap.high > 0:  # the interval holds 0, or there is none
        return "inconclusive"
    return "better" if (gap.value < 0) == lower_is_better else "worse"
