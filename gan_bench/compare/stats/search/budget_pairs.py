"""Two methods with their tuning, at equal or unequal budgets: how likely the one beats the other.

As in `budget`: scores are minimised, a diverged draw is +inf, draw 0 is left out.

**The test.** If two variants are the same, which of them a score belongs to is chance, so the
labels are permuted: all draws at once, or, where both variants were trained at the same drawn
settings, within each draw. Sharing draws pays: a learning rate that suits neither then counts for
neither side. On log-normal scores of 20 draws, in which a draw's setting moved the score three
times as much as the rest did, an effect that the paired test found in 88% of studies at n = 3 was
found in 7% unpaired.

The statistic at budget n is the chance that one's best of n beats the other's, less ½. It depends
on the order of the scores alone, so diverged draws need no number. The budgets of a curve are
tested together: p is adjusted by the distribution of the least p of all budgets under the same
permutations (minP; Westfall and Young 1993, "Resampling-based multiple testing", section 2.5),
which uses how strongly the budgets depend on each other. So if two variants scatter alike, any
*better* or *worse* at any budget is said in at most 5% of studies. A variant that scatters more is
not "the same": where it scatters 2 or 4 times as much, and both are as likely to win at the budget,
a verdict is given in 2 to 8% (20 and 50 normal draws, n = 1 and 5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gan_bench.compare.stats.search.budget import none_chosen, rank_weights, valid_draws
from gan_bench.compare.stats.summary import ALPHA, Values

EXACT_UP_TO_LABELLINGS = 20_000
SAMPLED_LABELLINGS = 9_999
DIGITS = 10  # of a statistic: sums of chances that agree to these are one number

Labels = NDArray[np.bool_]  # (R, B_a + B_b) whether a score belongs to A, in the order of scores
Counts = NDArray[np.intp]
BudgetVerdict = Literal["better", "worse", "inconclusive"]


def probability_better(a: ArrayLike, b: ArrayLike, n_a: int, n_b: int) -> float:
    """Return the chance that the best of n_a draws of A beats the best of n_b draws of B.

    P(min_n A < min_n B) + ½ P(equal), exact over all pairs of subsets: over the scores in merged
    order, the chance that A's best is this one, times the chance that B's is worse. Unbiased where
    the draws of A and B are independent; where they share the drawn settings, use
    `probability_better_paired`. n_a and n_b may differ: how many draws does B need to match A?

    Args:
        a, b: (B_a,), (B_b,) to minimise; +inf for a diverged draw.
        n_a, n_b: The budgets, 1..B_a and 1..B_b.

    Raises:
        ValueError: A score is NaN or -inf, or a budget is out of its range.
    """
    x, y = valid_draws(a, n_a), valid_draws(b, n_b)
    of_a, of_b = _counts(*_merged(x, y))
    return float(_wins(_worse(len(x), n_a)[of_a], _worse(len(y), n_b)[of_b])[0])


def probability_better_paired(a: ArrayLike, b: ArrayLike, n: int) -> float:
    """Return the chance that A beats B if both are tuned over the same n draws.

    P(min_S a < min_S b) + ½ P(equal), exact over all subsets S of n draws. Unbiased where draw j of
    both has the same drawn settings.

    Args:
        a, b: (B,) to minimise, by draw; +inf for a diverged draw.
        n: The budget, 1..B.

    Raises:
        ValueError: A score is NaN or -inf, n is not in 1..B, or the lengths differ.
    """
    x, y = valid_draws(a, n), valid_draws(b, n)
    _check_paired(x, y)
    return (1 + _wins_paired(x, y, n) - _wins_paired(y, x, n)) / 2


def _wins_paired(a: Values, b: Values, n: int) -> float:
    """Return the chance that a's best is strictly the better one over the same n draws."""
    wins = a < b
    # Of draws whose better score is the same, those in which b has it too come first: a does not
    # win with one of them among the n.
    order = np.lexsort((wins, np.minimum(a, b)))
    return float(rank_weights(len(a), n) @ wins[order])


@dataclass(frozen=True)
class BudgetTest:
    """Which of two variants is better at which budget.

    Attributes:
        budgets: In draws of each.
        probability: Of A's best beating B's at each budget; over the same draws, if paired.
        p: Two-sided, of each budget alone.
        p_adjusted: For all budgets together.
        sign: 1 where A is ahead, -1 where B is; 0 where neither is, or where the statistic that was
            tested and `probability` do not point the same way.
        paired: Whether the draws are shared, and p is of swaps within draws.
        exact: Whether all labellings were counted; if not, 9,999 were drawn from a fixed seed.
    """

    budgets: tuple[int, ...]
    probability: tuple[float, ...]
    p: tuple[float, ...]
    p_adjusted: tuple[float, ...]
    sign: tuple[int, ...]
    paired: bool
    exact: bool


def budget_test(a: ArrayLike, b: ArrayLike, budgets: Sequence[int], paired: bool) -> BudgetTest:
    """Test at several budgets together whether the best draws of A and B differ.

    Args:
        a, b: (B_a,), (B_b,) to minimise; +inf for a diverged draw. If paired, by draw.
        budgets: All that are shown, 1..min(B_a, B_b). At n = B nothing can be said: one of the two
            has the best draw.
        paired: Whether draw j of both has the same drawn settings. Draws that one of the two lacks
            must be left out.

    Raises:
        ValueError: A score is NaN or -inf, there are no budgets or one is out of its range, or
            draws are shared and the lengths differ.
    """
    x, y, budgets = np.asarray(a), np.asarray(b), tuple(budgets)
    for n in (min(budgets, default=0), max(budgets, default=0)):
        x, y = valid_draws(x, n), valid_draws(y, n)
    labels, ends = _merged(x, y)
    if paired:
        _check_paired(x, y)
        null = _null_of(_swaps(x, y), ends, (len(x), len(y)), budgets)
        exact = 2**len(x) <= EXACT_UP_TO_LABELLINGS
    else:
        null = _null_of_splits((len(x), len(y)), tuple(map(int, ends)), budgets)
        exact = math.comb(len(x) + len(y), len(x)) <= EXACT_UP_TO_LABELLINGS
    observed = _statistics(labels, ends, (len(x), len(y)), budgets)
    p, adjusted = _min_p(np.abs(observed[0]), null, exact)
    half = observed[0] + 0.5
    if paired:
        half = np.array([probability_better_paired(x, y, n) for n in budgets])
    tested, shown = np.sign(observed[0]), np.sign(np.round(half - 0.5, DIGITS))
    signs = np.where(tested == shown, tested, 0)
    return BudgetTest(budgets, tuple(map(float, half)), tuple(map(float, p)),
                      tuple(map(float, adjusted)), tuple(map(int, signs)), paired, exact)


def budget_verdicts(tests: Sequence[BudgetTest]) -> list[tuple[BudgetVerdict, ...]]:
    """Return, for each variant against the baseline, whether it is better at each budget.

    Holm's method (1979) over the variants, on the least adjusted p of each, and the budgets within
    it: any wrong verdict of all variants and budgets is given in at most 5% of studies in which the
    variants are the same.

    Args:
        tests: Of each variant (A) against the baseline (B); the number of variants is the family.
    """
    least = [min(test.p_adjusted) for test in tests]
    order = sorted(range(len(tests)), key=lambda i: least[i])
    verdicts: list[tuple[BudgetVerdict, ...]] = [
        tuple(_verdict(False, 0) for _ in test.budgets) for test in tests]
    for rank, i in enumerate(order):
        level = holm_level(len(tests) - rank)
        if least[i] > level:
            break
        verdicts[i] = tuple(_verdict(p <= level, sign)
                            for p, sign in zip(tests[i].p_adjusted, tests[i].sign, strict=True))
    return verdicts


def holm_level(comparisons: int) -> float:
    """Return the level of Holm's step at which so many variants are left, 1 or more."""
    return ALPHA / comparisons


def _verdict(significant: bool, sign: int) -> BudgetVerdict:
    if not significant or not sign:
        return "inconclusive"
    return "better" if sign > 0 else "worse"


def _check_paired(a: Values, b: Values) -> None:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} draws and {len(b)} are not the same draws")


def _merged(a: Values, b: Values) -> tuple[Labels, Counts]:
    """Return the labels (1, B_a + B_b) of the merged scores, and where each run of equal ones ends.

    The ends begin with 0.
    """
    pooled = np.concatenate([a, b])
    order = np.argsort(pooled, kind="stable")
    _, sizes = np.unique(pooled, return_counts=True)
    return (order < len(a))[None], np.concatenate([[0], np.cumsum(sizes)])


def _counts(labels: Labels, ends: Counts) -> tuple[Counts, Counts]:
    """Return how many scores of A, and of B, are up to each end, (R, ends)."""
    of_a = np.zeros((len(labels), len(ends)), np.intp)
    of_a[:, 1:] = labels.cumsum(axis=1)[:, ends[1:] - 1]
    return of_a, ends - of_a


@lru_cache(maxsize=256)
def _worse(draws: int, n: int) -> Values:
    """Return the chance that the best of n is none of the k best draws, for k = 0..B."""
    return none_chosen(draws, n, np.arange(draws + 1))


def _wins(worse_a: Values, worse_b: Values) -> Values:
    """Return P(A's best < B's) + ½ P(equal) for each row.

    Args:
        worse_a, worse_b: (R, ends) the chance that the best of A, of B, is worse than the scores up
            to each end.
    """
    best_here = worse_a[:, :-1] - worse_a[:, 1:]
    total: Values = (best_here * (worse_b[:, :-1] + worse_b[:, 1:])).sum(axis=1) / 2
    return total


def _statistics(labels: Labels, ends: Counts, sizes: tuple[int, int], budgets: Sequence[int],
                ) -> Values:
    """Return the chance that A wins, less ½, (R, budgets), rounded so that equal ones are equal."""
    of_a, of_b = _counts(labels, ends)
    columns = [_wins(_worse(sizes[0], n)[of_a], _worse(sizes[1], n)[of_b]) for n in budgets]
    rounded: Values = np.round(np.stack(columns, axis=1) - 0.5, DIGITS)
    return rounded


@dataclass(frozen=True)
class _Null:
    """The statistics of labellings that are as likely.

    Attributes:
        distances: (R, N) from 0, at N budgets.
        ordered: The same, each column sorted.
        as_far: (R, N) how many are at least as large, among those of their column.
    """

    distances: Values
    ordered: Values
    as_far: NDArray[np.int32]


def _null_of(labels: Labels, ends: Counts, sizes: tuple[int, int], budgets: Sequence[int],
             ) -> _Null:
    distances = np.abs(_statistics(labels, ends, sizes, budgets))
    as_far = len(labels) + 1 - stats.rankdata(distances, "min", axis=0)
    return _Null(distances, np.sort(distances, axis=0), as_far.astype(np.int32))


@lru_cache(maxsize=32)  # the pairs of a report have few patterns of equal scores
def _null_of_splits(sizes: tuple[int, int], ends: tuple[int, ...], budgets: tuple[int, ...],
                    ) -> _Null:
    """Return the statistics of all labellings of the draws, or of many of them."""
    total = sum(sizes)
    if math.comb(total, sizes[0]) <= EXACT_UP_TO_LABELLINGS:
        chosen = np.array([*itertools.combinations(range(total), sizes[0])])
    else:
        rng = np.random.default_rng(0)
        chosen = np.argsort(rng.random((SAMPLED_LABELLINGS, total)), axis=1)[:, :sizes[0]]
    labels = np.zeros((len(chosen), total), np.bool_)
    np.put_along_axis(labels, chosen, True, axis=1)
    return _null_of(labels, np.array(ends), sizes, budgets)


def _swaps(a: Values, b: Values) -> Labels:
    """Return the labels (R, 2B) in merged order of all swaps within draws, or of many of them."""
    if 2**len(a) <= EXACT_UP_TO_LABELLINGS:
        swapped = (np.arange(2**len(a))[:, None] >> np.arange(len(a)) & 1).astype(np.bool_)
    else:
        rng = np.random.default_rng(0)
        swapped = rng.random((SAMPLED_LABELLINGS, len(a))) < 0.5
    labels = np.concatenate([~swapped, swapped], axis=1)
    return labels[:, np.argsort(np.concatenate([a, b]), kind="stable")]


def _min_p(observed: Values, null: _Null, exact: bool) -> tuple[Values, Values]:
    """Return p of each budget alone, and for all together.

    Args:
        observed: (N,) how far the statistics lie from 0.
        null: Under labellings that are as likely.
        exact: Whether the observed labelling is among them; if not, it is added, to both.
    """
    added = 0 if exact else 1
    rows, counts = len(null.distances) + added, null.as_far
    p = added + np.array([len(column) - np.searchsorted(column, value)
                          for column, value in zip(null.ordered.T, observed, strict=True)])
    if added:
        counts = counts + (observed >= null.distances)
    least = counts.min(axis=1)
    together = [np.count_nonzero(least <= value) + (added and p.min() <= value) for value in p]
    return p / rows, np.array(together) / rows
