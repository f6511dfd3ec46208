"""The best of n draws of a random search: what tuning under a budget gives.

A search tries B settings, drawn independently from one space. A user with a smaller budget of n
draws would have seen n of them. All choices of n of the B are equally likely, so the numbers are
means and shares over all C(B, n) subsets, in closed form: unbiased for a new search of n draws
(Hoeffding 1948, "A class of statistics with asymptotically normal distribution"; for searches Tang
et al. 2020, "Showing your work doesn't always work"). The plug-in estimate of Dodge et al. (2019,
"Show your work"), which draws with replacement, is 9 to 25% too high on log-normal scores.

Scores are minimised: the caller negates them where larger is better. A draw that diverged is +inf,
and never missing. Only random draws count: draw 0, the setting that a person wrote down, is not
one, and the caller leaves it out.

The quantiles and `median_interval` need no moments, so divergence does them no harm. The mean
(`expected_best`) is infinite as soon as n draws may all have diverged.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gan_bench.compare.stats.summary import LEVEL, Estimate, Reason, Values

USUAL = (1, 5, 10, 20, 50, 100, 200, 500, 1_000)  # budgets of tables and tests
ROUNDING_OF_CHANCES = 1e-12  # chances this close are one number, computed in another order


def valid_draws(scores: ArrayLike, n: int = 1) -> Values:
    """Return the scores as an array.

    Raises:
        ValueError: A score is NaN or -inf, or n is not in 1..B.
    """
    x = np.asarray(scores, dtype=np.float64)
    if np.isnan(x).any() or np.isneginf(x).any():
        raise ValueError("a draw's score is finite, or +inf if it diverged")
    if not 1 <= n <= len(x):
        raise ValueError(f"a budget of {n} draws out of {len(x)}: it is from 1 to {len(x)}")
    return x


def usual_budgets(draws: int) -> list[int]:
    """Return the budgets at which so many draws are compared: 1, 5, 10, 20, … up to half of them.

    Of more than half, nearly all choices of n draws share most draws.
    """
    return [n for n in USUAL if 2 * n <= draws]


def none_chosen(draws: int, n: int, marked: ArrayLike) -> Values:
    """Return the chance that n of the draws include none of those that are marked.

    C(B - k, n) / C(B, n), hypergeometric.

    Args:
        draws: B.
        n: How many are chosen, without replacement, 1..B.
        marked: k, how many are marked, 0..B; any shape.
    """
    chances: Values = stats.hypergeom.pmf(0, draws, np.asarray(marked), n)
    return chances


def rank_weights(draws: int, n: int) -> Values:
    """Return the chance that the j-th best of all draws is the best of n of them.

    C(B - j, n - 1) / C(B, n) for j = 1..B: those before it are not chosen, and it is among the n
    of the B - j + 1 others.

    Args:
        draws: B.
        n: The budget, 1..B.

    Returns:
        (B,), summing to 1.
    """
    before = np.arange(draws)
    weights: Values = none_chosen(draws, n, before) * n / (draws - before)
    return weights


def expected_best(scores: ArrayLike, n: int) -> float:
    """Return the unbiased estimate of the expected best of n draws.

    U_n = Σ_j x_(j) C(B - j, n - 1) / C(B, n), the U-statistic of the minimum (Tang et al. 2020).
    n = 1 gives the mean, n = B the minimum. It is +inf if n draws may all have diverged. Near
    n = B it rests on one or two draws: show it with `median_interval`, and n well below B.

    Args:
        scores: (B,) to minimise; +inf for a diverged draw.
        n: The budget, 1..B.

    Raises:
        ValueError: A score is NaN or -inf, or n is not in 1..B.
    """
    x = np.sort(valid_draws(scores, n))
    weights = rank_weights(len(x), n)
    return float(weights[weights > 0] @ x[weights > 0])


def selected_then_confirmed(select: ArrayLike, confirm: ArrayLike, n: int) -> float:
    """Return the expected confirmed score of the draw that is selected as the best of n.

    Σ_j t_[j] C(B - j, n - 1) / C(B, n), the draws ordered by the score that selects; draws that tie
    in it are as likely to be selected, so their t are averaged. It is unbiased for what a user with
    this budget gets, whereas `expected_best` of the scores that selected is too good by the luck of
    the selected one (the winner's curse). The gap between both is the optimism.

    Args:
        select: (B,) to minimise, +inf for a diverged draw.
        confirm: (B,) scores of the same draws from other seeds or other data; +inf for a draw that
            diverged there, NaN for one that was not confirmed. A draw that diverged while selecting
            counts as diverged here.
        n: The budget, 1..B.

    Returns:
        NaN if a draw that was not confirmed may be selected.

    Raises:
        ValueError: A score that selects is NaN or -inf, n is not in 1..B, or the lengths differ.
    """
    s, t = valid_draws(select, n), np.asarray(confirm, dtype=np.float64)
    if s.shape != t.shape:
        raise ValueError(f"{len(s)} draws were to be selected from, and {len(t)} confirmed")
    t = np.where(np.isposinf(s), np.inf, t)
    _, tied, sizes = np.unique(s, return_inverse=True, return_counts=True)
    chances = np.bincount(np.sort(tied), weights=rank_weights(len(s), n))
    of_draw = chances[tied] / sizes[tied]
    possible = of_draw > 0
    return float(of_draw[possible] @ t[possible])


def best_survival(scores: ArrayLike, n: int, at: ArrayLike) -> Values:
    """Return the chance that the best of n draws is worse than a score.

    P(min_n > x) = C(B - k, n) / C(B, n) with k draws of at most x.

    Args:
        scores: (B,) to minimise; +inf for a diverged draw.
        n: The budget, 1..B.
        at: x, any shape.

    Raises:
        ValueError: A score is NaN or -inf, or n is not in 1..B.
    """
    x = np.sort(valid_draws(scores, n))
    return none_chosen(len(x), n, np.searchsorted(x, at, side="right"))


def best_quantile(scores: ArrayLike, n: int, q: float = 0.5) -> float:
    """Return the score that the best of n draws reaches with chance q; the median by default.

    The least x_(k) with P(min_n ≤ x_(k)) ≥ q. It is always the score of a draw: nothing is averaged
    with a diverged one. It is +inf if more than 1 - q of the subsets have diverged as a whole.

    Args:
        scores: (B,) to minimise; +inf for a diverged draw.
        n: The budget, 1..B.
        q: The chance, above 0 and at most 1.

    Raises:
        ValueError: A score is NaN or -inf, or n or q is out of its range.
    """
    x = np.sort(valid_draws(scores, n))
    if not 0 < q <= 1:
        raise ValueError(f"a quantile at {q}: it is above 0 and at most 1")
    reached = 1 - best_survival(x, n, x) >= q - ROUNDING_OF_CHANCES
    return float(x[np.argmax(reached)])


@lru_cache(maxsize=1_024)
def interval_ranks(draws: int, n: int, level: float = LEVEL) -> tuple[int, int] | None:
    """Return the ranks (1..B) of the draws between which the median of the best of n lies.

    The median of the best of n is the quantile 1 - ½^(1/n) of one draw's score. The number of draws
    below it is binomial, whatever the distribution (Thompson 1936, "On confidence ranges for the
    median and other expectation distributions"; David and Nagaraja 2003, "Order statistics",
    section 7.1). At most (1 - level)/2 of all searches miss on either side.

    Returns:
        None if no two draws bound it: for n > B / log₂(2 / (1 - level)), at 95% B / 5.32, even the
        best draw lies above the median too often.
    """
    tail, quantile = (1 - level) / 2, -math.expm1(-math.log(2) / n)
    below = stats.binom(draws, quantile)
    counts = np.arange(draws + 1)
    # The lower end is x_(l) if fewer than l draws lie below the quantile in a tail of the searches.
    low = int(np.count_nonzero(below.cdf(counts) <= tail))
    high = int(np.argmax(below.sf(counts - 1) <= tail))  # 0 if no count is that rare
    return (low, high) if low and high else None


def median_interval(scores: ArrayLike, n: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the exact interval of the median of the best of n draws of the space.

    It assumes independent draws and nothing else: it covers in at least `level` of all searches
    (exactly so often as `interval_ranks` say where no two scores are equal).

    Args:
        scores: (B,) to minimise; +inf for a diverged draw.
        n: The budget, 1..B.
        level: Above 0 and below 1.

    Returns:
        The ends; the upper is +inf if it is a diverged draw. None if no interval exists, which
        depends on B and n alone: see `interval_ranks`.

    Raises:
        ValueError: A score is NaN or -inf, or n is not in 1..B.
    """
    x = np.sort(valid_draws(scores, n))
    ranks = interval_ranks(len(x), n, level)
    if ranks is None:
        return None
    return float(x[ranks[0] - 1]), float(x[ranks[1] - 1])


def draws_for_interval(n: int, level: float = LEVEL) -> int:
    """Return the least number of draws for which the best of n has an interval."""
    return math.ceil(n * math.log2(2 / (1 - level)))


def percentile_of_default(default: float, scores: ArrayLike, level: float = LEVEL) -> Estimate:
    """Return the share of the space's settings than which the default is better.

    The interval is that of Clopper and Pearson (1934, "The use of confidence or fiducial limits
    illustrated in the case of the binomial"). A draw that equals the default counts half, and the
    interval covers both ways to count it.

    Args:
        default: The score of the setting that was not drawn, to minimise; +inf if it diverged.
        scores: (B,) of the random draws, without the default.
        level: Of the interval.

    Returns:
        A share in 0..1; without a value if there are no draws.

    Raises:
        ValueError: A score is NaN or -inf.
    """
    x = np.asarray(scores, dtype=np.float64)
    if not len(x):
        return Estimate(math.nan, missing=Reason.NO_RUNS)
    valid_draws([*x, default])
    worse, same = int((x > default).sum()), int((x == default).sum())
    low = stats.binomtest(worse, len(x)).proportion_ci(level, "exact").low
    high = stats.binomtest(worse + same, len(x)).proportion_ci(level, "exact").high
    return Estimate((worse + same / 2) / len(x), float(low), float(high))
