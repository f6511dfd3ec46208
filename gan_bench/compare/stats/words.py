"""Verdicts in words: the numbers that they rest on, or what they lack."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gan_bench.compare.stats.doubt import SEEN_FROM, unseen_share
from gan_bench.compare.stats.rounding import interval_decimals, rounded, rounded_end, rounded_p
from gan_bench.compare.stats.summary import ALPHA, Estimate
from gan_bench.errors import count

if TYPE_CHECKING:
    from gan_bench.compare.stats.comparison import Comparison

PLAIN = {"inconclusive": "not decisive"}  # words for readers, where the verdict's name is jargon


def verdict_words(verdict: str | None) -> str:
    """Return a verdict for readers; empty without one."""
    return PLAIN.get(verdict or "", verdict or "")


def tests_of(pairs: Iterable[Comparison]) -> str:
    """Return the tests that the p of these pairs comes from, and where each decides."""
    tests = dict.fromkeys(map(_test_of, pairs))
    # The one that needs no reason comes first.
    return ", or ".join(sorted(tests, key=lambda words: " where " in words))


def _test_of(pair: Comparison) -> str:
    """Return the test of a pair; where it is not the usual one, also why."""
    t_test = "a paired t-test" if pair.paired else "a Welch t-test"
    if pair.basis == "permutation":
        if pair.diverged or pair.diverged_against:
            ranks = "signed ranks" if pair.paired else "ranks"
            return f"a permutation test of {ranks} where a run diverged"
        return "a permutation test of means where scores have no spread"
    if not pair.paired and pair.n != pair.n_against:
        return f"the larger p of {t_test} and a permutation test where the numbers of runs differ"
    return t_test


def left_out_words(pair: Comparison) -> str:
    """Return how many runs of a paired comparison lack their partner; empty if none does."""
    if not pair.left_out:
        return ""
    lacking = "1 run lacks" if pair.left_out == 1 else f"{pair.left_out} runs lack"
    return (f"{pair.variant} against {pair.against}: over {count(pair.n, 'pair')} of runs with the "
            f"same seed; {lacking} a partner, and the difference and its p leave "
            f"{'it' if pair.left_out == 1 else 'them'} out")


def rests_on(pair: Comparison, equivalent: bool = False) -> str:
    """Return the numbers that a verdict rests on.

    Args:
        equivalent: Whether the verdict is *equivalent*, which rests on another p.
    """
    p, family = pair.p_adjusted, pair.family
    if equivalent:
        p, family = pair.p_equivalent_adjusted, pair.family_equivalent
    words = [_estimate_words("difference", pair.difference, signed=True)]
    if pair.diverged or pair.diverged_against:
        words = [_estimate_words("probability of improvement", pair.improvement)]
        if pair.signed_ranks:
            words = ["signed ranks {:g} for and {:g} against".format(*pair.signed_ranks)]
        words += [f"{pair.diverged} of {pair.n} and {pair.diverged_against} of {pair.n_against} "
                 f"runs diverged and rank last"]
    among = f" among {family} comparisons" if family > 1 else ""
    return ", ".join([*words, f"p = {rounded_p(p)}{among}"])


def lacks(pair: Comparison) -> str:
    """Return why there is no verdict."""
    if pair.basis == "none":
        if min(pair.n, pair.n_against) < 2:
            few = "pairs of runs" if pair.paired else "runs"
            return f"fewer than two {few}: the scatter of seeds is unknown"
        return "runs diverged, and without a better direction they have no rank"
    words = rests_on(pair)
    if pair.p <= ALPHA:
        words += f" ({pair.p:.2g} alone)"
    by_splits = pair.basis == "permutation" or (not pair.paired and pair.n != pair.n_against)
    if by_splits and pair.permutation and pair.permutation.smallest > ALPHA:
        words += f", and so few runs reach no p below {pair.permutation.smallest:.2g}"
    if pair.margin is not None:
        words += f"; {margin_words(pair)}"
    return words


def margin_words(pair: Comparison) -> str:
    """Return what the runs say of the margin, or why they say nothing."""
    if not math.isnan(pair.p_equivalent_adjusted):
        within = f"within {pair.margin}: p = {pair.p_equivalent_adjusted:.2g}"
        if pair.may_be_equivalent:
            return within
        n = min(pair.n, pair.n_against)
        return (f"{within} for runs that do not fail, but a failure of up to "
                f"{unseen_share(n):.0%} of the runs may be unseen in {n} (equivalent needs "
                f"{SEEN_FROM} of each)")
    if pair.diverged or pair.diverged_against:
        return f"no test of {pair.margin}: a run diverged"
    return f"no test of {pair.margin}: {pair.untested}"


def _estimate_words(name: str, estimate: Estimate, signed: bool = False) -> str:
    decimals = interval_decimals(estimate)
    words = f"{name} {rounded(estimate.value, signed, decimals)}"
    if math.isnan(estimate.low):
        return words
    low, high = (rounded_end(end, signed, decimals) for end in (estimate.low, estimate.high))
    return f"{words} [{low}, {high}]"
