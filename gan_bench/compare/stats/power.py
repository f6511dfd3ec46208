"""The power of a t-test, and the seeds that it takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import optimize, stats

from gan_bench.compare.stats.comparison import ALPHA

POWER = 0.8


SHARES = 200  # of the one variance in the sum of both, in a mean over them


MOST = 100_000  # seeds: more is no plan


def power_of(seeds: int, effect: float, alpha: float = ALPHA, paired: bool = False) -> float:
    """Return the chance that a two-sided t-test finds a difference.

    By the noncentral t distribution (Cohen 1988, "Statistical power analysis", chapter 2). Welch's
    statistic of equally many runs of equal spread follows it too, with 2n − 2 degrees; but the
    degrees that the test supposes, and so what it asks for, depend on the share u of the one
    variance in the sum of both: (n − 1) / (u² + (1 − u)²). That share is independent of the
    statistic, and beta-distributed, so the chance is a mean over it. At 3 seeds it is .70 where a
    pooled t-test has .80 or so; from 10 on they agree to a hundredth.

    Args:
        seeds: Of each variant, at least 2.
        effect: The difference over the standard deviation (of the differences, if paired).
        alpha: The chance to find one where there is none.
        paired: Whether runs are compared seed by seed.
    """
    if paired:
        return found(stats.t.ppf(1 - alpha / 2, seeds - 1), seeds - 1,
                     effect * math.sqrt(seeds))
    middles = (np.arange(SHARES) + 0.5) / SHARES
    u = stats.beta.ppf(middles, (seeds - 1) / 2, (seeds - 1) / 2)
    edges = stats.t.ppf(1 - alpha / 2, (seeds - 1) / (u**2 + (1 - u) ** 2))
    return found(edges, 2 * seeds - 2, effect * math.sqrt(seeds / 2))


def found(edges: Any, freedom: int, shift: float) -> float:
    """Return the mean chance that |noncentral t| exceeds each of the edges.

    Its square is noncentral F, of which SciPy has better tails.
    """
    return float(np.mean(stats.ncf.sf(np.square(edges), 1, freedom, shift**2)))


def seeds_needed(difference: float, sd: float, alpha: float = ALPHA, power: float = POWER,
                 paired: bool = False) -> int | None:
    """Return the least number of seeds that finds a difference with the given power.

    None where that is more than 100,000. Where runs do not scatter at all: 2, the least that there
    is a test for.
    """
    if sd == 0:
        return 2
    low, high = 1, 2  # too few; enough, once the loop has ended
    while power_of(high, difference / sd, alpha, paired) < power:
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(middle, difference / sd, alpha, paired) < power:
            low = middle
        else:
            high = middle
    return high if high <= MOST else None


def detectable(seeds: int, alpha: float = ALPHA, power: float = POWER, paired: bool = False,
               ) -> float:
    """Return the difference, over its standard deviation, that so many seeds find so often.

    Args:
        seeds: Of each variant, at least 2.
    """
    low, high = 0.0, 1.0
    while power_of(seeds, high, alpha, paired) < power:
        low, high = high, 2 * high
    return float(optimize.brentq(
        lambda effect: power_of(seeds, effect, alpha, paired) - power, low, high))
