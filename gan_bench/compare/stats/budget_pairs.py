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
not "the same": at a budget at which both are as likely to win, the test may still reject, and then
the direction is a guess.
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

from gan_bench.compare.stats.budget import none_chosen, rank_weights, valid_draws
from gan_bench.compare.stats.summary import ALPHA, Values

EXACT_UP_TO_LABELLINGS = 20_000
SAMPLED_LABELLINGS = 9_999
DIGITS = 10  # of a statistic: sums of chances that agree to these are one number

Labels = NDArray[np.bool_]  # (R, B_a + B_b) whether a score belongs to A, in the order of scores
BudgetVerdict = Literal["better", "worse", "inconclusive"]


def probability_better(a: ArrayLike, b: ArrayLike, n_a: int, n_b: int) -> float:
    """Return the chance that the best of n_a draws of A beats the best of n_b draws of B.

    P(min_n A < min_n B) + ½ P(equal), exact over all pairs of subsets: over the scores in merged
    order, the chance that A's best is this one, times the chance that B's is worse. Unbiased where
    the draws of A and B are independent; where they share the drawn settings, use
    `probability_better_shared`. n_a and n_b may differ: how many draws does B need to match A?

    Args:
        a, b: (B_a,), (B_b,) to minimise; +inf for a diverged draw.
        n_a, n_b: The budgets, 1..B_a and 1..B_b.

    Raises:
        ValueError: A score is NaN or -inf, or a budget is out of its range.
    """
    x, y = valid_draws(a, n_a), valid_draws(b, n_b)
    labels, ends = _merged(x, y)
    chances_a = none_chosen(len(x), n_a, np.arange(len(x) + 1))
    chances_b = none_chosen(len(y), n_b, np.arange(len(y) + 1))
    return float(_wins(labels, ends, chances_a, chances_b)[0])


def probability_better_shared(a: ArrayLike, b: ArrayLike, n: int) -> float:
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
    _check_shared(x, y)
    return (1 + _wins_shared(x, y, n) - _wins_shared(y, x, n)) / 2


def _wins_shared(a: Values, b: Values, n: int) -> float:
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
        probability: Of A's best beating B's at each budget; over the same draws, if shared.
        p: Two-sided, of each budget alone.
        p_adjusted: For all budgets together.
        sign: 1 where A is ahead, -1 where B is; 0 where neither is, or where the statistic that was
            tested and `probability` do not point the same way.
        shared: Whether the draws are shared, and p is of swaps within draws.
        exact: Whether all labellings were counted; if not, 9,999 were drawn from a fixed seed.
    """

    budgets: tuple[int, ...]
    probability: tuple[float, ...]
    p: tuple[float, ...]
    p_adjusted: tuple[float, ...]
    sign: tuple[int, ...]
    shared: bool
    exact: bool


def budget_test(a: ArrayLike, b: ArrayLike, budgets: Sequence[int], shared: bool) -> BudgetTest:
    """Test at several budgets together whether the best draws of A and B differ.

    Args:
        a, b: (B_a,), (B_b,) to minimise; +inf for a diverged draw. If shared, by draw.
        budgets: All that are shown, 1..min(B_a, B_b). At n = B nothing can be said: one of the two
            has the best draw.
        shared: Whether draw j of both has the same drawn settings. Draws that one of the two lacks
            must be left out.

    Raises:
        ValueError: A score is NaN or -inf, there are no budgets or one is out of its range, or
            draws are shared and the lengths differ.
    """
    x, y, budgets = np.asarray(a), np.asarray(b), tuple(budgets)
    for n in (min(budgets, default=0), max(budgets, default=0)):
        x, y = valid_draws(x, n), valid_draws(y, n)
    labels, ends = _merged(x, y)
    if shared:
        _check_shared(x, y)
        null = _statistics(_swaps(x, y), ends, len(x), len(y), budgets)
        exact = 2**len(x) <= EXACT_UP_TO_LABELLINGS
    else:
        null = _null_of_splits(len(x), len(y), tuple(map(int, ends)), budgets)
        exact = math.comb(len(x) + len(y), len(x)) <= EXACT_UP_TO_LABELLINGS
    observed = _statistics(labels, ends, len(x), len(y), budgets)
    if not exact:  # it is one of the labellings that are as likely
        null = np.concatenate([null, observed])
    p, adjusted = _min_p(np.abs(observed[0]), np.abs(null))
    half = observed[0] + 0.5
    if shared:
        half = np.array([probability_better_shared(x, y, n) for n in budgets])
    tested, shown = np.sign(observed[0]), np.sign(np.round(half - 0.5, DIGITS))
    signs = np.where(tested == shown, tested, 0)
    return BudgetTest(budgets, tuple(map(float, half)), tuple(map(float, p)),
                      tuple(map(float, adjusted)), tuple(map(int, signs)), shared, exact)


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
        level = ALPHA / (len(tests) - rank)
        if least[i] > level:
            break
        verdicts[i] = tuple(_verdict(p <= level, sign)
                            for p, sign in zip(tests[i].p_adjusted, tests[i].sign, strict=True))
    return verdicts


def _verdict(significant: bool, sign: int) -> BudgetVerdict:
    if not significant or not sign:
        return "inconclusive"
    return "better" if sign > 0 else "worse"


def _check_shared(a: Values, b: Values) -> None:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} draws and {len(b)} are not the same draws")


def _merged(a: Values, b: Values) -> tuple[Labels, NDArray[np.intp]]:
    """Return the labels (1, B_a + B_b) of the merged scores, and where each run of equal ones ends.

    The ends begin with 0.
    """
    pooled = np.concatenate([a, b])
    order = np.argsort(pooled, kind="stable")
    _, sizes = np.unique(pooled, return_counts=True)
    return (order < len(a))[None], np.concatenate([[0], np.cumsum(sizes)])


def _wins(labels: Labels, ends: NDArray[np.intp], chances_a: Values, chances_b: Values) -> Values:
    """Return P(A's best < B's) + ½ P(equal) for each row of labels.

    Args:
        labels: (R, B_a + B_b), in the order of the scores.
        ends: Where each run of equal scores ends, after a 0.
        chances_a, chances_b: The chance that the best is not among the first k scores of A, of B.
    """
    of_a = np.concatenate([np.zeros((len(labels), 1), np.intp), labels.cumsum(axis=1)], axis=1)
    of_a = of_a[:, ends]
    worse_a, worse_b = chances_a[of_a], chances_b[ends - of_a]
    best_here = worse_a[:, :-1] - worse_a[:, 1:]
    total: Values = (best_here * (worse_b[:, :-1] + worse_b[:, 1:])).sum(axis=1) / 2
    return total


def _statistics(labels: Labels, ends: NDArray[np.intp], size_a: int, size_b: int,
                budgets: Sequence[int]) -> Values:
    """Return the chance that A wins, less ½, (R, budgets), rounded so that equal ones are equal."""
    columns = [_wins(labels, ends, none_chosen(size_a, n, np.arange(size_a + 1)),
                     none_chosen(size_b, n, np.arange(size_b + 1))) for n in budgets]
    rounded: Values = np.round(np.stack(columns, axis=1) - 0.5, DIGITS)
    return rounded


@lru_cache(maxsize=16)  # the pairs of a report have few patterns of ties
def _null_of_splits(size_a: int, size_b: int, ends: tuple[int, ...], budgets: tuple[int, ...],
                    ) -> Values:
    """Return the statistics (R, budgets) of all labellings of the draws, or of many of them."""
    total = size_a + size_b
    if math.comb(total, size_a) <= EXACT_UP_TO_LABELLINGS:
        chosen = np.array([*itertools.combinations(range(total), size_a)])
    else:
        rng = np.random.default_rng(0)
        chosen = np.argsort(rng.random((SAMPLED_LABELLINGS, total)), axis=1)[:, :size_a]
    labels = np.zeros((len(chosen), total), np.bool_)
    np.put_along_axis(labels, chosen, True, axis=1)
    return _statistics(labels, np.array(ends), size_a, size_b, budgets)


def _swaps(a: Values, b: Values) -> Labels:
    """Return the labels (R, 2B) in merged order of all swaps within draws, or of many of them."""
    if 2**len(a) <= EXACT_UP_TO_LABELLINGS:
        swapped = np.array([*itertools.product([False, True], repeat=len(a))])
    else:
        rng = np.random.default_rng(0)
        swapped = rng.random((SAMPLED_LABELLINGS, len(a))) < 0.5
    labels = np.concatenate([~swapped, swapped], axis=1)
    return labels[:, np.argsort(np.concatenate([a, b]), kind="stable")]


def _min_p(observed: Values, null: Values) -> tuple[Values, Values]:
    """Return p of each budget alone, and for all together.

    Args:
        observed: (N,) how far the statistics lie from 0.
        null: (R, N) the same under labellings that are as likely; the observed one is among them.
    """
    rows = len(null)
    ordered = np.sort(null, axis=0)
    p_null = np.stack([rows - np.searchsorted(ordered[:, i], null[:, i], side="left")
                       for i in range(null.shape[1])], axis=1)
    p = (null >= observed).sum(axis=0)
    least = np.sort(p_null.min(axis=1))
    return p / rows, np.searchsorted(least, p, side="right") / rows
