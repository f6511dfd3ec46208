"""Exact permutation tests, which assume nothing about how scores scatter.

If two variants are the same, every split of their runs into two groups is as likely as the observed
one. The p-value is the share of splits whose difference is at least as large. With few runs there
are few splits, and p cannot be small, however far apart the scores lie.

SciPy's permutation_test enumerates all splits, 184,756 for 10 runs against 10, and a report makes
thousands of such tests. Here the splits are counted instead: the subsets of each half of the runs
are enumerated (2 × 1,024), and a sorted search counts the combinations that reach the difference
(Horowitz and Sahni 1974, "Computing partitions"). The tests compare the result with SciPy's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gan_bench.compare.stats.summary import Values

EXACT_UP_TO = 32  # runs: 65,536 subsets in either half
DRAWS = 9_999
TIE = 1e-12  # relative: sums this close are one number, added in another order


@dataclass(frozen=True)
class Permutation:
    """The p-value of a permutation test.

    Attributes:
        p: Two-sided: twice the smaller of the two sides, at most 1, as in SciPy.
        smallest: The smallest p that so many runs can reach.
        sign: 1 if the statistic lies above the mean of all permutations and the upper side is the
            smaller; -1 for the lower; 0 if neither holds, and then p speaks for neither direction.
        exact: Whether all splits were counted; if not, 9,999 were drawn from a fixed seed.
    """

    p: float
    smallest: float
    sign: int
    exact: bool = True


def of_splits(a: Values, b: Values) -> Permutation:
    """Return p of the difference of means over all splits of the runs into groups of these sizes.

    Args:
        a, b: At least one finite value each.
    """
    n, pooled = len(a), np.concatenate([a, b])
    smallest = min(1.0, 2 / math.comb(len(pooled), n))
    if len(pooled) > EXACT_UP_TO:
        return _sampled((a, b), "independent")
    pooled = pooled - pooled.mean()
    cut = len(pooled) // 2
    (left, left_sizes), (right, right_sizes) = _subsets(pooled[:cut]), _subsets(pooled[cut:])
    observed, tie = pooled[:n].sum(), TIE * np.abs(pooled).sum()
    above = below = 0
    for k in range(max(0, n - len(pooled) + cut), min(n, cut) + 1):
        up, down = _count(left[left_sizes == k], right[right_sizes == n - k], observed, tie)
        above, below = above + up, below + down
    sign = _sign(float(observed), float(tie), above, below)
    return Permutation(min(1.0, 2 * min(above, below) / math.comb(len(pooled), n)), smallest, sign)


def of_signs(differences: Values) -> Permutation:
    """Return p of the mean of paired differences over all ways to swap partners.

    Args:
        differences: (n,) finite, at least one.
    """
    n = len(differences)
    if n > EXACT_UP_TO:
        return _sampled((differences,), "samples")
    sizes = np.abs(differences)
    left, right = _subsets(sizes[:n // 2])[0], _subsets(sizes[n // 2:])[0]
    observed, tie = sizes[differences > 0].sum(), TIE * sizes.sum()
    above, below = _count(left, right, observed, tie)
    sign = _sign(float(differences.sum()), float(tie), above, below)
    return Permutation(min(1.0, 2 * min(above, below) / 2**n), min(1.0, 2 / 2**n), sign)


def _subsets(values: Values) -> tuple[Values, Values]:
    """Return the sum and the size of every subset."""
    sums, sizes = np.zeros(1), np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
        sizes = np.concatenate([sizes, sizes + 1])
    return sums, sizes


def _count(left: Values, right: Values, observed: float, tie: float) -> tuple[int, int]:
    """Return how many sums left + right are at least `observed`, and how many at most."""
    right = np.sort(right)
    above = len(right) - np.searchsorted(right, observed - tie - left, side="left")
    return int(above.sum()), int(np.searchsorted(right, observed + tie - left, "right").sum())


def _sign(statistic: float, tie: float, above: int, below: int) -> int:
    """Return the direction for which the test speaks, as in `Permutation.sign`.

    Args:
        statistic: Less the mean of its permutations.
        tie: Up to which it counts as 0.
        above, below: How many permutations are at least, and at most, as large.
    """
    if above < below and statistic > tie:
        return 1
    return -1 if below < above and statistic < -tie else 0


def _sampled(samples: tuple[Values, ...], kind: str) -> Permutation:
    def statistic(a: Values, b: Values | None = None, axis: int = -1) -> Values:
        mean: Values = a.mean(axis=axis)
        return mean if b is None else mean - b.mean(axis=axis)

    result = stats.permutation_test(samples, statistic, permutation_type=kind, vectorized=True,
                                    n_resamples=DRAWS, rng=np.random.default_rng(0), batch=1_000)
    null, observed = result.null_distribution, float(result.statistic)
    tie = TIE * float(np.abs(np.concatenate(samples)).max())
    sign = _sign(observed, tie, int((null >= observed).sum()), int((null <= observed).sum()))
    return Permutation(float(result.pvalue), 2 / (DRAWS + 1), sign, exact=False)
