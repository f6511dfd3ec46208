"""Pairs of variants: how far apart, how likely one beats the other, and the verdict.

**Which test decides.** If no run of the pair diverged: Welch's t-test of the means, or the paired
t-test. If a run diverged there is no mean over all runs; an exact permutation test of the ranks of
all runs decides, with diverged runs last; in a paired comparison it is of the signed ranks of the
pairs (Wilcoxon 1945, "Individual comparisons by ranking methods"; pairs that are equal keep their
ranks and count for neither side, Pratt 1959). The mean over survivors is shown with their number,
but it decides nothing: it would reward a variant that loses its worst seeds.

**The direction** of a verdict is the sign of the statistic whose p decides: of the difference of
means, of ranks, or of the signed ranks. No other number decides it. The probability of improvement
compares runs of all seeds with each other, and may point the other way in a paired comparison.

The choice of the test depends on whether any run of the pair diverged, not on whose run it was. So
if the two variants are the same, each test keeps its 5% given that it was chosen, and so do both
together. (A test chosen by whether the *shares* differ would not: that depends on which variant is
which.) Simulated: a variant is as good as the other, but its worst runs diverge (10, 30, 50%;
normal scores; 3, 5 and 10 runs). It was called *better* in at most 2.4% of 2,000 studies a case; a
test of survivors says so in up to 36%. The share is higher among the studies in which, by chance,
none of its runs diverged: an unseen divergence cannot count against it.

If all scores of each variant are the same, a t-test has no spread to use, and the permutation test
decides. With 3 runs each its smallest p is 0.1. If one variant has fewer runs than the other,
Welch's test rejects too often for skewed scores (7% at 3 runs against 10), so both tests must
reject: p is the larger. With equal numbers Welch's test rejects in 2 to 5% of cases between equal
variants, log-normal scores included; but in up to 13% if the *means* are equal, the scores
log-normal with σ = 1, and one variant scatters 3 times as much as the other.

**The family** is all pairs compared under one score; in a grid of several axes, each sweep of one
axis of three values or more around the baseline is a family of its own, and all other pairs are
another. Holm's correction
keeps the chance of any wrong *better* or *worse* among them at 5%, and likewise that of any wrong
*equivalent*. Each score is a family of its own: choose the score that decides before you look.

*equivalent* means within a declared margin, in whichever direction a small difference points. It
needs 59 runs of each variant, scores with some spread and no diverged run; `equivalence` says why.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from gan_bench.compare.stats.doubt import SEEN_FROM, Doubt
from gan_bench.compare.stats.equivalence import p_beyond
from gan_bench.compare.stats.improvement import improvement
from gan_bench.compare.stats.permutation import Permutation, of_signs, of_splits
from gan_bench.compare.stats.summary import (
    ALPHA,
    Estimate,
    Scores,
    Values,
    difference,
    no_spread,
    survivors,
    worst_last,
)
from gan_bench.compare.stats.words import lacks, margin_words, rests_on
from gan_bench.config.declared import Amount
from gan_bench.errors import UserError
from gan_bench.registry import Better, nearest

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Comparison:
    """One variant against another under one score.

    Attributes:
        variant, against: Their names.
        n, n_against: How many runs of each, diverged ones included; in a paired comparison, runs
            whose seed both have.
        diverged, diverged_against: How many of these ended without a finite score.
        left_out: Runs of either whose seed the other lacks, in a paired comparison.
        paired: Whether runs are compared seed by seed.
        difference: Mean of `variant` less mean of `against`, over the runs that did not diverge.
        improvement: The probability that a run of `variant` beats one of `against`, ties counted
            half, diverged runs last. NaN if neither direction is better. It is of runs of any
            seeds, also in a paired comparison.
        signed_ranks: In a paired comparison with a diverged run, the sum of the ranks of the pairs
            that `variant` wins, and of those that `against` wins; else None.
        permutation: The exact test: of the means, or of the ranks if a run diverged. None if
            there is nothing to permute.
        basis: Where `p` comes from: `means` (a t-test, and with unequal numbers of runs the
            permutation test as well), `permutation`, or `none`.
        p, p_adjusted: Of no difference; alone, and by Holm over the family. NaN if `basis` is none.
        margin: The declared margin of equivalence.
        p_equivalent, p_equivalent_adjusted: Of a difference beyond the margin; NaN if there is no
            margin, or no such test is possible. With fewer runs than *equivalent* needs, it holds
            for runs that do not fail, and there is no such verdict however small it is.
        untested: Why there is no test of the margin though no run diverged.
        family, family_equivalent: How many comparisons Holm's correction is for: of `p`, and of
            `p_equivalent`, which not every pair has.
        verdict: None if neither direction is better.
        why: The basis of the verdict, or what it lacks, in words.
        sweep: The axis whose sweep is the family; empty for the family of all other pairs.
    """

    variant: str
    against: str
    n: int
    n_against: int
    diverged: int
    diverged_against: int
    left_out: int
    paired: bool
    difference: Estimate
    improvement: Estimate
    signed_ranks: tuple[float, float] | None
    permutation: Permutation | None
    basis: Literal["means", "permutation", "none"]
    p: float
    margin: Amount | None = None
    p_equivalent: float = math.nan
    untested: str = ""
    p_adjusted: float = math.nan
    p_equivalent_adjusted: float = math.nan
    family: int = 0
    family_equivalent: int = 0
    verdict: Verdict | None = None
    why: str = ""
    sweep: str = ""

    @property
    def may_be_equivalent(self) -> bool:
        """Whether the runs are enough for the verdict *equivalent*."""
        return min(self.n, self.n_against) >= SEEN_FROM

    @property
    def sign(self) -> int:
        """The sign of the statistic that was tested: 1 if `variant` has the larger scores.

        0 if it says neither. If both tests must reject, both must have the sign.
        """
        by_ranks = self.permutation.sign if self.permutation else 0
        if self.basis != "means":
            return by_ranks
        by_means = (self.difference.value > 0) - (self.difference.value < 0)
        both = not self.paired and self.n != self.n_against
        return 0 if both and by_ranks != by_means else by_means

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        a, b = self.variant, self.against
        start = {"better": f"{a} is better than {b}", "worse": f"{a} is worse than {b}",
                 "equivalent": f"{a} and {b} are equivalent within {self.margin}",
                 "inconclusive": f"{a} against {b} is not decisive",
                 None: f"{a} against {b}"}[self.verdict]
        return f"{start}: {self.why}"


def compare(scores: Mapping[str, Scores], better: Better, baseline: str | None = None,
            paired: bool = False, margin: Amount | None = None,
            sweep_of: Callable[[str], str] = lambda variant: "") -> list[Comparison]:
    """Compare variants under one score: each with the baseline, or all pairs.

    Args:
        scores: For each variant, the final score of each seed; NaN if the run diverged. The caller
            leaves out runs that failed or are not finished, and reports how many.
        better: Which direction is better; None if neither is, and then there is no verdict.
        baseline: The variant that the others are compared with; None to compare all pairs.
        paired: Whether runs with the same seed are compared as pairs.
        margin: The margin below which a difference is negligible. A percentage is of the mean of
            `against`, whose uncertainty counts (the test of a ratio of means, Hauck and Anderson
            1992).
        sweep_of: Returns the axis whose sweep a variant belongs to; empty if to none.

    Raises:
        UserError: There is no such baseline.
    """
    names = list(scores)
    if baseline is not None and baseline not in scores:
        raise UserError(f"there is no variant {baseline!r}; {nearest(baseline, names)}")
    if baseline is None:
        pairs = [(b, a) for a, b in itertools.combinations(names, 2)]
    else:
        pairs = [(name, baseline) for name in names if name != baseline]
    families: dict[str, list[Comparison]] = {}
    for a, b in pairs:
        sweep = sweep_of(a)
        pair = _compare_pair(a, b, scores, better, paired, margin)
        families.setdefault(sweep, []).append(replace(pair, sweep=sweep))
    by_pair = {(pair.variant, pair.against): pair for family in families.values()
               for pair in _judged(family, better)}
    return [by_pair[pair] for pair in pairs]


def _judged(family: Sequence[Comparison], better: Better) -> list[Comparison]:
    """Return the comparisons of a family, corrected by Holm's method, with their verdicts."""
    adjusted = holm([pair.p for pair in family])
    equivalent = holm([pair.p_equivalent for pair in family])
    tested = sum(not math.isnan(pair.p) for pair in family)
    tested_equivalent = sum(not math.isnan(pair.p_equivalent) for pair in family)
    return [_with_verdict(replace(pair, p_adjusted=p, p_equivalent_adjusted=q, family=tested,
                                  family_equivalent=tested_equivalent), better)
            for pair, p, q in zip(family, adjusted, equivalent, strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's method (1979); NaN stays NaN, and is not counted."""
    values = np.array(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in values]


def _compare_pair(a: str, b: str, scores: Mapping[str, Scores], better: Better, paired: bool,
                  margin: Amount | None) -> Comparison:
    """Return the numbers of a pair that do not depend on the family."""
    left, right = scores[a], scores[b]
    left_out = 0
    if paired:
        both = left.keys() & right.keys()
        left_out = len(left) + len(right) - 2 * len(both)
        left, right = ({seed: side[seed] for seed in both} for side in (left, right))
    x, y = survivors(left), survivors(right)
    lost = len(left) - len(x), len(right) - len(y)
    if paired and any(lost):  # keep the pairs without a diverged run
        finite = [s for s in left if math.isfinite(left[s]) and math.isfinite(right[s])]
        x, y = (survivors({seed: side[seed] for seed in finite}) for side in (left, right))
    gap, p = difference(x, y, paired)
    if any(lost):
        over = f"{len(x)} pairs" if paired else f"{len(x)} runs against {len(y)}"
        doubts = () if math.isnan(gap.low) else (*gap.doubts, Doubt.DIVERGED)
        gap = replace(gap, survivors=over, doubts=doubts)
    ranked = x, y  # if neither direction is better, diverged runs have no rank
    if better:
        ranked = worst_last(left, better), worst_last(right, better)
    permutation = None if better is None and any(lost) else _permutation(*ranked, paired)
    basis: Literal["means", "permutation", "none"] = "means"
    if min(len(left), len(right)) < 2 or permutation is None:
        basis = "none"
    elif any(lost) or no_spread(x, y, paired):
        basis = "permutation"
    if basis != "means":
        p = permutation.p if permutation and basis == "permutation" else math.nan
    elif permutation and len(x) != len(y):
        p = max(p, permutation.p)
    signed_ranks = None
    if paired and better and any(lost) and len(left):
        ranks = _signed_ranks(*ranked) * (-1 if better == "lower" else 1)
        signed_ranks = float(ranks[ranks > 0].sum()), float(-ranks[ranks < 0].sum())
    equivalent, untested = math.nan, ""
    if margin is not None and basis != "none" and not any(lost):
        equivalent, untested = p_beyond(x, y, paired, margin, b)
    return Comparison(a, b, len(left), len(right), *lost, left_out, paired, gap,
                      improvement(*ranked, better), signed_ranks, permutation, basis, p, margin,
                      equivalent, untested)


def _permutation(a: Values, b: Values, paired: bool) -> Permutation | None:
    """Return the exact test of the means; of ranks if a value is infinite."""
    if not (len(a) and len(b)):
        return None
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    if not paired:
        if not finite:
            a, b = np.split(stats.rankdata(np.concatenate([a, b])), [len(a)])
        return of_splits(a, b)
    if finite:
        return of_signs(a - b)
    return of_signs(_signed_ranks(a, b))


def _signed_ranks(a: Values, b: Values) -> Values:
    """Return the ranks of the paired gaps, with the signs of the gaps.

    If one of a pair diverged, its gap is the largest; if both did, it is 0.
    """
    same = a == b
    gaps = np.subtract(a, b, where=~same, out=np.zeros(len(a)))
    ranks: Values = np.sign(gaps) * stats.rankdata(np.abs(gaps))
    return ranks


def _with_verdict(pair: Comparison, better: Better) -> Comparison:
    """Return the comparison with its verdict, and the reason in words."""
    if better is None:
        return replace(pair, why=lacks(pair) if pair.basis == "none" else rests_on(pair))
    if pair.may_be_equivalent and pair.p_equivalent_adjusted <= ALPHA:
        return replace(pair, verdict="equivalent", why=rests_on(pair, equivalent=True))
    if not pair.p_adjusted <= ALPHA or not pair.sign:
        return replace(pair, verdict="inconclusive", why=lacks(pair))
    ahead = (pair.sign < 0) == (better == "lower")
    why = rests_on(pair)
    if pair.p_equivalent_adjusted <= ALPHA:
        why += f"; {margin_words(pair)}"
    return replace(pair, verdict="better" if ahead else "worse", why=why)
