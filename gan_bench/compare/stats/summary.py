"""What the scores of one variant say: centre, spread, interval, and how many runs diverged.

The unit is the training seed, for retraining moves a score about three times as much as drawing new
samples from a trained generator. A run that diverged is a result: it has no score, so it takes no
part in a mean, but whatever goes by order (median, interquartile mean, worst, the probability of
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

from gan_bench.registry import Better

LEVEL = 0.95
Scores = Mapping[int, float]  # seed → final score; NaN or infinite where the run ended without one
Values = NDArray[np.float64]
ANYTHING = (-math.inf, math.inf)


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
    NEVER_REACHED = "none of {} runs got there"
    FEWER_THAN_HALF = "{} of {} runs got there: no half"
    NO_UPPER_LIMIT = "no upper limit"
    REFUSED = "{}"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        value: NaN where there is none.
        low, high: The ends of the interval; NaN where none can be given.
        missing: Why there is no number, no interval or no upper end. Never None where one of the
            three is NaN.
        details: What the words of `missing` are filled in with.
        exceeded: The bounds of the score, where the interval reaches beyond them.
        survivors: Which runs it is over ("3 of 5 runs"), where some diverged.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    missing: Reason | None = None
    details: tuple[object, ...] = ()
    exceeded: tuple[float, float] | None = None
    survivors: str = ""

    @property
    def out_of_bounds(self) -> bool:
        """Whether the interval reaches beyond what the score can be."""
        return self.exceeded is not None

    @property
    def why_missing(self) -> str:
        """The words of `missing`, for readers; empty if nothing is missing."""
        return self.missing.format(*self.details) if self.missing else ""

    @property
    def remarks(self) -> list[str]:
        """What there is to know of it, for readers, but for which runs it is over."""
        words = [self.why_missing] if self.missing else []
        if self.exceeded:
            low, high = self.exceeded
            words.append(f"the interval reaches beyond what the score can be ({low:g} to "
                         f"{high:g}): so near a bound a t-interval is rough")
        return words

    @property
    def note(self) -> str:
        """All that there is to know of it, for readers; code asks the other attributes."""
        over = [f"over the {self.survivors} that did not diverge"] if self.survivors else []
        return "; ".join([*over, *self.remarks])


@dataclass(frozen=True)
class Summary:
    """The final scores of one variant.

    Attributes:
        n: Number of runs, those that diverged among them.
        diverged: How many of them ended without a finite score.
        mean: Over the runs that did not diverge; its note says so where some did.
        sd: Standard deviation over the same runs, with n − 1; NaN with fewer than 2 of them.
        median, iqm: Median and interquartile mean (scipy.stats.trim_mean, a quarter off each end,
            rounded down) over all runs, diverged ones ranked last: infinite where one of those is
            among what is averaged. Over the others alone where neither direction is better.
        best, worst: Of all runs; infinite where it is a diverged one, and NaN where neither
            direction is better.
        note: What there is to know of the numbers without an interval; empty if nothing.
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
        """The share of the runs that diverged, 0..1; NaN where there are no runs."""
        return self.diverged / self.n if self.n else math.nan


def describe(scores: Scores, better: Better, bounds: tuple[float, float] = ANYTHING) -> Summary:
    """Return what the scores of one variant say.

    Args:
        scores: The final score of each seed.
        better: Which way is better; None where neither is.
        bounds: The least and the greatest score that there can be.
    """
    finite = survivors(scores)
    n, diverged = len(scores), len(scores) - len(finite)
    mean = mean_of(finite, bounds, diverged)
    ranked = finite if better is None else worst_last(scores, better)
    if not len(ranked):
        note = "no run has a finite score" if n else "no runs"
        return Summary(n, diverged, mean, math.nan, math.nan, math.nan, math.nan, math.nan, note)
    notes = []
    if len(finite) < 2:
        notes.append("one score has no standard deviation" if len(finite) else
                     "no run has a finite score")
    if better is None:
        notes.append("no direction is better: neither best nor worst" +
                     (", and no place for diverged runs" if diverged else ""))
    ends = (float(ranked.min()), float(ranked.max()))
    best, worst = (math.nan, math.nan) if better is None else (
        ends if better == "lower" else ends[::-1])
    return Summary(n, diverged, mean, spread(finite), float(np.median(ranked)),
                   float(stats.trim_mean(ranked, 0.25)), best, worst, "; ".join(notes))


def mean_of(values: Any, bounds: tuple[float, float] = ANYTHING, diverged: int = 0) -> Estimate:
    """Return the mean of finite values with its t-interval.

    An interval that reaches beyond what the score can be (above an accuracy of 1) is neither cut
    off nor moved: it is what the method gives, and its note says that the method is out of its
    depth there, for scores at their bound do not scatter evenly to both sides.

    Args:
        values: (n,) finite.
        bounds: The least and the greatest score that there can be.
        diverged: How many further runs have no score, for the note.
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
    return Estimate(mean, low, high, exceeded=exceeded, survivors=over)


def t_quantile(freedom: float) -> float:
    """Return how many standard errors a 95% interval reaches to either side."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def standard_error(a: Values, b: Values, paired: bool) -> tuple[float, float]:
    """Return the standard error of mean(a) − mean(b), and its degrees of freedom.

    Welch's (1947), or that of the paired differences. SciPy's ttest_ind and ttest_rel are the same,
    and cost more than all else that a comparison computes; the tests hold it to them.

    Args:
        a, b: At least 2 values each, with some spread (`no_spread`).
        paired: Whether they belong together two by two.
    """
    if paired:
        return float((a - b).std(ddof=1)) / math.sqrt(len(a)), len(a) - 1
    va, vb = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    return math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))


def difference(a: Any, b: Any, paired: bool = False) -> tuple[Estimate, float]:
    """Return mean(a) − mean(b) with its t-interval, and the p-value of no difference.

    The interval is Welch's (unequal variances), or that of the paired differences. Without one, p
    is NaN, and the estimate's note says why.

    Args:
        a, b: Finite values; of the same length, partner beside partner, if `paired`.
        paired: Whether they belong together two by two.
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
    return (Estimate(value, value - half, value + half),
            float(2 * special.stdtr(freedom, -abs(value) / error)))


def no_spread(a: Values, b: Values, paired: bool) -> bool:
    """Whether the scores leave a t-test nothing to judge a difference by."""
    if paired:
        scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
        return bool(np.ptp(a - b) <= ROUNDING * scale)
    return spread(a) == 0 and spread(b) == 0


ROUNDING = 1e-12  # relative: values this near are the same number, computed in another order


def spread(values: Values) -> float:
    """The standard deviation with n − 1; 0 where the values differ by rounding; NaN for one."""
    if len(values) < 2:
        return math.nan
    same = np.ptp(values) <= ROUNDING * np.abs(values).max()
    return 0.0 if same else float(values.std(ddof=1))


def survivors(scores: Scores) -> Values:
    """The finite scores, in the order of the seeds."""
    values = _by_seed(scores)
    return values[np.isfinite(values)]


def worst_last(scores: Scores, better: Better) -> Values:
    """All scores, in the order of the seeds, with the worst there can be for diverged runs."""
    values = _by_seed(scores)
    worst = math.inf if better == "lower" else -math.inf
    return np.where(np.isfinite(values), values, worst)


def _by_seed(scores: Scores) -> Values:
    """The scores in the order of the seeds, to 12 digits.

    Scores that agree so far are one number, computed in another order, and neither beats the other.
    """
    return np.array([float(f"{scores[seed]:.12g}") for seed in sorted(scores)], dtype=np.float64)
