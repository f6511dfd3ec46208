"""The probability that a run of one variant beats a run of another."""

from __future__ import annotations

import math

from scipy import optimize

from gan_bench.compare.stats.summary import Estimate, Reason, Values, t_quantile
from gan_bench.registry import Better


def improvement(a: Values, b: Values, better: Better) -> Estimate:
    """Return the probability that a run of A beats one of B, ties counted half.

    The interval is Newcombe's method 5 (2006, "Confidence intervals for an effect size measure
    based on the Mann–Whitney statistic. Part 2", Statistics in Medicine 25:559–573), which also
    works at 0 and 1, with the t quantile of n + m − 2 degrees of freedom instead of the normal one.
    So it covers the true probability in 94 to 100% of cases at 3 to 10 runs each (with the normal
    quantile, in 84 to 97%). The worst case is 91%: one variant scatters 4 times as much as the
    other and nearly always wins. It assumes independent runs; runs that share something are closer.

    Args:
        a, b: Scores; infinitely bad for diverged runs.
        better: Which direction is better.
    """
    if better is None:
        return Estimate(math.nan, missing=Reason.NO_DIRECTION)
    n, m = len(a), len(b)
    if not (n and m):
        return Estimate(math.nan, missing=Reason.ONE_WITHOUT_RUNS)
    wins = a[:, None] < b if better == "lower" else a[:, None] > b
    value = float(wins.mean() + (a[:, None] == b).mean() / 2)
    if min(n, m) < 2:
        return Estimate(value, missing=Reason.ONE_SEED)
    return Estimate(value, *newcombe(value, n, m, t_quantile(n + m - 2)))


def newcombe(value: float, n: int, m: int, quantile: float) -> tuple[float, float]:
    """Return the probabilities that a Mann–Whitney estimate of `value` does not rule out."""
    half = (n + m) / 2 - 1

    def beyond(x: float) -> float:
        variance = x * (1 - x) / (n * m) * (1 + half * (1 - x) / (2 - x) + half * x / (1 + x))
        return float((value - x) ** 2 - quantile**2 * variance)

    tiny = 1e-9  # at 0 and 1 the variance is 0, which is another root
    low = optimize.brentq(beyond, 0, min(value, 1 - tiny)) if value > 0 else 0.0
    high = optimize.brentq(beyond, max(value, tiny), 1) if value < 1 else 1.0
    return float(low), float(high)
