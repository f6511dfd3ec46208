"""Whether the means of two variants differ by less than a declared margin.

Two one-sided t-tests (Schuirmann 1987, "A comparison of the two one-sided tests procedure and the
power approach for assessing the equivalence of average bioavailability") show it for runs that
scatter as the observed ones do. They know nothing of a failure that no observed run shows. No test
does: for scores without bounds, a test of the mean that keeps its level for every distribution
rejects no more often than its level (Bahadur and Savage 1956, "The nonexistence of certain
statistical procedures in nonparametric problems", theorem 1). In simulations, where one of the two
collapses in 5% of its runs, the t-tests of 3 to 10 runs call two variants equivalent in up to 86%
of studies although the means differ by the margin or more.

So *equivalent* is said only from `SEEN_FROM` = 59 runs of each variant on (see `doubt`). A failure
of 5% of the runs or more then stays unseen in at most 5% of studies. The verdict says nothing of
rarer failures.

From so many runs on, a second test must reject too, since a t-test that sees only one or two
failures underrates their share. It is Gaffke's (2005, "Three test statistics for a nonparametric
one-sided hypothesis on the mean of a nonnegative variable"; the same as Learned-Miller and Thomas
2019, "A new confidence interval for the mean of a bounded random variable"; Phan, Thomas and
Learned-Miller 2021, "Towards practical mean bounds for small samples"): one more run is added that
is as bad as the worst of the variant, and p is the share of Σ wᵢ xᵢ beyond the margin, where the
weights w are the spacings of uniform numbers. For scores of two values that is Clopper and
Pearson's limit. At the margin's edge `benchmarks/calibration.py` finds *equivalent* in at most 5%
of studies for every kind of score.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import special

from gan_bench.compare.stats.doubt import SEEN_FROM
from gan_bench.compare.stats.summary import (
    Values,
    mean_of,
    no_spread,
    spread,
    standard_error,
)
from gan_bench.config.declared import Amount

DRAWS = 4_999


def p_beyond(a: Values, b: Values, paired: bool, margin: Amount, against: str) -> tuple[float, str]:
    """Return p of a difference beyond the margin, and in words why there is no such p.

    It is the larger of two one-sided p.

    With fewer than `SEEN_FROM` runs it is that of the t-tests, and holds for runs that do not fail.
    NaN if a variant's scores (or the paired differences) have no spread, or if the margin is a
    share of a mean that may be 0; the words are empty else.

    Args:
        a, b: At least 2 finite values each.
        paired: Whether the values are pairs.
        margin: An amount, or a share of the mean of `b`.
        against: The name of the variant that `b` is of.
    """
    if spread(a) == 0 or spread(b) == 0:
        return math.nan, "scores without spread do not show how runs scatter"
    low, high = b - margin.value, b + margin.value
    if margin.relative:
        mean = mean_of(b)
        if not mean.low * mean.high > 0:
            return math.nan, f"the mean of {against} may be 0"
        low, high = b * (1 - margin.value), b * (1 + margin.value)
        if mean.value < 0:
            low, high = high, low
    if no_spread(a, low, paired) or no_spread(a, high, paired):
        return math.nan, f"the paired differences to {against} ± {margin} have no spread"
    return max(_not_above(a, low, paired), _not_above(high, a, paired)), ""


def _not_above(a: Values, b: Values, paired: bool) -> float:
    """Return the one-sided p of mean(a) ≤ mean(b)."""
    error, freedom = standard_error(a, b, paired)
    by_t = float(special.stdtr(freedom, -float(a.mean() - b.mean()) / error))
    if min(len(a), len(b)) < SEEN_FROM:
        return by_t
    above = _resampled(a - b) > 0 if paired else _resampled(a) > -_resampled(-b, stream=1)
    return max(by_t, (float(np.sum(~above)) + 1) / (DRAWS + 1))


def _resampled(values: Values, stream: int = 0) -> Values:
    """Return weighted means of the values and of one more as low as the lowest."""
    means: Values = _weights(len(values) + 1, stream) @ np.append(values, values.min())
    return means


@functools.lru_cache(maxsize=4)
def _weights(n: int, stream: int) -> Values:
    """Return the spacings of n - 1 uniform numbers on 0..1, `DRAWS` times, from a fixed seed."""
    gaps = np.random.default_rng(stream).standard_exponential((DRAWS, n))
    weights: Values = gaps / gaps.sum(axis=1, keepdims=True)
    return weights
