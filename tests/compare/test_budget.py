"""The best of n draws against hand values, exact integers and the enumeration of every subset."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from gan_bench.compare.stats.search.budget import (
    best_quantile,
    best_survival,
    draws_for_interval,
    expected_best,
    interval_ranks,
    median_interval,
    none_chosen,
    percentile_of_default,
    rank_weights,
    selected_then_confirmed,
)
from gan_bench.compare.stats.search.budget_cost import best_by_cost
from gan_bench.compare.stats.search.budget_pairs import (
    budget_test,
    probability_better,
    probability_better_paired,
)
from gan_bench.compare.stats.summary import Reason, Values

INF, NAN = math.inf, math.nan
SAMPLES = {  # up to 8 draws, in no order
    "one": [3.0], "one diverged": [INF], "two": [2.0, 1.0], "all the same": [5.0] * 4,
    "distinct": [4.5, 1.0, 3.0, 2.0, 7.0, 0.5, 6.0, -1.0], "ties": [2.0, 1.0, 2.0, 1.0, 3.0, 2.0],
    "diverged": [INF, 4.0, 1.0, INF, 2.5, 1.0, 9.0, INF], "all diverged": [INF, INF, INF],
    "far apart": [1e30, 1.0, 1e-30, 5.0, 1e12]}
PAIRS = [*itertools.combinations_with_replacement(SAMPLES, 2)]


def subsets(scores: Sequence[float], n: int) -> Values:
    """Return every choice of n draws, (C(B, n), n)."""
    return np.array([*itertools.combinations(scores, n)])


def best_of(scores: Sequence[float], n: int) -> Values:
    return subsets(scores, n).min(axis=1)


def test_hand_values_of_the_best_of_n() -> None:
    """Of {1, 2, 3, 4}: pairs whose best is 1, 2, 3 are 3, 2, 1 of 6."""
    scores = [3.0, 1.0, 4.0, 2.0]
    assert rank_weights(4, 2) == pytest.approx([1 / 2, 1 / 3, 1 / 6, 0])
    assert expected_best(scores, 2) == pytest.approx(10 / 6)
    assert expected_best(scores, 1) == pytest.approx(2.5)
    assert expected_best(scores, 4) == 1
    assert best_survival(scores, 2, [0, 1, 1.5, 2, 3, 4]) == pytest.approx(
        [1, 1 / 2, 1 / 2, 1 / 6, 0, 0])
    assert [best_quantile(scores, 2, q) for q in (0.5, 0.51, 5 / 6, 0.84, 1)] == [1, 2, 2, 3, 3]


def test_hand_values_of_a_against_b() -> None:
    a, b = [1.0, 4.0], [3.0, 2.0]
    assert probability_better(a, b, 1, 1) == pytest.approx(0.5)
    assert probability_better(a, b, 2, 2) == pytest.approx(1)
    assert probability_better(a, b, 1, 2) == pytest.approx(0.5)  # 1 beats 2, 4 does not
    assert probability_better(b, a, 2, 2) == pytest.approx(0)
    # Over the same draw, 1 meets 3 and 4 meets 2; over both draws, 1 meets 2.
    assert probability_better_paired(a, b, 1) == pytest.approx(0.5)
    assert probability_better_paired(a, b, 2) == pytest.approx(1)
    assert probability_better_paired([1.0, 4.0], [2.0, 5.0], 1) == pytest.approx(1)
    assert probability_better([1.0, 4.0], [2.0, 5.0], 1, 1) == pytest.approx(0.75)


@pytest.mark.parametrize("draws", [1, 2, 7, 20, 100, 1_000])
def test_chances_are_those_of_exact_integers(draws: int) -> None:
    for n in sorted({1, 2, draws // 3, draws // 2, draws - 1, draws} & {*range(1, draws + 1)}):
        total = math.comb(draws, n)
        exact = [math.comb(draws - k, n) / total for k in range(draws + 1)]
        assert none_chosen(draws, n, np.arange(draws + 1)) == pytest.approx(exact, rel=1e-9)
        exact = [math.comb(draws - j, n - 1) / total for j in range(1, draws + 1)]
        assert rank_weights(draws, n) == pytest.approx(exact, rel=1e-9, abs=0)
        assert rank_weights(draws, n).sum() == pytest.approx(1)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_best_of_n_is_that_of_every_subset(name: str) -> None:
    scores = SAMPLES[name]
    for n in range(1, len(scores) + 1):
        best = best_of(scores, n)
        assert expected_best(scores, n) == pytest.approx(best.mean(), rel=1e-9)
        at = np.array([*scores, 0.0, 2.2, 1e300, INF])
        assert best_survival(scores, n, at) == pytest.approx((best[:, None] > at).mean(axis=0))
        for q in (0.01, 0.25, 0.5, 0.75, 0.9, 1.0):
            ordered = np.sort(best)
            assert best_quantile(scores, n, q) == ordered[math.ceil(q * len(best) - 1e-9) - 1]


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_confirmed_is_that_of_every_subset(name: str) -> None:
    """Of each subset the best is selected; of several equal ones, each as often."""
    select = np.array(SAMPLES[name])
    confirm = np.random.default_rng(0).normal(size=len(select))
    confirm[0] = INF  # it diverged when it was confirmed
    for n in range(1, len(select) + 1):
        got = []
        for chosen in itertools.combinations(range(len(select)), n):
            s, t = select[[*chosen]], confirm[[*chosen]]
            got.append(INF if np.isinf(s.min()) else t[s == s.min()].mean())
        assert selected_then_confirmed(select, confirm, n) == pytest.approx(np.mean(got))
        if np.isfinite(select).all():  # what selects, confirmed by itself, is the best
            assert selected_then_confirmed(select, select, n) == pytest.approx(
                expected_best(select, n))


def test_what_was_not_confirmed_is_unknown_only_where_it_may_be_selected() -> None:
    select, confirm = [3.0, 1.0, 2.0, INF], [NAN, 5.0, 7.0, NAN]
    assert math.isnan(selected_then_confirmed(select, confirm, 2))
    assert selected_then_confirmed(select, confirm, 4) == 5
    # Of 4 draws, 3 include the best in 3 of 4 cases, else the second.
    assert selected_then_confirmed(select, confirm, 3) == pytest.approx((3 * 5 + 7) / 4)
    assert selected_then_confirmed([1.0, INF], [5.0, NAN], 1) == INF  # half of the users have none


def test_optimism_is_the_luck_of_what_is_selected() -> None:
    """Draws that are all as good: what is selected is good by luck, and is confirmed as the mean.

    1,000 searches of 20 draws, of which 10 count, with normal seed noise of sd 1.
    """
    rng = np.random.default_rng(1)
    select, confirm = rng.normal(size=(2, 1_000, 20))
    got = np.array([[expected_best(s, 10), selected_then_confirmed(s, t, 10)]
                    for s, t in zip(select, confirm, strict=True)])
    error = got.std(axis=0, ddof=1) / math.sqrt(len(got))
    of_ten = stats.norm.expect(lambda x: x * 10 * stats.norm.sf(x) ** 9)  # -1.5388
    assert np.abs(got.mean(axis=0) - [of_ten, 0] < 4 * error).all()
    assert (error < 0.03).all()


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_a_against_b_is_that_of_every_pair_of_subsets(left: str, right: str) -> None:
    a, b = SAMPLES[left], SAMPLES[right]
    for n, m in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        of_a, of_b = best_of(a, n)[:, None], best_of(b, m)
        share = (of_a < of_b).mean() + (of_a == of_b).mean() / 2
        assert probability_better(a, b, n, m) == pytest.approx(share)
        assert probability_better(b, a, m, n) == pytest.approx(1 - share)


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_a_against_b_over_the_same_draws_is_that_of_every_subset(left: str, right: str) -> None:
    size = min(len(SAMPLES[left]), len(SAMPLES[right]))
    a, b = SAMPLES[left][:size], SAMPLES[right][-size:]
    for n in range(1, size + 1):
        of_a, of_b = best_of(a, n), best_of(b, n)
        share = (of_a < of_b).mean() + (of_a == of_b).mean() / 2
        assert probability_better_paired(a, b, n) == pytest.approx(share)
        assert probability_better_paired(b, a, n) == pytest.approx(1 - share)


def test_an_interval_exists_exactly_where_enough_draws_bound_it() -> None:
    """½^(B/n) ≤ 0.025, and so n ≤ B / 5.32."""
    limit = math.log2(40)
    for draws in (*range(1, 41), 100):
        exists = [n for n in range(1, draws + 1) if interval_ranks(draws, n)]
        assert exists == [n for n in range(1, draws + 1) if n <= draws / limit]
    assert [max(n for n in range(1, draws + 1) if interval_ranks(draws, n))
            for draws in (6, 20, 50, 100)] == [1, 3, 9, 18]
    for n in range(1, 20):
        assert interval_ranks(draws_for_interval(n), n)
        assert not interval_ranks(draws_for_interval(n) - 1, n)
    assert (draws_for_interval(1), draws_for_interval(1, 0.5)) == (6, 2)


@pytest.mark.parametrize(("draws", "ranks"), [(6, (1, 6)), (10, (2, 9)), (20, (6, 15)),
                                              (50, (18, 33)), (100, (40, 61))])
def test_at_one_draw_it_is_the_tabled_interval_of_a_median(draws: int, ranks: tuple[int, int],
                                                           ) -> None:
    """As in the tables of the sign test (Conover 1999, "Practical nonparametric statistics")."""
    assert interval_ranks(draws, 1) == ranks


def test_the_interval_is_of_draws_and_holds_the_estimate() -> None:
    rng = np.random.default_rng(2)
    for draws in (6, 11, 20, 50, 100):
        scores = rng.lognormal(size=draws)
        for n in range(1, int(draws / math.log2(40)) + 1):
            got = median_interval(scores, n)
            assert got is not None
            low, high = got
            assert {low, high} <= {*scores}
            assert low <= best_quantile(scores, n) <= high
            wider = median_interval(scores, n, 0.999)
            assert wider is None or (wider[0] <= low and high <= wider[1])
    assert median_interval([*range(20, 0, -1)], 1) == (6, 15)
    assert median_interval([1.0] * 5, 1) is None
    assert median_interval([3.0, 1.0, INF, INF, INF, INF], 1) == (1, INF)


def test_the_defaults_share_has_the_interval_of_clopper_and_pearson() -> None:
    """From the quantiles of the beta distribution."""
    got = percentile_of_default(2.5, [1.0, 2.0, 3.0, 4.0, INF, 5.0, 6.0, 7.0, 8.0, 9.0])
    assert (got.value, got.low, got.high) == pytest.approx(
        (0.8, stats.beta.ppf(0.025, 8, 3), stats.beta.ppf(0.975, 9, 2)))
    tied = percentile_of_default(INF, [1.0, INF, INF, 2.0])
    assert (tied.value, tied.low, tied.high) == pytest.approx(
        (0.25, 0, stats.beta.ppf(0.975, 3, 2)))
    best = percentile_of_default(0.0, [1.0] * 20)
    assert (best.value, best.low, best.high) == pytest.approx((1, 0.025 ** (1 / 20), 1))
    assert percentile_of_default(1.0, []).missing == Reason.NO_RUNS


@pytest.mark.parametrize("scores", [[1.0, NAN], [1.0, -INF]])
def test_a_score_that_is_missing_is_an_error(scores: list[float]) -> None:
    for call in (lambda: expected_best(scores, 1), lambda: best_survival(scores, 1, 0),
                 lambda: probability_better([1.0], scores, 1, 1),
                 lambda: selected_then_confirmed(scores, [1.0, 1.0], 1),
                 lambda: percentile_of_default(1.0, scores),
                 lambda: best_by_cost(scores, [1.0, 1.0], [1.0]),
                 lambda: budget_test(scores, [1.0, 2.0], [1], True)):
        with pytest.raises(ValueError, match="a draw's score is finite, or"):
            call()


@pytest.mark.parametrize("n", [0, 3])
def test_a_budget_beyond_the_draws_is_an_error(n: int) -> None:
    scores = [1.0, 2.0]
    for call in (lambda: expected_best(scores, n), lambda: best_quantile(scores, n),
                 lambda: median_interval(scores, n),
                 lambda: probability_better(scores, scores, 1, n),
                 lambda: probability_better_paired(scores, scores, n),
                 lambda: budget_test(scores, scores, [1, n], True)):
        with pytest.raises(ValueError, match=f"a budget of {n} draws out of 2"):
            call()


def test_what_cannot_be_computed_is_an_error() -> None:
    for q in (0.0, 1.1):
        with pytest.raises(ValueError, match="it is above 0 and at most 1"):
            best_quantile([1.0], 1, q)
    with pytest.raises(ValueError, match="2 draws were to be selected from, and 1 confirmed"):
        selected_then_confirmed([1.0, 2.0], [1.0], 1)
    for shared in (lambda: probability_better_paired([1.0, 2.0], [1.0], 1),
                   lambda: budget_test([1.0, 2.0], [1.0], [1], True)):
        with pytest.raises(ValueError, match="2 draws and 1 are not the same draws"):
            shared()
    with pytest.raises(ValueError, match="a budget of 0 draws"):
        budget_test([1.0], [1.0], [], False)
    for costs in ([1.0], [1.0, 0.0], [1.0, INF]):
        with pytest.raises(ValueError, match="each draw has a cost"):
            best_by_cost([1.0, 2.0], costs, [1.0])
    for budget in (-1.0, 3.1):
        with pytest.raises(ValueError, match="all draws together cost 3; a budget is from 0"):
            best_by_cost([1.0, 2.0], [1.0, 2.0], [budget])
