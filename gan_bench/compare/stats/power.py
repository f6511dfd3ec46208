"""The power of a t-test, and the number of seeds that it needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import optimize, stats

from gan_bench.compare.stats.summary import ALPHA

POWER = 0.8
SHARES = 200  # points of the mean over the share of one variance in the sum of both
MAX_SEEDS = 100_000  # a plan with more is not useful


def power_of(seeds: int, effect: float, alpha: float = ALPHA, paired: bool = False) -> float:
    """Return the chance that a two-sided t-test finds a difference.

    It follows the noncentral t distribution (Cohen 1988, "Statistical power analysis", chapter 2).
    So does Welch's statistic for equally many runs of equal spread, with 2n − 2 degrees of freedom.
    But the degrees that Welch's test assumes depend on the share u of one variance in the sum of
    both: (n − 1) / (u² + (1 − u)²). That share is independent of the statistic and
    beta-distributed, so the power is a mean over it. At 3 seeds it is .70 where a pooled t-test has
    about .80; from 10 seeds on they agree to a hundredth.

    Args:
        seeds: Seeds of each variant, at least 2.
        effect: The difference over the standard deviation (of the differences, if paired).
        alpha: The chance to find a difference if there is none.
        paired: Whether runs are compared seed by seed.
    """
    if paired:
        edge = stats.t.ppf(1 - alpha / 2, seeds - 1)
        return rejection_rate(edge, seeds - 1, effect * math.sqrt(seeds))
    middles = (np.arange(SHARES) + 0.5) / SHARES
    u = stats.beta.ppf(middles, (seeds - 1) / 2, (seeds - 1) / 2)
    edges = stats.t.ppf(1 - alpha / 2, (seeds - 1) / (u**2 + (1 - u) ** 2))
    return rejection_rate(edges, 2 * seeds - 2, effect * math.sqrt(seeds / 2))


def rejection_rate(edges: Any, freedom: int, shift: float) -> float:
    """Return the mean chance that |noncentral t| exceeds each of the edges.

    Its square is noncentral F; SciPy computes the tails of that more precisely.
    """
    return float(np.mean(stats.ncf.sf(np.square(edges), 1, freedom, shift**2)))


def seeds_needed(difference: float, sd: float, alpha: float = ALPHA, power: float = POWER,
                 paired: bool = False) -> int | None:
    """Return the least number of seeds that finds a difference with the given power.

    None if more than 100,000 are needed. If runs do not scatter at all, 2: no test works with
    fewer.
    """
    if sd == 0:
        return 2
    low, high = 1, 2  # `low` is too few; after the loop `high` is enough
    while power_of(high, difference / sd, alpha, paired) < power:
        low, high = high, 2 * high
        if low > MAX_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(middle, difference / sd, alpha, paired) < power:
            low = middle
        else:
            high = middle
    return high if high <= MAX_SEEDS else None


def detectable(seeds: int, alpha: float = ALPHA, power: float = POWER, paired: bool = False,
               ) -> float:
    """Return the difference, over its standard deviation, that so many seeds find with this power.

    Args:
        seeds: Seeds of each variant, at least 2.
    """
    low, high = 0.0, 1.0
    while power_of(seeds, high, alpha, paired) < power:
        low, high = high, 2 * high
    return float(optimize.brentq(
        lambda effect: power_of(seeds, effect, alpha, paired) - power, low, high))
