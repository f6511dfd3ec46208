"""The scores of one variant: centre, spread, interval, and how many runs diverged.

The unit is the training seed: retraining changes a score three times as much as drawing new samples
from a trained generator. A run that diverged is a result. It has no score, so it takes no part in a
mean; but every rank-based number (median, interquartile mean, worst, the probability of
improvement) ranks it last, and every record counts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from gan_bench.compare.stats.doubt import ALPHA as ALPHA
from gan_bench.compare.stats.doubt import LEVEL as LEVEL
from gan_bench.compare.stats.doubt import Doubt, doubts_of
from gan_bench.registry import Better

Scores = Mapping[int, float]  # seed → final score; NaN or infinite if the run ended without a score
Values = NDArray[np.float64]
UNBOUNDED = (-math.inf, math.inf)


class Reason(StrEnum):
    """Why an estimate lacks a number or an interval; `{}` stands for its `details`."""

    NO_RUNS = "no runs"
    ALL_DIVERGED = "all {} runs diverged"
    NO_SCORE = "one of the two has no finite score"
    ONE_WITHOUT_RUNS = "one of the two has no runs"
    ONE_SEED = "one seed: no interval"
    ONE_PAIR = "one pair: no interval"
    ALL_THE_SAME = "all the same: no interval"
    NO_SPREAD = "no spread: no interval"
    NO_DIRECTION = "no direction is better"
    MEASURED_ONCE = "no run was measured twice during training"
    NEVER_REACHED = "0 of {} runs reached it"
    FEWER_THAN_HALF = "{} of {} runs reached it: fewer than half"
    NO_UPPER_LIMIT = "no upper limit"
    REFUSED = "{}"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        value: NaN if there is no number.
        low, high: The ends of the interval; NaN if there is no interval.
        missing: Why there is no number, no interval or no upper end. Always set if one of the
            three is NaN.
        details: Fill the words of `missing`.
        exceeded: The bounds of the score, if the interval reaches beyond them; else None.
        survivors: The runs it was computed from ("3 of 5 runs"), if some diverged.
        doubts: What stands against the interval; only a t-interval has any.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    missing: Reason | None = None
    details: tuple[object, ...] = ()
    exceeded: tuple[float, float] | None = None
    survivors: str = ""
    doubts: tuple[Doubt, ...] = ()

    @property
    def is_trusted(self) -> bool:
        """Whether there is an interval, and nothing known stands against it."""
        return not (math.isnan(self.low) or self.exceeded or self.doubts)

    @property
    def is_marked(self) -> bool:
        """Whether the runs themselves show that the interval cannot be trusted."""
        return Doubt.SKEWED in self.doubts or Doubt.COLLAPSED in self.doubts

    @property
    def out_of_bounds(self) -> bool:
        """Whether the interval reaches beyond the bounds of the score."""
        return self.exceeded is not None

    @property
    def why_missing(self) -> str:
        """The words of `missing`, for readers; empty if `missing` is None."""
        return self.missing.format(*self.details) if self.missing else ""

    @property
    def remarks(self) -> list[str]:
        """Remarks for readers, without the runs it was computed from."""
        words = [self.why_missing] if self.missing else []
        if self.exceeded:
            low, high = self.exceeded
            words.append(f"the interval reaches beyond the bounds of the score ({low:g} to "
                         f"{high:g}): near a bound a t-interval is rough")
        return words

    @property
    def note(self) -> str:
        """All remarks, for readers; code reads the other attributes."""
        over = [f"over the {self.survivors} that did not diverge"] if self.survivors else []
        return "; ".join([*over, *self.remarks])


@dataclass(frozen=True)
class Summary:
    """The final scores of one variant.

    Attributes:
        n: Number of runs, diverged ones included.
        diverged: How many of them ended without a finite score.
        mean: Over the runs that did not diverge; its note says so if some did.
        sd: Standard deviation over the same runs, with n − 1; NaN with fewer than 2 of them.
        median, iqm: Median and interquartile mean (scipy.stats.trim_mean, a quarter off each end,
            rounded down) over all runs, diverged ones ranked last. Infinite if a diverged run is
            averaged. If neither direction is better, only runs that did not diverge count.
        best, worst: Of all runs; infinite for a diverged run, and NaN if neither direction is
            better.
        note: Remarks on sd, median, iqm, best, worst; may be empty.
    """

    n: int
    diverged: int
    mean: Estimate
    sd: float
    median: float
    iqm: float
    best: float
    worst: float
    note: str = ""

    @property
    def share_diverged(self) -> float:
        """The share of the runs that diverged, 0..1; NaN if there are no runs."""
        return self.diverged / self.n if self.n else math.nan


def summarise_scores(scores: Scores, better: Better,
                     bounds: tuple[float, float] = UNBOUNDED, collapsed: int = 0) -> Summary:
    """Return a summary of the scores of one variant.

    Args:
        scores: The final score of each seed.
        better: Which direction is better; None if neither is.
        bounds: The least and the greatest possible score.
        collapsed: How many of the runs collapsed.
    """
    finite = survivors(scores)
    n, diverged = len(scores), len(scores) - len(finite)
    mean = mean_of(finite, bounds, diverged, collapsed)
    ranked = finite if better is None else worst_last(scores, better)
    if not len(ranked):
        note = "no run has a finite score" if n else "no runs"
        return Summary(n, diverged, mean, math.nan, math.nan, math.nan, math.nan, math.nan, note)
    notes = []
    if not len(finite):
        notes.append("no run has a finite score")
    elif len(finite) == 1:
        notes.append("one score has no standard deviation")
    if better is None:
        unranked = ", and diverged runs have no rank" if diverged else ""
        notes.append(f"no direction is better: neither best nor worst{unranked}")
        best, worst = math.nan, math.nan
    else:
        best, worst = float(ranked.min()), float(ranked.max())
        if better == "higher":
            best, worst = worst, best
    return Summary(n, diverged, mean, spread(finite), float(np.median(ranked)),
                   float(stats.trim_mean(ranked, 0.25)), best, worst, "; ".join(notes))


def mean_of(values: Any, bounds: tuple[float, float] = UNBOUNDED, diverged: int = 0,
            collapsed: int = 0) -> Estimate:
    """Return the mean of finite values with its t-interval.

    An interval that reaches beyond the bounds of the score (above an accuracy of 1) is neither cut
    nor moved. Its note says that the method is rough there: scores near a bound do not scatter
    evenly to both sides.

    Args:
        values: (n,) finite.
        bounds: The least and the greatest possible score.
        diverged: How many further runs have no score, for the note.
        collapsed: How many of the runs collapsed.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        missing = Reason.ALL_DIVERGED if diverged else Reason.NO_RUNS
        return Estimate(math.nan, missing=missing, details=(diverged,))
    over = f"{len(x)} of {len(x) + diverged} runs" if diverged else ""
    mean = float(x.mean())
    if len(x) < 2:
        return Estimate(mean, missing=Reason.ONE_SEED, survivors=over)
    if spread(x) == 0:
        return Estimate(mean, missing=Reason.ALL_THE_SAME, survivors=over)
    half = t_quantile(len(x) - 1) * spread(x) / math.sqrt(len(x))
    low, high = mean - half, mean + half
    exceeded = None if bounds[0] <= low and high <= bounds[1] else bounds
    doubts = [*doubts_of(x)]
    if 0 < collapsed < len(x):
        doubts.append(Doubt.COLLAPSED)
    if diverged:
        doubts.append(Doubt.DIVERGED)
    return Estimate(mean, low, high, exceeded=exceeded, survivors=over, doubts=tuple(doubts))


def t_quantile(freedom: float) -> float:
    """Return how many standard errors a 95% interval reaches to either side."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def standard_error(a: Values, b: Values, paired: bool) -> tuple[float, float]:
    """Return the standard error of mean(a) − mean(b), and its degrees of freedom.

    It is Welch's (1947), or that of the paired differences. SciPy's ttest_ind and ttest_rel compute
    the same, but cost more than the whole comparison without them; the tests compare the results.

    Args:
        a, b: At least 2 values each, with some spread (`no_spread`).
        paired: Whether the values are pairs.
    """
    if paired:
        return float((a - b).std(ddof=1)) / math.sqrt(len(a)), len(a) - 1
    va, vb = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    return math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))


def difference(a: Any, b: Any, paired: bool = False) -> tuple[Estimate, float]:
    """Return mean(a) − mean(b) with its t-interval, and the p-value of no difference.

    The interval is Welch's (unequal variances), or that of the paired differences. Without an
    interval p is NaN, and the estimate's note says why.

    Args:
        a, b: Finite values; if `paired`, of the same length and in the same order.
        paired: Whether the values are pairs.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not (len(a) and len(b)):
        return Estimate(math.nan, missing=Reason.NO_SCORE), math.nan
    value = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        few = Reason.ONE_PAIR if paired else Reason.ONE_SEED
        return Estimate(value, missing=few), math.nan
    if no_spread(a, b, paired):
        return Estimate(value, missing=Reason.NO_SPREAD), math.nan
    error, freedom = standard_error(a, b, paired)
    half = t_quantile(freedom) * error
    doubts = doubts_of(a - b) if paired else doubts_of(a, b)
    return (Estimate(value, value - half, value + half, doubts=doubts),
            float(2 * special.stdtr(freedom, -abs(value) / error)))


def no_spread(a: Values, b: Values, paired: bool) -> bool:
    """Whether the scores have too little spread for a t-test."""
    if paired:
        scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
        return bool(np.ptp(a - b) <= ROUNDING * scale)
    return spread(a) == 0 and spread(b) == 0


# Relative: values this close count as equal; only the order of computation differs.
ROUNDING = 1e-12


def spread(values: Values) -> float:
    """Return the standard deviation with n − 1; 0 if values differ by rounding; NaN for one."""
    if len(values) < 2:
        return math.nan
    same = np.ptp(values) <= ROUNDING * np.abs(values).max()
    return 0.0 if same else float(values.std(ddof=1))


def survivors(scores: Scores) -> Values:
    """Return the finite scores, in the order of the seeds."""
    values = _by_seed(scores)
    return values[np.isfinite(values)]


def worst_last(scores: Scores, better: Better) -> Values:
    """Return all scores, in the order of the seeds; infinitely bad for diverged runs."""
    values = _by_seed(scores)
    worst = math.inf if better == "lower" else -math.inf
    return np.where(np.isfinite(values), values, worst)


def _by_seed(scores: Scores) -> Values:
    """Return the scores in the order of the seeds, to 12 digits.

    Scores that agree to 12 digits count as equal; only the order of computation differs.
    """
    return np.array([float(f"{scores[seed]:.12g}") for seed in sorted(scores)], dtype=np.float64)
