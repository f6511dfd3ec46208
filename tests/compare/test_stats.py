"""Every number of the comparison against SciPy, statsmodels, a published value or a closed form."""

from __future__ import annotations

import gc
import itertools
import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from gan_bench.compare.stats.comparison import Comparison, compare, holm
from gan_bench.compare.stats.doubt import SEEN_FROM, Doubt, unseen_share
from gan_bench.compare.stats.improvement import improvement, newcombe
from gan_bench.compare.stats.noise import measure_noise
from gan_bench.compare.stats.permutation import EXACT_UP_TO, of_signs, of_splits
from gan_bench.compare.stats.summary import Estimate, difference, mean_of, summarise_scores
from gan_bench.compare.stats.time_to_quality import first_passing, time_to_quality
from gan_bench.config.declared import Amount
from gan_bench.errors import UserError

NAN = math.nan
RNG = np.random.default_rng(5)
A, B = [1.0, 2.0, 4.0, 4.5], [2.0, 9.0, 5.0]
PERCENT = Amount(0.05, relative=True)


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Nothing may put a warning on a user's screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def pair(a: list[float], b: list[float], better: str | None = "lower", paired: bool = False,
         margin: Amount | None = None) -> Comparison:
    [found] = compare({"b": seeds(*b), "a": seeds(*a)}, better, "b",  # type: ignore[arg-type]
                      paired, margin)
    return found


# one variant


def test_mean_has_the_t_interval() -> None:
    # 1, 2, 3: mean 2, standard error 1/√3, t(.975, 2) = 4.302653
    half = 4.302652729749462 / math.sqrt(3)
    got = mean_of([1.0, 2.0, 3.0])
    assert (got.value, got.low, got.high) == pytest.approx((2, 2 - half, 2 + half))
    assert (got.low, got.high) == pytest.approx(DescrStatsW([1.0, 2.0, 3.0]).tconfint_mean())


def test_a_summary_of_five_runs() -> None:
    got = summarise_scores(seeds(4.0, 1.0, 10.0, 2.0, 3.0), "lower")
    assert (got.n, got.diverged, got.share_diverged, got.note) == (5, 0, 0, "")
    assert (got.mean.value, got.median, got.iqm) == (4, 3, 3)  # of 2, 3, 4: one off each end
    assert got.sd == pytest.approx(math.sqrt((0 + 9 + 36 + 4 + 1) / 4))
    assert (got.best, got.worst) == (1, 10)
    other = summarise_scores(seeds(4.0, 1.0, 10.0, 2.0, 3.0), "higher")
    assert (other.best, other.worst) == (10, 1)


def test_diverged_runs_rank_last_and_the_mean_says_it_is_without_them() -> None:
    got = summarise_scores(seeds(4.0, NAN, 1.0, 2.0, math.inf), "lower")
    assert (got.n, got.diverged, got.share_diverged) == (5, 2, 0.4)
    assert got.mean.value == pytest.approx(7 / 3)
    assert got.mean.note == "over the 3 of 5 runs that did not diverge"
    assert (got.median, got.iqm, got.best, got.worst) == (4, math.inf, 1, math.inf)
    high = summarise_scores(seeds(4.0, NAN, 1.0, 2.0), "higher")
    assert (high.median, high.best, high.worst) == (1.5, 4, -math.inf)
    neither = summarise_scores(seeds(4.0, NAN, 1.0), None)
    assert neither.median == 2.5
    assert math.isnan(neither.best)
    assert "diverged runs have no rank" in neither.note


@pytest.mark.parametrize(("scores", "note", "own"), [
    (seeds(), "no runs", "no runs"), (seeds(3.0), "one seed: no interval", "one score"),
    (seeds(3.0, NAN), "one seed: no interval", "one score"),
    (seeds(0.3, 0.1 + 0.2, 0.3), "all the same: no interval", ""),
    (seeds(0.0, 0.0), "all the same: no interval", ""),
    (seeds(NAN, NAN), "all 2 runs diverged", "no run has a finite score")])
def test_what_has_no_interval_says_why(scores: dict[int, float], note: str, own: str) -> None:
    got = summarise_scores(scores, "lower")
    assert math.isnan(got.mean.low)
    assert math.isnan(got.mean.high)
    assert got.mean.note.endswith(note)
    assert got.note.startswith(own)


def test_an_interval_beyond_the_bounds_is_given_and_labelled() -> None:
    near, far = [0.99, 1.0, 0.96], [0.5, 0.51, 0.49]
    got = mean_of(near, (0, 1))
    assert got.high == mean_of(near).high > 1  # not cut off
    assert "beyond the bounds of the score (0 to 1)" in got.note
    assert mean_of(far, (0, 1)).note == mean_of(near).note == ""


def test_an_interval_says_what_stands_against_it() -> None:
    even = [*np.linspace(-1, 1, 60)]
    assert mean_of(even).doubts == ()
    assert mean_of(even).is_trusted
    assert mean_of(even[:58]).doubts == (Doubt.FEW,)  # a failure of 5% of the runs may be unseen
    assert not mean_of(even[:58]).is_trusted
    assert not mean_of(even[:58]).is_marked
    assert mean_of(even, (-1, 1)).is_trusted
    assert not mean_of(even, (0.5, 1)).is_trusted
    for scores in ([*even, 9.0], [*even, -9.0], [20.0, 20.1, 19.9, 20.2, 100.0]):
        assert stats.skew(scores) ** 2 > 1
        assert Doubt.SKEWED in mean_of(scores).doubts
        assert mean_of(scores).is_marked
    assert 0.5 < stats.skew([*even, 2.5]) < 1
    assert mean_of([*even, 2.5]).is_trusted
    some = summarise_scores(seeds(*even), "lower", collapsed=1).mean
    assert (some.doubts, some.is_marked) == ((Doubt.COLLAPSED,), True)
    assert summarise_scores(seeds(*even), "lower", collapsed=60).mean.is_trusted
    lost = summarise_scores(seeds(*even, NAN), "lower").mean
    assert (lost.doubts, lost.is_marked) == ((Doubt.DIVERGED,), False)
    assert mean_of([1.0, 1.0]).doubts == mean_of([1.0]).doubts == ()  # there is no interval


def test_a_difference_is_doubted_where_the_skewness_of_both_is_not_the_same() -> None:
    even, skewed = [*np.linspace(-1, 1, 60)], [*np.linspace(-1, 1, 60)[1:], 9.0]
    assert difference(even, even[::-1])[0].is_trusted
    assert Doubt.SKEWED in difference(skewed, even)[0].doubts
    assert Doubt.SKEWED in difference(even, skewed)[0].doubts
    assert difference(skewed, skewed)[0].is_trusted
    assert Doubt.SKEWED in difference(skewed, even, paired=True)[0].doubts
    shifted = [a + b for a, b in zip(skewed, even, strict=True)]
    assert difference(shifted, skewed, paired=True)[0].is_trusted
    assert difference(even[:9], even)[0].doubts == (Doubt.FEW,)
    [pair_] = compare({"b": seeds(*even, NAN), "a": seeds(*even, 0.5)}, "lower", "b")
    assert pair_.difference.doubts == (Doubt.DIVERGED,)


# two variants


def test_difference_has_welchs_interval_and_p() -> None:
    va, vb = np.var(A, ddof=1) / 4, np.var(B, ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(va + vb)
    gap = np.mean(A) - np.mean(B)
    got, p = difference(A, B)
    assert (got.value, got.low, got.high) == pytest.approx((gap, gap - half, gap + half))
    reference = CompareMeans(DescrStatsW(A), DescrStatsW(B))
    assert (got.low, got.high) == pytest.approx(reference.tconfint_diff(usevar="unequal"))
    assert p == pytest.approx(reference.ttest_ind(usevar="unequal")[1])


def test_paired_difference_is_the_mean_of_the_differences() -> None:
    a, b = A, [*B, 4.0]
    got, p = difference(a, b, paired=True)
    gaps = np.subtract(a, b)
    assert (got.value, got.low, got.high) == pytest.approx(
        (gaps.mean(), *DescrStatsW(gaps).tconfint_mean()))
    assert p == pytest.approx(DescrStatsW(gaps).ttest_mean()[1])


def test_pairs_are_those_of_one_seed_and_the_others_are_counted() -> None:
    scores = {"a": {1: 5.0, 2: 7.0, 3: 6.5, 9: 0.0}, "b": {3: 6.0, 2: 5.0, 1: 2.0}}
    [got] = compare(scores, "lower", "b", paired=True)
    assert got.difference.value == pytest.approx((3 + 2 + 0.5) / 3)
    assert (got.n, got.n_against, got.left_out) == (3, 3, 1)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (4, 7), (2, 5), (2, 2), (6, 2)])
def test_splits_are_counted_as_scipy_enumerates_them(n: int, m: int) -> None:
    for decimals in (8, 0):  # without ties, and with
        a, b = RNG.normal(size=n).round(decimals), RNG.normal(0.7, 1, m).round(decimals)
        reference = stats.permutation_test(
            (a, b), lambda x, y: np.mean(x) - np.mean(y), n_resamples=np.inf).pvalue
        assert of_splits(a, b).p == pytest.approx(reference)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_signs_are_counted_as_scipy_enumerates_them(n: int) -> None:
    for decimals in (8, 0):
        gaps = RNG.normal(0.5, 1, n).round(decimals)
        reference = stats.permutation_test((gaps,), np.mean, permutation_type="samples",
                                           n_resamples=np.inf).pvalue
        assert of_signs(gaps).p == pytest.approx(reference)


def test_ranks_without_ties_give_mann_whitneys_exact_p() -> None:
    a, b = RNG.normal(size=9), RNG.normal(0.8, 1, 9)
    ranks = stats.rankdata(np.concatenate([a, b]))
    reference = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert of_splits(ranks[:9], ranks[9:]).p == pytest.approx(reference)


def test_the_smallest_p_is_reached_by_runs_that_lie_apart_and_no_others() -> None:
    assert of_splits(np.array([1.0]), np.array([1.0, 2.0, 3.0, 0.0])).p == 1
    assert of_splits(np.array([1.0]), np.array([9.0, 2.0, 3.0, 4.0])).p == 2 / 5
    for n, smallest in ((3, 0.1), (5, 2 / 252), (10, 2 / 184756)):
        got = of_splits(np.arange(n), np.arange(n) + 100.0)
        assert (got.p, got.smallest) == (pytest.approx(smallest), pytest.approx(smallest))
        near = of_splits(np.arange(n), np.arange(n) + n - 1.5)
        assert near.p > near.smallest
    assert of_signs(np.array([1.0, 2, 3, 4, 5])).p == 2 / 32
    assert of_signs(np.array([1.0, 2, 3, 4, -5])).p > 2 / 32


def test_many_runs_are_drawn_from_a_fixed_seed() -> None:
    n = EXACT_UP_TO // 2 + 1
    a, b = RNG.normal(size=n), RNG.normal(0.5, 1, n)
    got = of_splits(a, b)
    assert (got.exact, got.smallest) == (False, 2 / 10_000)
    assert got == of_splits(a, b)
    assert got.p == pytest.approx(stats.ttest_ind(a, b).pvalue, abs=0.02)
    assert not of_signs(RNG.normal(size=EXACT_UP_TO + 1)).exact


def test_probability_of_improvement_counts_pairs_of_runs() -> None:
    x, y = np.array([1.0, 2, 2, math.inf]), np.array([2.0, 3, math.inf])
    wins = sum((a < b) + (a == b) / 2 for a, b in itertools.product(x, y)) / 12
    assert improvement(x, y, "lower").value == pytest.approx(wins)
    assert improvement(y, x, "lower").value == pytest.approx(1 - wins)
    finite = np.array(A), np.array(B)
    u = stats.mannwhitneyu(*finite).statistic
    assert improvement(*finite, "higher").value == pytest.approx(u / 12)


def test_its_interval_is_newcombes() -> None:
    # An example of the SingleCaseES package, which gives it to these digits.
    base, treated = [20, 20, 26, 25, 22, 23], [28, 25, 24, 27, 30, 30, 29]
    value = improvement(np.array(treated), np.array(base), "higher").value
    assert value == pytest.approx(0.9166666666666666)
    assert newcombe(value, 7, 6, stats.norm.ppf(0.975)) == pytest.approx(
        (0.5973193600384168, 0.9859976893703788))


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 288))
def test_it_stays_within_0_and_1_and_turns_with_the_pair(n: int, m: int, wins: int) -> None:
    value = min(1.0, wins / (2 * n * m))
    low, high = newcombe(value, n, m, 2.2)
    assert 0 <= low <= value <= high <= 1
    assert low < high
    assert newcombe(1 - value, n, m, 2.2) == pytest.approx((1 - high, 1 - low), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_statsmodels_holm(p: list[float]) -> None:
    gc.freeze()  # theirs collects garbage, which takes long among all that other tests import
    expected = multipletests(p, method="holm")[1]
    gc.unfreeze()
    assert holm(p) == pytest.approx(expected)
    assert holm([NAN, *p])[1:] == holm(p)
    assert math.isnan(holm([NAN, *p])[0])


@pytest.mark.parametrize("margin", [0.3, 1.0, 3.0])
def test_equivalence_is_two_one_sided_tests(margin: float) -> None:
    a, b = RNG.normal(10, 0.5, 6), RNG.normal(10.1, 0.5, 6)
    reference = CompareMeans(DescrStatsW(a), DescrStatsW(b)).ttost_ind(-margin, margin, "unequal")
    got = pair([*a], [*b], margin=Amount(margin))
    assert got.p_equivalent == pytest.approx(reference[0])
    assert got.verdict == "inconclusive"  # of 6 runs, too few to have seen a rare failure
    both = pair([*a], [*b], paired=True, margin=Amount(margin))
    assert both.p_equivalent == pytest.approx(DescrStatsW(a - b).ttost_mean(-margin, margin)[0])


@pytest.mark.parametrize("paired", [False, True])
def test_equivalence_is_said_only_where_a_rare_failure_would_have_been_seen(paired: bool) -> None:
    assert SEEN_FROM == 59
    assert 0.95**59 <= 0.05 < 0.95**58
    assert unseen_share(5) == pytest.approx(stats.beta.ppf(0.95, 1, 5))  # Clopper and Pearson
    scores = RNG.normal(10, 0.01, (2, 59))
    few, enough = (pair([*scores[0, :n]], [*scores[1, :n]], paired=paired, margin=Amount(1.0))
                   for n in (58, 59))
    assert few.p_equivalent < 1e-9
    assert (few.verdict, enough.verdict) == ("inconclusive", "equivalent")
    assert few.why.endswith("for runs that do not fail, but a failure of up to 5% of the runs may "
                            "be unseen in 58 (equivalent needs 59 of each)")
    far = pair([9.0, 9.01, 9.02, 8.99], [10.0, 10.01, 10.02, 9.99], paired=False, margin=Amount(2))
    assert far.verdict == "better"  # the difference is there, and what it matters is said
    assert "; within 2: p = " in far.why
    assert "up to 53% of the runs may be unseen in 4" in far.why


def test_equivalence_is_said_among_the_pairs_that_it_is_tested_of() -> None:
    scores = [10 + 0.01 * (i % 7) for i in range(60)]
    variants = {name: seeds(*scores) for name in "abc"}
    lost = {"d": seeds(*scores[:-1], NAN)}
    for others, family in (({}, 2), (lost, 3)):
        [a] = (found for found in compare({**variants, **others}, "lower", "b", False, Amount(2))
               if found.variant == "a")
        assert (a.verdict, a.family, a.family_equivalent) == ("equivalent", family, 2)
        assert a.why.endswith(f"p = {a.p_equivalent_adjusted:.2g} among 2 comparisons")
        assert a.p_equivalent_adjusted == 2 * a.p_equivalent


@pytest.mark.parametrize("n", [5, 60])
@pytest.mark.parametrize("paired", [False, True])
def test_scores_without_spread_are_never_equivalent(n: int, paired: bool) -> None:
    flat, near = [10.0] * n, [10.0, *[10.01] * (n - 1)]
    for a, b in ((flat, flat), (flat, near), (near, flat)):
        got = pair(a, b, "higher", paired, Amount(5.0))
        assert math.isnan(got.p_equivalent)
        assert got.verdict != "equivalent"
        if got.verdict == "inconclusive":
            assert got.why.endswith("no test of 5: scores without spread do not show how runs "
                                    "scatter")
    shifted = pair(near, [score + 1 for score in near], "higher", True, Amount(5.0))
    assert shifted.verdict != "equivalent"  # the differences have no spread


def test_a_second_test_of_many_runs_is_clopper_and_pearsons_for_two_values() -> None:
    """Of 60 runs one collapses: its share may be 7.7%, where a t-test puts the limit at 4.4%."""
    tight = np.linspace(-1e-6, 1e-6, 60)
    a, b = tight.copy(), tight
    a[0] = 1.0
    share = stats.beta.ppf(0.95, 2, 59)
    for margin, p in ((share, 0.05), (0.05, stats.binom.cdf(1, 60, 0.05))):
        assert pair([*a], [*b], margin=Amount(margin)).p_equivalent == pytest.approx(p, abs=0.01)
        assert pair([*-a], [*-b], margin=Amount(margin)).p_equivalent == pytest.approx(p, abs=0.01)
        assert pair([*a], [*b], "lower", True, Amount(margin)).p_equivalent == pytest.approx(
            p, abs=0.01)
    by_t = CompareMeans(DescrStatsW(a), DescrStatsW(b)).ttost_ind(-0.05, 0.05, "unequal")[0]
    assert by_t < 0.03


def test_a_margin_in_percent_counts_the_baselines_own_uncertainty() -> None:
    """The one-sided tests of mean(a) − (1 ∓ ε) mean(b), by hand."""
    a, b = np.array([9.0, 10, 10.2, 9.9]), np.array([10.0, 10.3, 9.8])
    sides = []
    for scale, way in ((0.9, 1), (1.1, -1)):
        va, vb = a.var(ddof=1) / 4, scale**2 * b.var(ddof=1) / 3
        freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
        t = way * (a.mean() - scale * b.mean()) / math.sqrt(va + vb)
        sides.append(stats.t.sf(t, freedom))
    margin = Amount(0.1, relative=True)
    assert pair([*a], [*b], margin=margin).p_equivalent == pytest.approx(max(sides))
    assert pair([*-a], [*-b], margin=margin).p_equivalent == pytest.approx(max(sides))


# verdicts


@pytest.mark.parametrize(("better", "verdict"), [("lower", "better"), ("higher", "worse"),
                                                 (None, None)])
def test_which_way_is_better_decides_what_a_difference_means(better: str, verdict: str) -> None:
    got = pair([1.0, 1.1, 0.9], [3.0, 3.1, 2.9], better)
    assert (got.verdict, got.basis) == (verdict, "means")
    assert got.p == pytest.approx(stats.ttest_ind([1, 1.1, 0.9], [3, 3.1, 2.9]).pvalue, rel=1e-6)
    assert pair([3.0, 3.1, 2.9], [1.0, 1.1, 0.9], better).verdict == (
        {"better": "worse", "worse": "better"}.get(verdict))
    assert pair([1.0, 2.0, 3.0], [1.1, 2.1, 2.9], better).verdict == (
        "inconclusive" if better else None)


def test_holm_takes_a_verdict_back_that_would_stand_alone() -> None:
    base, near = seeds(1.0, 2.0, 3.0), seeds(4.2, 5.0, 5.6)
    [alone] = compare({"b": base, "a": near}, "lower", "b")
    assert (alone.verdict, alone.p_adjusted) == ("worse", alone.p)
    many = {f"v{i}": seeds(1.0 + i / 9, 2.0, 3.0) for i in range(6)}
    found = compare({"b": base, "a": near, **many}, "lower", "b")
    assert (found[0].p, found[0].family) == (alone.p, 7)
    assert found[0].p_adjusted == pytest.approx(7 * alone.p)
    assert found[0].verdict == "inconclusive"
    assert f"({alone.p:.2g} alone)" in found[0].why


def test_all_pairs_are_each_pair_once_and_an_unknown_baseline_is_named() -> None:
    scores = {name: seeds(*RNG.normal(size=3)) for name in "abcd"}
    found = compare(scores, "lower")
    assert {frozenset((one.variant, one.against)) for one in found} == {
        frozenset(two) for two in itertools.combinations("abcd", 2)}
    assert all(one.family == 6 for one in found)
    with pytest.raises(UserError, match="no variant 'baze'; did you mean 'base'"):
        compare({"base": {}, "other": {}}, "lower", "baze")


def test_survivors_alone_win_nothing() -> None:
    """The better half of a variant whose other half diverged is no better variant."""
    base = [10.0, 10.2, 9.8, 10.1, 9.9, 10.3]
    got = pair([1.0, 1.1, 0.9, NAN, NAN, NAN], base)
    assert difference([1.0, 1.1, 0.9], base)[1] < 1e-4  # a test of survivors would be sure
    assert (got.verdict, got.basis, got.improvement.value) == ("inconclusive", "permutation", 0.5)
    assert "over the 3 runs against 6" in got.difference.note
    assert "3 of 6 and 0 of 6 runs diverged" in got.why
    assert pair([NAN] * 6, base).verdict == "worse"
    assert pair(base, [NAN] * 6).verdict == "better"
    # Five that win and one that is lost: better, but by ranks, and so said.
    most = pair([1.0, 1.1, 0.9, 1.2, 1.3, 0.8, 0.7, NAN], [*base, 10.4, 10.5])
    assert (most.verdict, most.improvement.value) == ("better", 7 / 8)
    assert "diverged and rank last" in most.why


def test_a_diverged_run_makes_no_mean_equivalent() -> None:
    a = [10.0, 10.01, 9.99, 10.0, 10.02] * 12
    assert pair(a, a[::-1], margin=PERCENT).verdict == "equivalent"
    got = pair([*a, NAN], [*a, NAN], margin=PERCENT)
    assert got.verdict == "inconclusive"
    assert got.why.endswith("no test of 5%: a run diverged")


def test_pairs_with_diverged_runs_go_by_signed_ranks() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, NAN, NAN, 7.0], [2.0, 2.5, 3.2, NAN, NAN, 5.0, 7.7]
    got = pair(a, b, paired=True)
    # Differences −1, −.5, −.2, −∞, 0, +∞, −.7: signed ranks of all, and a 0 that has none.
    signed = np.array([-5.0, -3, -2, -6.5, 0, 6.5, -4])
    assert got.permutation is not None
    assert got.p == got.permutation.p == pytest.approx(of_signs(signed).p)
    assert got.difference.value == pytest.approx(-0.6)  # of the four pairs without


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_a_paired_verdict_has_the_sign_of_the_signed_ranks(better: str) -> None:
    """The variant wins 11 of 12 pairs; but over all seeds, most of its runs lose to most others."""
    way = 1 if better == "lower" else -1
    b = [way * 10.0 * (seed + 1) for seed in range(12)]
    a = [score - way for score in b]
    a[0] = NAN
    got, turned = pair(a, b, better, paired=True), pair(b, a, better, paired=True)
    assert got.p == turned.p == pytest.approx(stats.wilcoxon([-1.0] * 11 + [2.0]).pvalue, abs=0.01)
    assert got.improvement.value < 0.5 < turned.improvement.value
    assert (got.verdict, turned.verdict) == ("better", "worse")
    assert (got.sign, turned.sign) == (-way, way)
    assert (got.signed_ranks, turned.signed_ranks) == ((66, 12), (12, 66))
    assert "signed ranks 66 for and 12 against, 1 of 12 and 0 of 12 runs diverged" in got.why
    assert "improvement" not in got.why


def test_a_permutation_test_speaks_for_the_side_on_which_its_statistic_lies() -> None:
    for n, m in ((2, 2), (3, 8), (9, 4), (20, 20)):
        a, b = RNG.normal(size=n), RNG.normal(3, 1, m)
        assert (of_splits(a, b).sign, of_splits(b, a).sign) == (-1, 1)
        assert (of_signs(b).sign, of_signs(-b).sign) == (1, -1)
    same = np.array([0.1, 0.2, 0.3])
    assert of_splits(same, same[::-1]).sign == of_signs(same - same).sign == 0
    # Nearly no split has a larger sum, and yet the sum is below its mean: neither direction.
    skewed = np.array([-1.0, -1.0]), np.array([*[-1.001] * 27, 300.0])
    got = of_splits(*skewed)
    assert got.p < 0.2
    assert got.sign == 0


def test_scores_without_any_spread_are_left_to_the_permutation_test() -> None:
    few, more = pair([8.0] * 3, [7.0] * 3, "higher"), pair([8.0] * 5, [7.0] * 5, "higher")
    assert (few.verdict, few.p, few.difference.value) == ("inconclusive", pytest.approx(0.1), 1)
    assert "reach no p below 0.1" in few.why
    assert few.difference.note == "no spread: no interval"
    assert (more.verdict, more.p) == ("better", pytest.approx(2 / 252))
    same = pair([0.3] * 5, [0.1 + 0.2] * 5)  # the same but for the last digit
    assert (same.p, same.verdict, same.improvement.value) == (1, "inconclusive", 0.5)
    shifted = pair([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], paired=True)
    assert (shifted.basis, shifted.p) == ("permutation", 0.25)


def test_unequal_numbers_of_runs_must_pass_both_tests() -> None:
    a, b = [1.0, 1.1], [3.0, 3.1, 2.9]
    got = pair(a, b)
    assert got.permutation is not None
    assert difference(a, b)[1] < 0.05 < got.p == got.permutation.p
    assert "reach no p below 0.2" in got.why
    enough = pair([1.0, 1.1, 1.2, 0.9], [3.0, 3.1, 2.9, 3.3, 2.8])
    assert enough.verdict == "better"


@pytest.mark.parametrize(("a", "b", "words"), [
    ([1.0], [2.0, 3.0], "fewer than two runs"), ([], [2.0, 3.0], "fewer than two runs"),
    ([1.0, 2.0], [], "fewer than two runs")])
def test_what_cannot_be_judged_says_why(a: list[float], b: list[float], words: str) -> None:
    got = pair(a, b, margin=PERCENT)
    assert (got.verdict, got.basis, got.family) == ("inconclusive", "none", 0)
    assert got.difference.note
    assert got.improvement.note
    assert words in got.sentence


def test_a_percentage_of_a_mean_that_may_be_0_is_no_margin() -> None:
    got = pair([0.001, -0.002, 0.001], [-0.001, 0.002, 0.0], margin=PERCENT)
    assert math.isnan(got.p_equivalent)
    assert got.why.endswith("no test of 5%: the mean of b may be 0")


def test_a_pair_that_scales_exactly_says_why_there_is_no_test_of_the_margin() -> None:
    b, near = [1.0, 1.5, 2.0], [1.0, 1.6, 1.9]
    variants = {"b": seeds(*b), "a": seeds(*(1.05 * score for score in b)), "c": seeds(*near)}
    got, other = compare(variants, "lower", "b", True, PERCENT)
    assert (got.variant, got.verdict) == ("a", "inconclusive")  # by Holm over both
    assert math.isnan(got.p_equivalent)
    assert got.why.endswith("no test of 5%: the paired differences to b ± 5% have no spread")
    assert (other.untested, 0 < other.p_equivalent < 1) == ("", True)


def test_where_no_direction_is_better_diverged_runs_have_no_place() -> None:
    got = pair([1.0, 2.0, NAN], [1.0, 2.0, 4.0], None)
    assert (got.basis, got.verdict) == ("none", None)
    assert got.improvement.note == "no direction is better"
    assert "they have no rank" in got.sentence


def test_verdicts_are_sentences() -> None:
    got = pair([1.0, 1.1, 0.9], [3.0, 3.1, 2.9])
    assert got.sentence == ("a is better than b: difference -2.00 [-2.23, -1.77], "
                            f"p = {got.p:.2g}")
    near = pair([1.0, 2.0, 3.0], [1.0, 2.0, 3.001])
    assert "difference -0.0 [-2.3, +2.3], p = 1" in near.sentence


# noise and time


def test_seed_noise_is_told_from_sampling_noise() -> None:
    scores = RNG.normal(0, 3, (400, 1)) + RNG.normal(0, 1, (400, 5))
    got = measure_noise({i: [*row] for i, row in enumerate(scores)})
    f = stats.f_oneway(*scores).statistic  # (within + 5 between) / within
    assert got.seed == pytest.approx(got.sampling * math.sqrt((f - 1) / 5))
    assert (got.seed, got.sampling) == pytest.approx((3, 1), rel=0.1)
    assert (got.runs, got.note) == (400, "")


def test_unequal_numbers_of_latent_sets_by_hand() -> None:
    # Means 1, 5, 7.5; within (2 + 0 + .5) / 3; between Σnᵢ(mᵢ − m)²/2, n₀ = (6 − (9 + 1 + 4)/6)/2.
    got = measure_noise({0: [0.0, 1.0, 2.0], 1: [5.0], 2: [7.0, 8.0], 3: [NAN]})
    within, centre = 2.5 / 3, 23 / 6
    square = (3 * (1 - centre) ** 2 + (5 - centre) ** 2 + 2 * (7.5 - centre) ** 2) / 2
    assert got.sampling == pytest.approx(math.sqrt(within))
    assert got.seed == pytest.approx(math.sqrt((square - within) / ((6 - 14 / 6) / 2)))
    assert (got.runs, got.note) == (3, "without 1 runs that have no finite score")


@pytest.mark.parametrize(("scores", "note"), [
    ({0: [1.0, 2.0]}, "fewer than two runs"), ({0: [1.0], 1: [2.0]}, "one set of latents"),
    ({0: [1.0, 9.0], 1: [2.0, 8.0]}, "set to 0"), ({}, "fewer than two runs")])
def test_noise_that_cannot_be_told_apart_says_so(scores: dict[int, list[float]], note: str) -> None:
    got = measure_noise(scores)
    assert note in got.note
    assert "set to 0" not in note or got.seed == 0


def test_time_to_quality_is_kaplan_and_meiers() -> None:
    for n in (5, 8, 20):
        times = RNG.permutation(np.arange(1, n + 1)) * 50.0
        there = RNG.random(n) < 0.8
        there[0] = True
        got = time_to_quality([t if ok else None for t, ok in zip(times, there, strict=True)],
                              [*times])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = SurvfuncRight(times, there.astype(int))
            low, _ = reference.quantile_ci(0.5, method="cloglog")
        down = reference.surv_times[reference.surv_prob <= 0.5 + 1e-12]
        assert got.median.low == pytest.approx(low)
        assert got.median.value == pytest.approx(down[0]) if len(down) else got.median.note
        heights = [1.0, *reference.surv_prob]
        edges = [0.0, *reference.surv_times, times.max()]
        assert got.mean == pytest.approx(np.dot(np.diff(edges), heights))
        assert (got.n, got.reached, got.horizon) == (n, there.sum(), times.max())


def test_a_run_that_diverged_never_gets_there() -> None:
    # Two got there at 100; two were cut off at 50 without it, or diverged at 50.
    cut = time_to_quality([100.0, 100.0, None, None], [500.0, 500.0, 50.0, 50.0])
    lost = time_to_quality([100.0, 100.0, None, None], [500.0, 500.0, math.inf, math.inf])
    assert (cut.median.value, cut.mean) == (100, 100)
    assert (lost.median.value, lost.mean) == (100, 300)
    assert lost.median.note == "no upper limit"
    worse = time_to_quality([100.0, None, None, None], [500.0, 500.0, math.inf, math.inf])
    assert math.isnan(worse.median.value)
    assert (worse.median.note, worse.mean) == ("1 of 4 runs reached it: fewer than half", 400)
    assert time_to_quality([None], [70.0]).median.note == "0 of 1 runs reached it"


def test_the_first_passing_is_a_measurement_at_least_as_good() -> None:
    steps, scores = [10, 20, 30, 40], [9.0, NAN, 5.0, 4.0]
    assert first_passing(steps, scores, 5.0, "lower") == 30
    assert first_passing(steps, scores, 4.5, "lower") == 40
    assert first_passing(steps, scores, 3.0, "lower") is None
    assert first_passing(steps, scores, 5.0 * (1 - 1e-13), "lower") == 30
    assert first_passing(steps, scores, 5.0 * (1 - 2e-11), "lower") == 40
    median = summarise_scores({0: 220.8114391234567, 1: 1.0, 2: 900.0}, "lower").median
    assert first_passing([1], [220.8114391234567], median, "lower") == 1
    assert first_passing(steps, scores, 5.0, "higher") == 10
    with pytest.raises(ValueError, match="no quality to reach"):
        first_passing(steps, scores, 5.0, None)


def test_an_estimate_without_a_number_always_says_why() -> None:
    assert Estimate(1.0, 0.0, 2.0).note == ""
    kinds: list[list[float]] = [[], [1.0], [NAN], [1.0, 1.0], [NAN, NAN], [1.0, NAN], A]
    for a, b in itertools.product(kinds, repeat=2):
        for better, paired in itertools.product(("lower", "higher", None), (False, True)):
            got = pair(a, b, better, paired, PERCENT)
            for estimate in (got.difference, got.improvement):
                assert estimate.note or not any(map(math.isnan, (
                    estimate.value, estimate.low, estimate.high)))
            assert got.why
            assert "nan" not in got.sentence
